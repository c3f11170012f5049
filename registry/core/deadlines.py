"""Deadlines, at most one an agent, with renewals that cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

MIN_HEAP = 1024
"""A heap that is larger, and for the most part of what is watched no more, is made anew."""


class Deadlines:
    """A heap of instants by key. A deadline that moves later is not touched: it is looked at again when it comes up.

    Args:
        due_at: Says when a key is due now, or None when it has no deadline any more.
    """

    def __init__(self, due_at: Callable[[str], float | None]) -> None:
        self._due_at = due_at
        self._heap: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._queued)

    def __contains__(self, key: str) -> bool:
        return key in self._queued

    def watch(self, key: str) -> None:
        """Look at a key no later than when it is due now. Call when a deadline is new or has moved earlier."""
        due = self._due_at(key)
        if due is None:
            self._queued.pop(key, None)
            return
        queued = self._queued.get(key)
        if queued is None or due < queued:
            self._queued[key] = due
            heappush(self._heap, (due, key))
            if len(self._heap) > MIN_HEAP and len(self._heap) > 2 * len(self._queued):
                self._heap = [(at, key) for key, at in self._queued.items()]
                heapify(self._heap)

    def clear(self) -> None:
        """Watch nothing any more."""
        self._heap.clear()
        self._queued.clear()

    def due(self, now: float, limit: int) -> Iterator[str]:
        """Yield keys whose deadline has passed, earliest first, at most `limit`; they are then no longer watched."""
        while limit > 0 and self._heap and self._heap[0][0] <= now:
            at, key = heappop(self._heap)
            if self._queued.get(key) != at:
                continue  # superseded by an earlier entry, or no longer watched
            del self._queued[key]
            due = self._due_at(key)
            if due is None:
                continue
            if due > now:
                self._queued[key] = due
                heappush(self._heap, (due, key))
                continue
            limit -= 1
            yield key

    def validate(self) -> None:
        """Check that every watched key has its entry in the heap.

        Raises:
            AssertionError: If the two disagree.
        """
        entries = set(self._heap)
        for key, at in self._queued.items():
            assert (at, key) in entries, f"{key} is watched for {at} but not queued"
