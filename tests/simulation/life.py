"""One agent's life: when it runs, when it is cut off, how it ends. Instants and durations are virtual seconds."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from math import inf

HOST = 0.1
"""A host that lives closes the connection of a process that has ended within so long."""


class End(Enum):
    """How a life ends."""

    CRASHED = "crashed"
    """The process is gone; its host, if that lives, closes the connection."""
    HUNG = "hung"
    """The process is there and never runs again, as after SIGSTOP."""
    LEFT = "left"
    """It deregistered and ended."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A time in which an agent cannot be reached, nor reach anybody; it lives and works all the same.

    Attributes:
        begin: From when on nothing goes through.
        back: When its connection works again.
        closed: When the NATS server takes the connection for closed, so that nobody listens any more; not earlier than
            `back` if it never does.
        why: What the server says of the closing, where it tells.
    """

    begin: float
    back: float
    closed: float = inf
    why: str | None = "Stale Connection"

    @property
    def is_closed(self) -> bool:
        """Whether the client has to make a new connection, and so knows that it was away."""
        return self.closed < self.back


@dataclass(slots=True)
class Life:
    """What happens to one agent.

    Attributes:
        pauses: Begin and end of each time in which its event loop stands still, earliest first, none touching.
        cuts: Times in which it is cut off, earliest first.
        end: How it ends; None if it does not.
        ends: When it ends.
        closed: When the NATS server takes the connection of one that has ended for closed.
    """

    pauses: tuple[tuple[float, float], ...] = ()
    cuts: tuple[Cut, ...] = ()
    end: End | None = None
    ends: float = inf
    closed: float = inf

    def is_alive(self, at: float) -> bool:
        """Return whether it will go on by itself."""
        return at < self.ends

    def runs_from(self, at: float) -> float:
        """Return when it runs next; infinity if never."""
        if self.pauses:
            place = bisect_right(self.pauses, (at, inf)) - 1
            if place >= 0 and at < self.pauses[place][1]:
                at = self.pauses[place][1]
        return at if at < self.ends else inf

    def cut_at(self, at: float) -> Cut | None:
        """Return what cuts it off at an instant."""
        for cut in self.cuts:
            if cut.begin <= at < cut.back:
                return cut
        return None

    def is_listening(self, at: float) -> bool:
        """Return whether the NATS server believes that it is there."""
        cut = self.cut_at(at)
        return at < self.closed and (cut is None or at < cut.closed)

    def closings(self) -> list[tuple[float, str]]:
        """Return when the NATS server tells that its connection has ended, with the server's words."""
        told = [(cut.closed, cut.why) for cut in self.cuts if cut.is_closed and cut.why is not None]
        if self.closed < inf:
            told.append((self.closed, "Client Closed" if self.closed < self.ends + HOST else "Stale Connection"))
        return told
