"""Running canaries: which are sent now, and what follows from how they ended."""

from __future__ import annotations

from registry.core.agent import Agent
from registry.core.canaries import UNJUDGED, Check
from registry.core.changes import assess
from registry.core.effects import Effect, RunCanary
from registry.core.events import CanaryFinished
from registry.core.health_subject import may_be_asked
from registry.core.limits import LATE
from registry.core.probing import hinted
from registry.core.state import RegistryState


def canaries_due(state: RegistryState, at: float) -> list[Effect]:
    """Run the canaries that are due."""
    effects: list[Effect] = []
    if not state.path.can_judge(at):
        return effects
    for check in state.canaries.due(at):
        if not may_be_asked(check.subject, state.prefix):  # anybody may have written the record
            check.due = at + check.period
        elif not _takes_work(state, state.agents[check.agent_id], at):
            check.due = at + UNJUDGED
        else:
            effects.append(_run(state, check, at))
    return effects


def _run(state: RegistryState, check: Check, at: float) -> Effect:
    declared = check.declared
    return RunCanary(
        check.agent_id,
        check.incarnation,
        check.capability,
        state.canaries.begin(check, at),
        check.subject,
        declared.get("payload", {}),
        declared.get("expect", {}),
        check.timeout + state.path.allowance,
    )


def _takes_work(state: RegistryState, agent: Agent, at: float) -> bool:
    """Return whether work is to be expected of an agent: it has not said that it is busy, nor was it found gone."""
    return state.leases.busy_until(agent) <= at and not agent.evidence.missed


def canary_finished(state: RegistryState, event: CanaryFinished) -> list[Effect]:
    """Draw the conclusion from a canary."""
    check, at = state.canaries.end(event.agent_id, event.capability, event.run), event.at
    if check is None or check.incarnation != event.incarnation:
        return []
    agent = state.agents[event.agent_id]
    if event.passed is None or not (event.passed or _is_to_blame(state, agent, check, at)):
        check.due = max(at + UNJUDGED, state.path.judges_from(at + LATE))
        state.canaries.schedule(check)
        return []
    effects: list[Effect] = []
    state.statistics.canaries_run += 1
    if event.passed:
        check.passed(at)
    else:
        state.statistics.canaries_failed += 1
        if check.failure is None:  # who is gone or hangs fails, too, and that is the better reason
            effects = hinted(state, agent, at)
        check.failed(at, state.wall(at), event.why)
    state.canaries.schedule(check)
    return effects + assess(state, agent, at)


def _is_to_blame(state: RegistryState, agent: Agent, check: Check, at: float) -> bool:
    """Return whether a canary that got no good answer says something of its agent: nothing else was wrong."""
    is_alone = not state.protection.suspects_the_way
    return is_alone and state.path.was_clear(check.started, at) and _takes_work(state, agent, at)
