"""Giving agents to tasks: what is asked for is decided on the ledger's view, and answered when it is durable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from registry.core.access import check_assigner, check_releaser
from registry.core.agent import Agent
from registry.core.assignment import RELEASED, Assignment, listed
from registry.core.assignment_events import (
    AssignmentRequested,
    AssignmentsQueried,
    ReleaseRequested,
)
from registry.core.changes import answer, refuse
from registry.core.choice import choose
from registry.core.effects import CommitAssignments, Effect
from registry.core.errors import RefusedError, invalid
from registry.core.ledger import Request, Step
from registry.core.limits import MAX_UNDECIDED, MAX_WAITING
from registry.core.query import Query
from registry.core.state import RegistryState
from registry.core.waiters import Waiter, kind_of

AGAIN = "try again with the same task_id"


def requested(state: RegistryState, event: Request) -> list[Effect]:
    """Decide a request for an assignment, or for the end of one."""
    try:
        _check_able(state, event.at)
        if state.ledger.undecided >= MAX_UNDECIDED:
            raise RefusedError("overloaded", f"{MAX_UNDECIDED} requests for assignments are under way; try again later")
        if isinstance(event, AssignmentRequested):
            event.task_id = event.task_id or state.new_id()
            state.check_capabilities(event.query.capabilities)
    except RefusedError as refused:
        return refuse(state, event.reply, refused)
    if state.ledger.learning:
        state.ledger.held.append(event)
        return []
    return decide(state, event, event.at) + go_on(state, event.at)


def queried(state: RegistryState, event: AssignmentsQueried) -> list[Effect]:
    """List the assignments that live."""
    try:
        _check_able(state, event.at)
    except RefusedError as refused:
        return refuse(state, event.reply, refused)
    found = [
        assignment
        for assignment in state.ledger.live.values()
        if event.agent_id in (None, assignment.agent_id) and event.task_id in (None, assignment.task_id)
    ]
    shown = [listed(assignment) for assignment in found[: event.limit]]
    return answer(event.reply, {"assignments": shown, "total": len(found)})


def _check_able(state: RegistryState, at: float) -> None:
    """Refuse what another leader may know better.

    Raises:
        RefusedError: `unavailable`.
    """
    state.path.check_current(at)
    if not (state.leading and state.sure):
        raise RefusedError("unavailable", "this replica is not sure to lead; try again")


def decide(state: RegistryState, request: Request, at: float) -> list[Effect]:
    """Decide a request on what is known now; what follows from it leaves with `go_on`."""
    try:
        if isinstance(request, AssignmentRequested):
            return _assign(state, request, at)
        return _release(state, request, at)
    except RefusedError as refused:
        return refuse(state, request.reply, refused)


def _assign(state: RegistryState, request: AssignmentRequested, at: float) -> list[Effect]:
    """Reserve slots of an agent for a task, unless it has some; or let the request wait.

    Raises:
        RefusedError: If it is refused.
    """
    known = state.ledger.of_task(request.task_id)
    if known is not None:
        check_assigner(known.identity, request.identity)
        return _renew(state, request, known, at) if request.renew else _repeat(state, request, known)
    if request.renew:
        message = f"no assignment of {request.task_id!r} lives"
        raise RefusedError("not_found", f"task_id: {message}", ("task_id", message))
    waiter = state.waiters.get(request.task_id)
    if waiter is not None:
        check_assigner(waiter.wanted.identity, request.identity)
    if not _is_passing(state, request) and _take(state, request, [] if waiter is None else waiter.requests, at):
        if waiter is not None:
            state.waiters.end(waiter)
        return []
    _check_size(state, request)
    if not request.wait:
        raise nobody_free(state, request)
    state.waiters.add(request)
    return []


def _is_passing(state: RegistryState, request: AssignmentRequested) -> bool:
    """Return whether a request would pass others that wait; one that is decided again was there before them."""
    return not request.attempts and state.waiters.wants(kind_of(request.query))


def _repeat(state: RegistryState, request: AssignmentRequested, known: Assignment) -> list[Effect]:
    """Answer with the assignment that the task has, or is about to have.

    Raises:
        RefusedError: `overloaded`, if too many wait for the answer.
    """
    step = state.ledger.step_of(known.assignment_id)
    if step is None:
        return granted(state, request, known)
    _join(step.then or step.requests, request)  # after one that ends it there may be another one
    return []


def _renew(state: RegistryState, request: AssignmentRequested, known: Assignment, at: float) -> list[Effect]:
    """Have an assignment live for longer; or less long.

    Raises:
        RefusedError: `overloaded`, if too many wait for the same assignment.
    """
    step = state.ledger.step_of(known.assignment_id)
    if step is None:
        renewed = known.renew(_expiry(state.wall(at), request))
        state.ledger.add(Step(renewed, [request], renews=True))
    else:
        _join(step.then, request)
    return []


def _expiry(now: float, request: AssignmentRequested) -> float:
    return round(now + request.ttl, 3)


def _join(requests: list[Request], request: Request) -> None:
    """Let a request wait with others for a step.

    Raises:
        RefusedError: `overloaded`, if too many do already.
    """
    if len(requests) >= MAX_WAITING:
        message = f"{MAX_WAITING} requests wait for the same assignment; try again later"
        raise RefusedError("overloaded", message)
    requests.append(request)


def _take(state: RegistryState, wanted: AssignmentRequested, others: list[AssignmentRequested], at: float) -> bool:
    """Reserve slots of a free agent for a task; return whether there was one.

    Args:
        state: The registry's state.
        wanted: What is wanted.
        others: Further requests for the same task.
        at: The instant now.
    """
    agent = choose(state.catalog, wanted.query, at, state.random)
    if agent is None:
        return False
    record, now = agent.record, state.wall(at)
    assignment = Assignment(
        state.new_id(), wanted.task_id, record.agent_id, record.incarnation, wanted.slots,
        now, _expiry(now, wanted), wanted.identity,
    )  # fmt: skip
    state.ledger.add(Step(assignment, [*others, wanted]))
    return True


def _everybody(query: Query) -> Query:
    """Return the query for all agents that may be given, free or not."""
    return replace(query, slots=0, max_load=1.0)


def _check_size(state: RegistryState, request: AssignmentRequested) -> None:
    """Refuse what no agent could ever take.

    Raises:
        RefusedError: `invalid_request`.
    """
    if request.slots == 1 or request.attempts:
        return
    limits = (agent.record.max_concurrency for agent in state.catalog.matching(_everybody(request.query)))
    largest = max((request.slots if limit is None else limit for limit in limits), default=request.slots)
    if largest < request.slots:
        message = f"must be at most {largest}, the most that an agent that matches has; got {request.slots}"
        raise invalid("slots", message)


def nobody_free(state: RegistryState, request: AssignmentRequested, is_explained: bool = True) -> RefusedError:
    """Return the refusal for want of an agent. That it names `wait` tells it from others of its code."""
    why = _why_nobody(state, request) if is_explained else "nobody is free; try again later, or with a longer wait"
    return RefusedError("unavailable", why, ("wait", f"nobody was free in {request.wait:g} s"))


def _why_nobody(state: RegistryState, request: AssignmentRequested) -> str:
    query, catalog = request.query, state.catalog
    matching = catalog.count(_everybody(query))
    if not matching:
        return "no agent matches; try again later, with a longer wait, or ask for less"
    full = matching - catalog.count(replace(query, max_load=1.0))
    loaded = matching - full - catalog.count(query)
    without = "without a free slot" if request.slots == 1 else f"with fewer than {request.slots} free slots"
    why = f"{matching} {'agent matches' if matching == 1 else 'agents match'}, {full} {without}"
    if loaded:
        why += f", {loaded} more have a load above {query.max_load:g}"
    if matching > full + loaded:
        why += ", and others wait for the rest"
    return f"nobody is free: {why}; try again later, or with a longer wait"


def granted(state: RegistryState, request: AssignmentRequested, assignment: Assignment) -> list[Effect]:
    """Answer a request with a durable assignment."""
    agent = state.agents.get(assignment.agent_id)
    if agent is None or agent.record.incarnation != assignment.incarnation:
        gone = f"{assignment.agent_id!r} was assigned, and is gone; {AGAIN}"
        return refuse(state, request.reply, RefusedError("unavailable", gone))
    return answer(request.reply, _granted(assignment, agent, request.at))


def _granted(assignment: Assignment, agent: Agent, at: float) -> dict[str, Any]:
    return {
        "assignment_id": assignment.assignment_id,
        "task_id": assignment.task_id,
        "agent": agent,
        "slots": assignment.slots,
        "fencing_token": assignment.token,
        "assigned_at": assignment.assigned_at,
        "expires_at": assignment.expires_at,
        "load_factor": agent.load,
        "load_age": None if agent.load_at is None else round(max(0.0, at - agent.load_at), 3),
    }


def _release(state: RegistryState, request: ReleaseRequested, at: float) -> list[Effect]:
    """End an assignment, if it lives; that of a task also if it is about to.

    Raises:
        RefusedError: `forbidden`, if it is another agent's or another identity's; `overloaded`, if too many wait for
            the same assignment.
    """
    ledger, named = state.ledger, "assignment_id"
    if request.assignment_id is not None:
        assignment = ledger.live.get(request.assignment_id)
    else:
        named, task_id = "task_id", request.task_id or ""
        waiter = state.waiters.get(task_id)
        if waiter is not None and request.agent_id is None:
            return _withdraw(state, request, waiter)
        assignment = ledger.of_task(task_id)
    if assignment is None:
        return released(request, request.assignment_id, done=False)
    check_releaser(assignment, state.agents.get(assignment.agent_id), request.agent_id, request.identity, named)
    step = ledger.step_of(assignment.assignment_id)
    if step is None:
        ledger.add(Step(assignment.end(RELEASED, state.wall(at), state.new_id()), [request]))
    else:
        _join(step.requests if step.ends else step.then, request)
    return []


def _withdraw(state: RegistryState, request: ReleaseRequested, waiter: Waiter) -> list[Effect]:
    """Let a task wait no longer.

    Raises:
        RefusedError: `forbidden`, if it is another identity's.
    """
    check_assigner(waiter.wanted.identity, request.identity)
    state.waiters.end(waiter)
    return give_up(state, waiter.requests, "the task was released meanwhile") + released(request, None, done=True)


def released(request: ReleaseRequested, assignment_id: str | None, done: bool) -> list[Effect]:
    """Answer whether a request has ended an assignment, or the waiting for one."""
    return answer(request.reply, {"assignment_id": assignment_id, "released": done})


def go_on(state: RegistryState, at: float) -> list[Effect]:
    """Give what is free to those who wait, and send the next commit if none is under way."""
    if not state.ledger.learning:
        state.waiters.notice(state.catalog)
        state.waiters.serve(lambda waiter: _take(state, waiter.wanted, waiter.others, at))
    commit = state.ledger.begin()
    if commit is None:
        return []
    return [CommitAssignments(commit.number, commit.expected, [step.assignment for step in commit.steps])]


def give_up(state: RegistryState, requests: Iterable[Request], why: str) -> list[Effect]:
    """Refuse requests whose outcome nobody knows, or that nobody here can decide any more."""
    effects: list[Effect] = []
    for request in requests:
        again = AGAIN if isinstance(request, AssignmentRequested) else "try again"
        effects += refuse(state, request.reply, RefusedError("unavailable", f"{why}; {again}"))
    return effects
