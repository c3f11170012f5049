"""Rules, and what is told of them, on their way to the control bucket, and how each write ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from registry.core.conflict_events import RuleFound, RulePut, RuleUnknown, ViolationLost, ViolationPut
from registry.core.effects import PutRule, PutViolation
from registry.core.events import Event
from registry.shell.clock import monotonic
from registry.shell.control_keys import ControlKeys
from registry.shell.jetstream_nats import StoreError
from registry.shell.rules import RULE, VIOLATION, rule_in


class RuleKeys:
    """Performs the effects on rules and on what is told of them.

    Args:
        keys: The control bucket.
        dispatch: Takes the facts that come back.
    """

    def __init__(self, keys: ControlKeys, dispatch: Callable[[Event], Awaitable[None]]) -> None:
        self._keys = keys
        self._dispatch = dispatch

    async def put_rule(self, effect: PutRule) -> None:
        """Write a rule, or remove it; if that was not to be, read what stands there."""
        request = effect.request
        key, form = RULE + request.name, None if request.rule is None else request.rule.to_json()
        revision = await self._keys.put(key, form, effect.expected)
        if revision is not None:
            await self._dispatch(RulePut(monotonic(), request, revision))
            return
        try:
            entry = await self._keys.read(key)
        except StoreError as error:
            await self._dispatch(unfinished(effect, str(error)))
            return
        rule, readable = (None, True) if entry is None else rule_in(entry)
        revision = 0 if entry is None else entry.revision
        await self._dispatch(RuleFound(monotonic(), request, effect.attempts, rule, revision, readable))

    async def put_violation(self, effect: PutViolation) -> None:
        """Write what is told of a rule, or remove it."""
        form = None if effect.violation is None else effect.violation.to_json()
        revision = await self._keys.put(VIOLATION + effect.rule, form, effect.expected)
        if revision is None:
            await self._dispatch(unfinished(effect))
        else:
            await self._dispatch(ViolationPut(monotonic(), effect.rule, effect.violation, revision))


def unfinished(effect: PutRule | PutViolation, why: str = "") -> Event:
    """Return the fact that an effect did not come to its end, or nobody knows whether it did."""
    if isinstance(effect, PutRule):
        return RuleUnknown(monotonic(), effect.request, why)
    return ViolationLost(monotonic(), effect.rule)
