"""Requests that wait for a free agent, first come first served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from registry.core.assignment_events import (
    AssignmentRequested,
)
from registry.core.errors import RefusedError
from registry.core.limits import MAX_WAITERS, MAX_WAITING
from registry.core.query import Query

Kind = tuple[object, ...]

MAX_KINDS_SERVED = 50
"""Kinds that are looked at in one turn, so that none takes long; the others come next."""


@dataclass(slots=True)
class Waiter:
    """A request that waits, and those for the same task that came after it."""

    request: AssignmentRequested
    deadline: float
    """Instant at which it is told that nobody was free."""
    kind: Kind
    """What it has in common with those that are served in turn with it."""
    also: list[AssignmentRequested] = field(default_factory=list)

    @property
    def requests(self) -> list[AssignmentRequested]:
        """All of them, the oldest first."""
        return [self.request, *self.also]


class Waiters:
    """The requests that wait, by their task, the oldest first.

    Those that want agents of the same kind are served in turn, however many slots they want: one that wants many would
    otherwise never be served. Those that want other agents do not wait for each other.
    """

    def __init__(self) -> None:
        self._waiters: dict[str, Waiter] = {}
        self._kinds: dict[Kind, dict[str, Waiter]] = {}
        """The same by what they want; the kinds looked at last stand at the end."""

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    def get(self, task_id: str) -> Waiter | None:
        """Return who waits for a task."""
        return self._waiters.get(task_id)

    def wants(self, query: Query) -> bool:
        """Return whether somebody waits for agents of the kind that a query asks for."""
        return bool(self._kinds) and kind_of(query) in self._kinds

    def serve(self, take: Callable[[Waiter], bool]) -> None:
        """Let everybody have what is free: of each kind the first, and the next one once that is served.

        Args:
            take: Gives a waiter what is free for it; returns whether anything was.
        """
        for kind in list(islice(self._kinds, MAX_KINDS_SERVED)):
            same = self._kinds[kind]
            while same and take(first := next(iter(same.values()))):
                self.end(first)
            if same:
                self._kinds[kind] = self._kinds.pop(kind)

    def add(self, request: AssignmentRequested) -> None:
        """Let a request wait.

        Raises:
            RefusedError: `overloaded` when too many wait already.
        """
        if len(self._waiters) >= MAX_WAITERS:
            raise RefusedError("overloaded", f"wait: {MAX_WAITERS} requests wait for an agent already; try again later")
        kind = kind_of(request.query)
        waiter = self._waiters[request.task_id] = Waiter(request, request.at + request.wait, kind)
        self._kinds.setdefault(kind, {})[request.task_id] = waiter

    def join(self, waiter: Waiter, request: AssignmentRequested) -> None:
        """Let a request wait with one for the same task, and no longer than that.

        Raises:
            RefusedError: `overloaded` when too many do already.
        """
        if len(waiter.also) >= MAX_WAITING:
            raise RefusedError("overloaded", f"task_id: {MAX_WAITING} requests wait for the same task; try again later")
        waiter.also.append(request)

    def end(self, waiter: Waiter) -> None:
        """Let it wait no longer."""
        del self._waiters[waiter.request.task_id]
        same = self._kinds[waiter.kind]
        del same[waiter.request.task_id]
        if not same:
            del self._kinds[waiter.kind]

    def end_all(self) -> list[AssignmentRequested]:
        """Let nobody wait any longer; return who did."""
        requests = [request for waiter in self._waiters.values() for request in waiter.requests]
        self._waiters.clear()
        self._kinds.clear()
        return requests


def kind_of(query: Query) -> Kind:
    """Return what the queries have in common that are served in turn."""
    return (*replace(query, slots=0).key(), query.exclude)
