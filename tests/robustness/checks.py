"""The promises of the registry, as functions of a history: each returns a sentence for every breach.

A revision is a position in the bucket's log, so the log itself is the order of everything that took place, and what a
client was told has to be found in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise

from tests.robustness.history import Entry, History, Operation, Outcome

LOST = ("heartbeat_timeout", "no_responders", "disconnected", "probe_timeout")
"""Reasons that give up an agent which was not heard of."""

STATUS_AFTER = {"suspend": "suspended", "drain": "deregistering"}


def acknowledged_is_kept(history: History) -> list[str]:
    """Promise 1: what was acknowledged is in the log, at the revision that was named, and says what was asked for."""
    log = {entry.revision: entry for entry in history.log}
    breaches = []
    for operation in history.operations:
        if operation.outcome is Outcome.DONE and operation.revision:
            entry = log.get(operation.revision)
            if entry is None or entry.agent_id != operation.agent_id:
                breaches.append(f"{_told(operation)}, but the log has {entry} there")
            elif not _says(entry, operation):
                breaches.append(f"{_told(operation)}, but the log says {entry.record.get('status')}, {entry.change}")
    return breaches


def _says(entry: Entry, operation: Operation) -> bool:
    commands = entry.record.get("commands", [])
    if operation.remembered in commands[:-1]:
        return True  # sent again, and answered with what has become of the agent since
    if operation.name == "deregister":
        return entry.removed
    if entry.removed:
        return False
    if operation.name == "register":
        return bool(entry.record["incarnation"] == operation.answer["incarnation"])
    return operation.name not in STATUS_AFTER or entry.record["status"] == STATUS_AFTER[operation.name]


def each_command_takes_place_once(history: History) -> list[str]:
    """Promise 1: a command that was sent several times changed its agent once, however late a replica came upon it."""
    done: Counter[str] = Counter()
    before: dict[str, list[str]] = {}
    for entry in history.log:
        commands = entry.record.get("commands", [])
        if commands and commands != before.get(entry.agent_id):
            done[commands[-1]] += 1
        before[entry.agent_id] = commands
    return [f"{command} took place {count} times" for command, count in done.items() if count > 1]


def acknowledgements_are_in_order(history: History) -> list[str]:
    """Promise 1: an operation that began after another one on the same agent had ended comes after it in the log."""
    breaches = []
    for operations in _by_agent(history.operations).values():
        done = [one for one in operations if one.outcome is Outcome.DONE and one.revision]
        newest: Operation | None = None
        for one in sorted(done, key=lambda one: one.began):
            before = [other for other in done if other.ended <= one.began]
            newest = max(before, key=lambda other: other.revision, default=None)
            if newest is not None and newest.revision > one.revision:
                breaches.append(f"{_told(one)}, which began after: {_told(newest)}")
    return breaches


def nobody_is_denied(history: History) -> list[str]:
    """Promise 1: an agent whose registration was acknowledged is not said to be unknown while nobody took it out.

    A deregistration without an answer may take place at any later time, so it ends what can be said of its agent.
    """
    breaches = []
    for operations in _by_agent(history.operations).values():
        present = False
        for one in sorted(operations, key=lambda one: one.began):
            if one.outcome is Outcome.UNKNOWN and one.name == "deregister":
                break
            denied = one.code == "not_found" or one.answer.get("deregistered") is False
            if present and denied:
                breaches.append(f"{one.agent_id} was acknowledged, but {one.name} was told {one.answer}")
            if one.outcome is Outcome.DONE:
                present = one.name != "deregister"
    return breaches


def listings_are_of_their_revision(history: History) -> list[str]:
    """Promise 2: a listing shows an agent only if the log lets it take work at that revision or later, and shows every
    agent that could then and was not changed after."""
    by_agent = defaultdict(list)
    for entry in history.log:
        by_agent[entry.agent_id].append(entry)
    breaches = [
        f"revision {listing.asked} was asked for, {listing.revision} answered"
        for listing in history.listings
        if listing.revision < listing.asked
    ]
    for agent_id, entries in by_agent.items():
        revisions = [entry.revision for entry in entries]
        for listing in history.listings:
            newest = bisect_right(revisions, listing.revision)
            could = [entry.can_do(listing.capability) for entry in entries[max(0, newest - 1) :]]
            if agent_id in listing.agents and not any(could):
                breaches.append(f"{agent_id} is listed at {listing.revision}, but could take no work then or later")
            if agent_id not in listing.agents and newest and could == [True]:
                breaches.append(f"{agent_id} is not listed at {listing.revision}, but has been able to take work")
    return breaches


def each_change_is_one_event(history: History) -> list[str]:
    """Promise 3: each entry that changed something has one event, with what it says, and there are no others."""
    changes = {entry.revision: entry for entry in history.log if entry.change is not None}
    counts = Counter(event["revision"] for event in history.events)
    told = {event["revision"]: event for event in history.events}
    breaches = [f"{revision} was published {count} times" for revision, count in counts.items() if count > 1]
    breaches += [f"{revision} has no event: {changes[revision]}" for revision in changes if revision not in counts]
    breaches += [f"{revision} tells of nothing in the log" for revision in counts if revision not in changes]
    for revision, entry in changes.items():
        event = told.get(revision)
        if event is not None and (event["to"], event["removed"]) != (entry.record["status"], entry.removed):
            breaches.append(f"{revision} tells of {event['to']}, the log has {entry.record['status']}")
    return breaches


def events_are_in_order(history: History) -> list[str]:
    """Promise 3: an agent's events come in the log's order, and each names the one before."""
    breaches = []
    by_agent = defaultdict(list)
    for event in history.events:
        by_agent[event["agent_id"]].append(event)
    for agent_id, events in by_agent.items():
        for before, after in pairwise(events):
            if after["revision"] <= before["revision"]:
                breaches.append(f"{agent_id}: {after['revision']} came after {before['revision']}")
            follows = 0 if before["removed"] else before["revision"]
            if after["previous_revision"] != follows:
                breaches.append(f"{agent_id}: {after['revision']} names {after['previous_revision']}, not {follows}")
    return breaches


def the_living_are_not_buried(history: History) -> list[str]:
    """Promise 4: no agent that was heard of all the time is given up."""
    return [
        f"{entry.agent_id} became {entry.record['status']} at {entry.revision}: {entry.change['reason']}"
        for entry in history.log
        if entry.agent_id in history.beating and entry.change is not None and entry.change["reason"] in LOST
    ]


def a_claim_has_one_holder(history: History) -> list[str]:
    """Promise 5: from the acknowledgement of a claim until its agent lets it go, nobody else's is acknowledged."""
    by_agent = defaultdict(list)
    for entry in history.log:
        by_agent[entry.agent_id].append(entry)
    asked = {(operation.agent_id, operation.revision): operation for operation in history.operations}
    held: dict[str, list[tuple[int, int, Operation]]] = defaultdict(list)
    for operation in history.operations:
        if operation.outcome is Outcome.DONE and operation.revision:
            later = [entry for entry in by_agent[operation.agent_id] if entry.revision >= operation.revision]
            for claim in operation.claims:
                end = next((entry.revision for entry in later if not entry.claims(claim)), len(history.log) + 1)
                if end > operation.revision:  # else it was answered late, when the claim had been given up again
                    held[claim].append((operation.revision, end, operation))
    breaches = []
    for claim, times in held.items():
        times.sort(key=lambda time: time[0])
        for (_, until, first), (since, _, second) in pairwise(times):
            if since < until and first.agent_id != second.agent_id:
                let_go = asked.get((first.agent_id, until))
                if let_go is None or second.ended < let_go.began:  # else it was answered when the first had let go
                    breaches.append(f"{claim}: {_told(second)}, while {first.agent_id} held it until {until}")
    return breaches


