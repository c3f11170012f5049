"""What becomes of assignments: commits end, the log tells of others, time passes, agents go."""

from __future__ import annotations

from collections.abc import Iterable

from registry.core.agent import Agent
from registry.core.assigning import decide, give_up, go_on, granted, nobody_free, released
from registry.core.assignment import DEREGISTERED, EXPIRED, RELEASED, TAKEOVER, Assignment
from registry.core.assignment_events import (
    AssignmentChanged,
    AssignmentRequested,
    AssignmentsCommitted,
    AssignmentsLearnt,
    AssignmentsListed,
    AssignmentsReplaced,
    AssignmentsUncertain,
)
from registry.core.changes import refuse
from registry.core.effects import Effect, LearnAssignments
from registry.core.ledger import Request, Step
from registry.core.limits import MAX_ATTEMPTS, MAX_EXPIRIES, MISSING_GRACE
from registry.core.state import RegistryState
from registry.core.status import Status

MAX_EXPLAINED = 10
"""Requests that are told in one tick why nobody was free; many that want different agents would take long."""

UNKNOWN = "whether the change took place is unknown"
NO_LEADER = "this replica leads no more"


def committed(state: RegistryState, event: AssignmentsCommitted) -> list[Effect]:
    """Answer what is durable, and send what was decided meanwhile."""
    commit = state.ledger.underway
    if commit is None or commit.number != event.number:
        return []  # it was given up; the log tells
    effects: list[Effect] = []
    for step in state.ledger.committed(event.revision):
        effects += _answers(state, step, event.at)
    if state.ledger.pending and state.ledger.revision > event.revision:
        return [*effects, LearnAssignments(state.ledger.learn())]  # what is pending was decided on less than is there
    return effects + go_on(state, event.at)


def _answers(state: RegistryState, step: Step, at: float) -> list[Effect]:
    """Answer the requests of a step that is durable; of those that end an assignment, the first has ended it."""
    effects: list[Effect] = []
    ended = step.assignment.ended
    state.statistics.assignments += ended is None and not step.renews
    for number, request in enumerate(step.requests):
        if isinstance(request, AssignmentRequested):
            effects += granted(state, request, step.assignment)
        else:
            done = ended is not None and ended.reason == RELEASED and number == 0
            effects += released(request, step.assignment.assignment_id, done)
    for request in step.then:
        effects += decide(state, request, at)
    return effects


def uncertain(state: RegistryState, event: AssignmentsUncertain) -> list[Effect]:
    """Learn what the log has after a commit that lost, or whose outcome is unknown."""
    commit = state.ledger.underway
    if commit is None or commit.number != event.number:
        return []
    state.statistics.write_conflicts += 1
    return [LearnAssignments(state.ledger.learn())]


def learnt(state: RegistryState, event: AssignmentsLearnt) -> list[Effect]:
    """Decide everything again on what the log has; if that cannot be learnt, nothing is decided until it can."""
    ledger = state.ledger
    if event.number != ledger.learning:
        return []
    steps, held = ledger.take_back(), ledger.learnt(event.revision or 0)
    if event.revision is None:
        ledger.watch()
        _doubt_all(state, event.at)
        why = f"the log of assignments cannot be read now; {UNKNOWN}"
        effects = give_up(state, [*_requests(steps), *held], why)
        return [*effects, LearnAssignments(ledger.learn())] if state.leading else effects
    effects = []
    for step in steps:
        effects += _again(state, step, event.at)
    for request in held:
        effects += decide(state, request, event.at)
    return effects + go_on(state, event.at)


def _again(state: RegistryState, step: Step, at: float) -> list[Effect]:
    """Decide a step again that is not known to have taken place."""
    if step.landed:
        return _answers(state, step, at)
    # If it is to end by itself, that shows with the next tick.
    state.ledger.deadlines.watch(step.assignment.assignment_id)
    state.doubt(step.assignment.agent_id, at)
    effects: list[Effect] = []
    for request in [*step.requests, *step.then]:
        request.attempts += 1
        if request.attempts < MAX_ATTEMPTS:
            effects += decide(state, request, at)
        else:
            effects += give_up(state, [request], f"assignments are being changed by others; {UNKNOWN}")
    return effects


def changed(state: RegistryState, event: AssignmentChanged) -> list[Effect]:
    """Take an entry of the log, unless it is known."""
    ledger, assignment = state.ledger, event.assignment
    is_ours = ledger.step_of(event.assignment_id) is not None
    if not ledger.heard(event.assignment_id, assignment, event.revision) or assignment is None or is_ours:
        return []
    state.doubt(assignment.agent_id, event.at)  # whoever made it may not have known what became of its agent
    return _found(state, assignment, event.at) if assignment.ended is None else []


