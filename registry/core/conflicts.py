"""What is told of conflicts: registrations that are refused, rules that agents begin to break, and no longer do.

Refusals are told of as they come, by the leader, to whom the other replicas pass theirs on; what gets lost on the way
is lost. That a rule is broken is a state. The leader looks at the rules whose agents moved, has what it finds written
to the control bucket, and publishes it when that is durable, under an id that the entry alone decides. So whoever leads
next knows what was told, tells nothing twice, and tells the end of what began before. The newest entries it publishes
once more, for its predecessor may have died in between: the stream drops what it has.
"""

from __future__ import annotations

from itertools import islice

from registry.core.clash import CLAIM, Clash
from registry.core.conflict_events import RefusalTold, ViolationChanged, ViolationLost, ViolationPut
from registry.core.effects import Effect, PublishConflict, PutViolation, TellLeader
from registry.core.record import EVENT_VERSION
from registry.core.rule import Rule, RuleKind
from registry.core.rules import Sides
from registry.core.state import RegistryState
from registry.core.violation import MAX_NAMED, Violation

LOOK = 1.0
"""Seconds between two looks at the rules: what is over sooner need not be told."""

RETOLD = 60.0
"""Seconds for which a new leader publishes again what was told before it; the stream knows the ids of two minutes."""


def refused(state: RegistryState, clash: Clash) -> list[Effect]:
    """Count a registration that was refused for a clash, and have it told if it is news."""
    refusals, at = state.refusals, state.path.ticked_at or 0.0
    refusals.counts[clash.kind] += 1
    if not refusals.is_news(clash, at):
        return []
    return [_refusal(state, clash, at)] if state.leading else [TellLeader(clash)]


def refusal_told(state: RegistryState, event: RefusalTold) -> list[Effect]:
    """Tell of what another replica has refused."""
    if not state.leading or not state.refusals.is_news(event.clash, event.at):
        return []
    return [_refusal(state, event.clash, event.at)]


def _refusal(state: RegistryState, clash: Clash, at: float) -> PublishConflict:
    agents = (clash.agent_id,) if clash.other is None else (clash.agent_id, clash.other)
    is_claim = clash.kind == CLAIM
    event = {
        "v": EVENT_VERSION,
        "event_id": f"refused:{state.new_id()}",
        "kind": clash.kind,
        "rule": None if is_claim else clash.name,
        "claim": clash.name if is_claim else None,
        "agents": agents,
        "total": len(agents),
        "refused": True,
        "resolved": False,
        "message": clash.message,
        "epoch": state.epoch,
        "at": state.wall(at),
    }
    return PublishConflict(event)


def begin(state: RegistryState, at: float) -> None:
    """Begin to lead: look at every rule, as soon as events can be published."""
    violations, rules = state.violations, state.catalog.rules
    violations.writing.clear()
    violations.untold = True
    violations.look_at = at + LOOK
    rules.moved.update(dict.fromkeys((*rules.own, *violations.told)))


def look(state: RegistryState, at: float) -> list[Effect]:
    """Look at the rules that moved, and have what is to be told of them written."""
    violations, rules = state.violations, state.catalog.rules
    if at < violations.look_at:
        return []
    violations.look_at = at + LOOK
    moved, rules.moved = rules.moved, {}
    effects = _retold(state, at)
    for name in moved:
        if name in violations.writing:
            rules.moved[name] = None
        elif (found := _found(state, name, at)) is not None:
            effects.append(_put(state, name, found))
    for name, told in violations.told.items():  # of a rule that is gone nothing stays
        is_over = name not in rules.own and not told.agents and not _is_recent(state, told, at)
        if is_over and name not in violations.writing:
            effects.append(_put(state, name, None))
    return effects


def _retold(state: RegistryState, at: float) -> list[Effect]:
    """Publish once, when this replica leads anew, what its predecessor may have left unpublished."""
    violations = state.violations
    if not violations.untold:
        return []
    violations.untold = False
    return [
        PublishConflict(told.to_event(name, violations.revision(name)))
        for name, told in violations.told.items()
        if _is_recent(state, told, at)
    ]


def _is_recent(state: RegistryState, violation: Violation, at: float) -> bool:
    return violation.at > state.wall(at) - RETOLD


def _put(state: RegistryState, name: str, violation: Violation | None) -> PutViolation:
    state.violations.writing.add(name)
    return PutViolation(name, violation, state.violations.revision(name))


def _found(state: RegistryState, name: str, at: float) -> Violation | None:
    """Return what is to be told of a rule; None if all of it was."""
    rules, told = state.catalog.rules, state.violations.told.get(name)
    rule, revision, now = rules.own.get(name), rules.revision(name), state.wall(at)
    if rule is None or not rules.is_broken(name):
        if told is None or not told.agents:
            return None
        over = f"rule {name!r} is broken by nobody any more" if rule is not None else f"rule {name!r} is gone"
        return Violation(told.kind, revision, (), 0, told.since, now, state.epoch, over)
    sides = rules.sides(name)
    goes_on = told is not None and told.rule_revision == revision and bool(told.agents)
    if told is not None and goes_on and (told.total > MAX_NAMED or _all_in(sides, told.agents)):
        return None
    since = told.since if told is not None and goes_on else now
    agents, total = named(sides), len({agent_id for members in sides for agent_id in members})
    return Violation(str(rule.kind), revision, agents, total, since, now, state.epoch, _in_words(rule, sides))


def _all_in(sides: Sides, known: tuple[str, ...]) -> bool:
    names = frozenset(known)
    return all(agent_id in names for members in sides for agent_id in members)


def named(sides: Sides) -> tuple[str, ...]:
    """Return who stands on some sides, or as many of each as there is room for."""
    each = MAX_NAMED // max(1, sum(map(bool, sides)))
    return tuple(sorted({agent_id for members in sides for agent_id in islice(members, each)}))


def _in_words(rule: Rule, sides: Sides) -> str:
    if rule.kind is RuleKind.COMBINATION:
        return f"rule {rule.name!r}: {_some(sides[0])} with {rule.what_of(0)} together"
    taken = (f"{rule.what_of(side)} run by {_some(members)}" for side, members in enumerate(sides) if members)
    return f"rule {rule.name!r}: {', '.join(taken)}"


def _some(members: dict[str, None]) -> str:
    shown = ", ".join(islice(members, 3))
    return shown if len(members) <= 3 else f"{shown} and {len(members) - 3} more"


def violation_put(state: RegistryState, event: ViolationPut) -> list[Effect]:
    """Publish what is durable now."""
    state.violations.writing.discard(event.rule)
    return _learnt(state, event.rule, event.violation, event.revision)


def violation_changed(state: RegistryState, event: ViolationChanged) -> list[Effect]:
    """Take an entry of the bucket's log. If it is news to a leader, its predecessor wrote it last, and may be gone."""
    return _learnt(state, event.rule, event.violation, event.revision)


def _learnt(state: RegistryState, rule: str, violation: Violation | None, revision: int) -> list[Effect]:
    if not state.violations.learn(rule, violation, revision) or violation is None or not state.leading:
        return []
    if not _is_recent(state, violation, state.path.ticked_at or 0.0):
        return []  # the bucket has gone back to an older state; the stream, which was told, no longer knows the id
    return [PublishConflict(violation.to_event(rule, revision))]


def violation_lost(state: RegistryState, event: ViolationLost) -> list[Effect]:
    """Look again: it lost against another write, or the outcome is unknown; the bucket's log will tell."""
    state.statistics.write_conflicts += 1
    state.violations.writing.discard(event.rule)
    state.catalog.rules.moved[event.rule] = None
    return []
