"""Sending one canary, and saying how it ended."""

from __future__ import annotations

import orjson

from agents_sdk.protocol.canary import CANARY_HEADER
from agents_sdk.protocol.codec import MAX_PAYLOAD_BYTES
from agents_sdk.protocol.errors import MESSAGE_HEADER, STATUS_HEADER, OverloadedError
from registry.core.canaries import difference
from registry.core.effects import RunCanary
from registry.core.events import CanaryFinished
from registry.shell.bus_nats import Bus, Message, NobodyThereError
from registry.shell.clock import monotonic

HEADERS = {CANARY_HEADER: "1"}

BUSY = str(OverloadedError.status)
"""Error of an agent that has all the work it takes: that is no defect, and it will be asked again."""


async def run(bus: Bus, effect: RunCanary) -> CanaryFinished:
    """Send a canary, and return whether the answer is as it should be."""
    passed: bool | None = False
    try:
        answer = await bus.request(effect.subject, orjson.dumps(effect.payload), effect.timeout, HEADERS)
        passed, why = judged(answer, effect)
    except NobodyThereError:
        why = f"nobody listens on {effect.subject}"
    except TimeoutError:
        passed = False if bus.connected else None
        why = f"no answer on {effect.subject} within {round(effect.timeout, 2):g} s"
    return ended(effect, passed, why)


def ended(effect: RunCanary, passed: bool | None, why: str) -> CanaryFinished:
    """Return the fact that a canary has ended now."""
    return CanaryFinished(monotonic(), effect.agent_id, effect.incarnation, effect.capability, effect.run, passed, why)


def judged(answer: Message, effect: RunCanary) -> tuple[bool | None, str]:
    """Return whether an answer is as it should be, None if it says nothing, and why."""
    headers = answer.headers or {}
    code = headers.get(STATUS_HEADER)
    if code is not None:
        why = f"the answer is error {code}: {headers.get(MESSAGE_HEADER, '')}"
        return None if code == BUSY else False, why
    if len(answer.data) > MAX_PAYLOAD_BYTES:
        return False, f"the answer has {len(answer.data)} bytes; at most {MAX_PAYLOAD_BYTES} are read"
    try:
        found = orjson.loads(answer.data or b"{}")
    except orjson.JSONDecodeError:
        return False, "the answer is not JSON"
    why = difference(found, effect.expect) or ""
    return not why, why