def _found(state: RegistryState, assignment: Assignment, at: float) -> list[Effect]:
    """Answer who waits for an assignment that somebody else has made, or that was thought to be lost."""
    waiter = state.waiters.get(assignment.task_id)
    if waiter is None:
        return []
    state.waiters.end(waiter)
    if state.ledger.learning:
        state.ledger.held += waiter.requests
        return []
    effects: list[Effect] = []
    for request in waiter.requests:
        effects += decide(state, request, at)
    return effects


def replaced(state: RegistryState, _: AssignmentsReplaced) -> list[Effect]:
    """Forget every assignment: the bucket before held them."""
    effects = give_up(state, _requests(state.ledger.begin_anew()), f"the bucket of assignments is gone; {UNKNOWN}")
    if state.leading:
        effects.append(LearnAssignments(state.ledger.learn()))
    return effects


def entries_listed(state: RegistryState, event: AssignmentsListed) -> list[Effect]:
    """Forget which assignments are not in the bucket any more, unless they are newer than what was looked at."""
    live = state.ledger.live
    for assignment_id in [key for key, known in live.items() if known.token <= event.revision]:
        if assignment_id not in event.assignment_ids:
            state.ledger.forget(assignment_id)
    return []


def lead(state: RegistryState, at: float) -> list[Effect]:
    """Begin to assign, once the log is known; and look at what became of agents while nobody led."""
    state.ledger.watch()
    state.ledger.doubtful.clear()
    _doubt_all(state, at)
    return [LearnAssignments(state.ledger.learn())]


def follow(state: RegistryState) -> list[Effect]:
    """Assign no longer."""
    ledger = state.ledger
    unknown, undecided = _requests(ledger.take_back()), [*ledger.held, *state.waiters.end_all()]
    ledger.held, ledger.learning = [], 0
    ledger.doubtful.clear()
    effects = give_up(state, unknown, f"{NO_LEADER}; {UNKNOWN}")
    return effects + give_up(state, undecided, NO_LEADER)


def _requests(steps: Iterable[Step]) -> list[Request]:
    return [request for step in steps for request in [*step.requests, *step.then]]


def _doubt_all(state: RegistryState, at: float) -> None:
    for agent_id in state.ledger.holders():
        state.doubt(agent_id, at)


def due(state: RegistryState, at: float) -> list[Effect]:
    """End what has expired, and what agents have that are gone; tell who has waited long enough."""
    ledger = state.ledger
    effects: list[Effect] = []
    for number, request in enumerate(state.waiters.expired(at)):
        effects += refuse(state, request.reply, nobody_free(state, request, is_explained=number < MAX_EXPLAINED))
    if ledger.learning:
        return effects
    for assignment_id in list(ledger.deadlines.due(at, MAX_EXPIRIES)):
        if ledger.step_of(assignment_id) is None:  # else it is looked at once that is durable: it may live longer then
            _end(state, ledger.live[assignment_id], EXPIRED, at)
    for agent_id, since in list(ledger.doubtful.items()):
        if not _settle(state, agent_id, since, at):
            ledger.doubtful[agent_id] = since or at
        else:
            del ledger.doubtful[agent_id]
    return effects + go_on(state, at)


def _settle(state: RegistryState, agent_id: str, since: float, at: float) -> bool:
    """End the assignments that an agent cannot have any more; return whether nothing is left to be seen."""
    settled = True
    for assignment in state.ledger.of_agent(agent_id):
        reason = _why_over(state, assignment, overdue=bool(since) and at - since > MISSING_GRACE)
        if reason:
            if assignment.assignment_id in state.ledger.live:
                _end(state, state.ledger.live[assignment.assignment_id], reason, at)
            else:
                settled = False  # it has yet to become durable
        settled = settled and reason is not None
    return settled


def _why_over(state: RegistryState, assignment: Assignment, overdue: bool) -> str | None:
    """Return why an assignment is over: "" if it is not, None if that cannot be told yet.

    The two logs are followed apart: what the one says of an agent may come later than what the other says of its
    assignments.
    """
    agent: Agent | None = state.agents.get(assignment.agent_id)
    if agent is None:
        removal = state.removed.get(assignment.agent_id)
        if removal is not None and removal.incarnation >= assignment.incarnation:
            return removal.reason
        return DEREGISTERED if overdue else None
    if agent.record.incarnation > assignment.incarnation:
        return TAKEOVER
    if agent.record.incarnation < assignment.incarnation:
        return DEREGISTERED if overdue else None
    return agent.record.status_reason if agent.status is Status.OFFLINE else ""


def _end(state: RegistryState, assignment: Assignment, reason: str, at: float) -> None:
    step = state.ledger.step_of(assignment.assignment_id)
    if step is None or not step.ends:
        state.ledger.add(Step(assignment.end(reason, state.wall(at), state.new_id())))
