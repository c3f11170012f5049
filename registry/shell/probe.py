"""Probing one agent, and saying how it ended."""

from __future__ import annotations

import asyncio
import contextlib

from registry.core.effects import Probe
from registry.core.events import Outcome, ProbeFinished
from registry.shell.bus_nats import Bus, Message, NobodyThereError
from registry.shell.clock import monotonic
from registry.shell.vitals import vitals_in


async def run(bus: Bus, effect: Probe) -> ProbeFinished:
    """Ask an agent how it is, and return what came back."""
    if effect.delay:
        await asyncio.sleep(effect.delay)
    health = load = None
    sent = monotonic()
    try:
        answer = await _ask(bus, effect)
        outcome = Outcome.ANSWERED
        health, load = vitals_in(answer.data)
    except NobodyThereError:
        outcome = Outcome.NO_RESPONDERS
    except TimeoutError:
        outcome = Outcome.TIMEOUT
    at = monotonic()
    return ProbeFinished(
        at,
        effect.agent_id,
        effect.incarnation,
        effect.purpose,
        outcome,
        effect.subject,
        at - sent,
        health_score=health,
        load_factor=load,
    )


async def _ask(bus: Bus, effect: Probe) -> Message:
    """Ask an agent, and once more if no answer comes; either answer will do.

    Raises:
        NobodyThereError: If nobody listens.
        TimeoutError: If no answer came in time.
    """
    asked = [asyncio.ensure_future(bus.request(effect.subject, b"", effect.timeout))]
    try:
        if effect.repeat_after is not None:
            await asyncio.wait(asked, timeout=effect.repeat_after)
            if not asked[0].done():
                left = effect.timeout - effect.repeat_after
                asked.append(asyncio.ensure_future(bus.request(effect.subject, b"", left)))
        for answered in asyncio.as_completed(asked):
            with contextlib.suppress(TimeoutError):  # the other one may still be answered
                return await answered
        raise TimeoutError
    finally:
        for request in asked:
            request.cancel()
            request.add_done_callback(_look_at)


def _look_at(request: asyncio.Future[Message]) -> None:
    """Take note of how a request ended that nobody waits for any more."""
    if not request.cancelled():
        request.exception()
