"""Rules as others see them: changes, answered when durable; and the report of who breaks which."""

from __future__ import annotations

from typing import Any

from registry.core.changes import answer, refuse
from registry.core.conflict_events import RuleChanged, RuleFound, RulePut, RuleRequested, RuleUnknown
from registry.core.conflicts import named
from registry.core.effects import Effect, PutRule
from registry.core.errors import RefusedError
from registry.core.limits import MAX_ATTEMPTS
from registry.core.rule import MAX_RULES, Rule
from registry.core.state import RegistryState


def rule_requested(state: RegistryState, event: RuleRequested) -> list[Effect]:
    """Check a change of a rule, and have it written."""
    try:
        state.path.check_current(event.at)
        if event.rule is not None:
            event.rule.check()
            state.check_capabilities(event.rule.capabilities)
            state.check_capabilities(() if event.rule.capability is None else (event.rule.capability,), "capability")
        return _decide(state, event, attempts=1)
    except RefusedError as refused:
        return refuse(state, event.reply, refused)


def _decide(state: RegistryState, request: RuleRequested, attempts: int) -> list[Effect]:
    """Have a rule written in the place of the one that is known now.

    Raises:
        RefusedError: `conflict`, if another one is there than was expected, or there are too many.
    """
    rules, name = state.catalog.rules, request.name
    if rules.is_already(name, request.rule):
        return answer(request.reply, rules_report(state, name))
    revision = rules.revision(name) if rules.is_there(name) else 0
    if request.revision not in (None, revision):
        message = f"the rule {name!r} has {revision}, not {request.revision}; look at it again"
        raise RefusedError("conflict", f"revision: {message}", ("revision", message))
    if request.rule is not None and not rules.is_there(name) and len(rules.own) >= MAX_RULES:
        message = f"there are {MAX_RULES} rules already; remove one first"
        raise RefusedError("conflict", f"name: {message}", ("name", message))
    return [PutRule(request, rules.revision(name), attempts)]


def rule_put(state: RegistryState, event: RulePut) -> list[Effect]:
    """Apply a change that is durable, and answer it."""
    _learn(state, event.request.name, event.request.rule, event.revision)
    return answer(event.request.reply, rules_report(state, event.request.name))


def rule_found(state: RegistryState, event: RuleFound) -> list[Effect]:
    """Learn what stands there after a write that lost or whose outcome was unknown; decide the change anew."""
    request = event.request
    _learn(state, request.name, event.rule, event.revision, event.readable)
    try:
        if event.attempts >= MAX_ATTEMPTS:
            message = f"the rule {request.name!r} is being changed by others; try again"
            raise RefusedError("unavailable", f"name: {message}", ("name", message))
        return _decide(state, request, event.attempts + 1)
    except RefusedError as refused:
        return refuse(state, request.reply, refused)


def rule_unknown(state: RegistryState, event: RuleUnknown) -> list[Effect]:
    """Give up on a change whose outcome cannot be learnt now; the bucket's log will tell."""
    unknown = f"{event.why}; whether the rule was changed is unknown, try again"
    return refuse(state, event.request.reply, RefusedError("unavailable", unknown))


def rule_changed(state: RegistryState, event: RuleChanged) -> list[Effect]:
    """Take an entry of the bucket's log, unless it is known already."""
    _learn(state, event.name, event.rule, event.revision, event.readable)
    return []


def _learn(state: RegistryState, name: str, rule: Rule | None, revision: int, readable: bool = True) -> None:
    state.catalog.learn(name, rule, revision, readable)


def rules_report(state: RegistryState, name: str | None) -> dict[str, Any]:
    """Return one rule, or all, with who breaks them now."""
    rules = state.catalog.rules
    names = sorted(rules.own) if name is None else [name] if name in rules.own else []
    unreadable = sorted(rules.unreadable) if name is None else [name] if name in rules.unreadable else []
    return {"rules": [_report(state, each) for each in names], "unreadable": unreadable}


def _report(state: RegistryState, name: str) -> dict[str, Any]:
    rules, violation = state.catalog.rules, None
    if rules.is_broken(name):
        sides, told = rules.sides(name), state.violations.told.get(name)
        since = None if told is None or not told.agents else told.since
        total = len({agent_id for members in sides for agent_id in members})
        violation = {"agents": named(sides), "total": total, "since": since}
    return {**rules.own[name].to_wire(), "revision": rules.revision(name), "violation": violation}
