"""Requests that wait for a free agent, first come first served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from registry.core.assignment_events import (
    AssignmentRequested,
)
from registry.core.catalog import Catalog
from registry.core.errors import RefusedError
from registry.core.limits import MAX_WAITERS, MAX_WAITING
from registry.core.query import Query

Kind = tuple[object, ...]

MAX_KINDS_SERVED = 50
"""Kinds that are served in one turn, so that none takes long; the others come next."""


@dataclass(slots=True)
class Waiter:
    """A task whose requests wait."""

    wanted: AssignmentRequested
    """The one that came last, which says what is wanted."""
    requests: list[AssignmentRequested]
    """All that wait, the oldest first."""
    kind: Kind
    """What it has in common with those that are served in turn with it."""

    @property
    def others(self) -> list[AssignmentRequested]:
        """Those that wait beside the last one."""
        return [request for request in self.requests if request is not self.wanted]


class Waiters:
    """The requests that wait, by their task, the oldest first.

    Those that want agents of the same kind are served in turn, however many slots they want: one that wants many would
    otherwise never be served. Those that want other agents do not wait for each other.
    """

    def __init__(self) -> None:
        self._waiters: dict[str, Waiter] = {}
        self._kinds: dict[Kind, dict[str, Waiter]] = {}
        """The same by what they want."""
        self._hopeful: dict[Kind, None] = {}
        """Kinds that there may be somebody for."""
        self._noticed = 0
        """What moved in the catalog was noticed up to this position of its log."""

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    def get(self, task_id: str) -> Waiter | None:
        """Return who waits for a task."""
        return self._waiters.get(task_id)

    def wants(self, kind: Kind) -> bool:
        """Return whether somebody waits for agents of a kind."""
        return kind in self._kinds

    def notice(self, catalog: Catalog) -> None:
        """Find out who may be served, because of the agents that have moved since."""
        moved = catalog.moved_since(self._noticed) if self._kinds else []
        self._noticed = catalog.head
        for kind, same in self._kinds.items():
            if kind not in self._hopeful:
                query = next(iter(same.values())).wanted.query
                if moved is None or any(query.matches(a) for a in moved if a.agent_id not in query.exclude):
                    self._hopeful[kind] = None

    def serve(self, take: Callable[[Waiter], bool]) -> None:
        """Let everybody have what is free: of each kind the first, and the next one once that is served.

        Args:
            take: Gives a waiter what is free for it; returns whether anything was.
        """
        for kind in list(islice(self._hopeful, MAX_KINDS_SERVED)):
            same = self._kinds.get(kind, {})
            while same and take(first := next(iter(same.values()))):
                self.end(first)
            self._hopeful.pop(kind, None)

    def add(self, request: AssignmentRequested) -> None:
        """Let a request wait. Another one for the same task keeps its place, if it is of the same kind.

        Raises:
            RefusedError: `overloaded` when too many wait already.
        """
        task_id, kind = request.task_id, kind_of(request.query)
        waiter = self._waiters.get(task_id)
        if waiter is None:
            if len(self._waiters) >= MAX_WAITERS:
                message = f"{MAX_WAITERS} requests wait for an agent already; try again later"
                raise RefusedError("overloaded", f"wait: {message}")
            waiter = self._waiters[task_id] = Waiter(request, [], kind)
        elif len(waiter.requests) >= MAX_WAITING:
            raise RefusedError("overloaded", f"task_id: {MAX_WAITING} requests wait for the same task; try again later")
        else:
            self._hopeful[kind] = None  # it may want fewer slots than before
            if waiter.kind != kind:
                self._leave_line(waiter)
        waiter.wanted, waiter.kind = request, kind
        waiter.requests.append(request)
        self._kinds.setdefault(kind, {})[task_id] = waiter

    def expired(self, at: float) -> list[AssignmentRequested]:
        """Let those wait no longer whose time is over; return them."""
        found = []
        for waiter in list(self):
            over = [request for request in waiter.requests if request.deadline <= at]
            if len(over) == len(waiter.requests):
                self.end(waiter)
            elif over:
                waiter.requests = [request for request in waiter.requests if request.deadline > at]
            found += over
        return found

    def end(self, waiter: Waiter) -> None:
        """Let it wait no longer."""
        del self._waiters[waiter.wanted.task_id]
        self._leave_line(waiter)

    def _leave_line(self, waiter: Waiter) -> None:
        same = self._kinds[waiter.kind]
        del same[waiter.wanted.task_id]
        if same:
            self._hopeful[waiter.kind] = None  # who is first now may want fewer slots
        else:
            del self._kinds[waiter.kind]

    def end_all(self) -> list[AssignmentRequested]:
        """Let nobody wait any longer; return who did."""
        requests = [request for waiter in self._waiters.values() for request in waiter.requests]
        self._waiters.clear()
        self._kinds.clear()
        self._hopeful.clear()
        return requests


def kind_of(query: Query) -> Kind:
    """Return what the queries have in common that are served in turn."""
    return (*replace(query, slots=0).key(), query.exclude)