def incarnations_grow(history: History) -> list[str]:
    """An id's incarnation never goes back, and a takeover makes it grow."""
    breaches = []
    newest: dict[str, int] = {}
    for entry in history.log:
        if entry.record:
            known, now = newest.get(entry.agent_id, 0), entry.record["incarnation"]
            took_over = entry.change is not None and entry.change["reason"] == "takeover"
            if now < known or (took_over and now == known):
                breaches.append(f"{entry.agent_id} is incarnation {now} at {entry.revision}, after {known}")
            newest[entry.agent_id] = now
    return breaches


def a_watch_ends_where_the_registry_is(history: History) -> list[str]:
    """A watch that ran through everything shows what a listing shows."""
    if history.watched is None or history.listed is None or history.watched == history.listed:
        return []
    missing, surplus = sorted(history.listed - history.watched), sorted(history.watched - history.listed)
    return [f"the watch lacks {missing[:10]} and has {surplus[:10]} too many"]


CHECKS: tuple[Callable[[History], list[str]], ...] = (
    acknowledged_is_kept,
    each_command_takes_place_once,
    acknowledgements_are_in_order,
    nobody_is_denied,
    listings_are_of_their_revision,
    each_change_is_one_event,
    events_are_in_order,
    the_living_are_not_buried,
    a_claim_has_one_holder,
    incarnations_grow,
    a_watch_ends_where_the_registry_is,
)


def breaches_of(history: History) -> list[str]:
    """Return every breach, with the name of the check that found it."""
    return [f"{check.__name__}: {breach}" for check in CHECKS for breach in check(history)]


def _by_agent(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    by_agent = defaultdict(list)
    for operation in operations:
        by_agent[operation.agent_id].append(operation)
    return by_agent


def _told(operation: Operation) -> str:
    return f"client {operation.client} was told that {operation.name} of {operation.agent_id} is {operation.revision}"
