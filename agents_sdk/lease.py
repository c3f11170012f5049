"""An agent's lease at the registry: when to register, when to beat, when to give up.

Pure: facts and instants come in, orders come out, and chance comes in with the constructor.

A lease is *held* from the receipt of a registration on. A beat that is answered `not_found` means
that the registry knows the agent no more: it registers again, as the same instance. A beat that is
answered `stale_incarnation` means that another instance has taken its place: it ends. Unless that
instance is itself: it registered with a bucket, then with another one, and the first is back. Then it
registers again. All other troubles are weather: the next beat comes, however long they last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum

from agents_sdk.lease_facts import (
    Answered,
    Beat,
    Connected,
    Disconnected,
    Doubted,
    Drain,
    End,
    Fact,
    Failed,
    Granted,
    Leaving,
    Mistaken,
    Moved,
    Order,
    Refused,
    Register,
    Released,
    Tick,
)
from agents_sdk.protocol.errors import (
    InternalError,
    NotFoundError,
    OverloadedError,
    RegistryError,
    StaleIncarnationError,
    UnavailableError,
)
from agents_sdk.protocol.vocabulary import AgentStatus
from agents_sdk.retry import Backoff

JITTER = 0.1
"""Beats come up to this share of the interval early, so that agents that started together drift apart."""

FIRST_BEAT = 0.1
"""Share of the interval within which the first beat comes, at most `CATCH_UP` seconds."""

CATCH_UP = 1.0
"""Seconds within which an agent is heard of after an outage. Not at once: all of them are back at the same time."""

EARLY_GAP = 0.25
"""Seconds between two beats at least when they come early, because something changed."""

MISTAKEN_GAP = 10.0
"""Seconds after a registration that cleared up whose the newer incarnation is: the same again within them is no mistake
that another one would clear up, and it must not go on without end."""

RETRY_CEILING = 5.0
"""Seconds between two attempts to register at most."""

WEATHER = (UnavailableError, OverloadedError, InternalError)
"""What passes: it is tried again. Any other refusal of a registration is final."""


class State(StrEnum):
    """Where a lease is in its life."""

    UNREGISTERED = "unregistered"
    REGISTERING = "registering"
    HELD = "held"
    ENDED = "ended"


class Lease:
    """One agent's lease.

    Args:
        rng: Returns a number from 0.0 up to but without 1.0.
    """

    def __init__(self, rng: Callable[[], float]) -> None:
        self.state = State.UNREGISTERED
        self.incarnation = 0
        self.grant = 0
        """Counts the registrations of this process."""
        self._rng = rng
        self._backoff = Backoff(0.1, RETRY_CEILING, rng)
        self._connected = False
        self._leaving = False
        self._told_to_drain = False
        self._clears_up = False
        """Whether the next registration comes of a `Mistaken`."""
        self._cleared_up_at = -math.inf
        self._interval = math.inf
        self._seq = 0
        self._due = -math.inf
        self._beat_at = -math.inf
        self._granted_at: float | None = None
        self._counted_to = 0.0
        self._up = 0.0

    @property
    def due(self) -> float:
        """Instant of the next `Tick`; infinite while there is nothing to do but to wait for something else."""
        waits = self.state in (State.REGISTERING, State.ENDED) or not self._connected
        return math.inf if waits else self._due

    def uptime(self, now: float) -> float | None:
        """Return the percentage of time since the first registration in which it was registered and connected."""
        if self._granted_at is None:
            return None
        self._count(now)
        life = now - self._granted_at
        return 100.0 if life <= 0.0 else min(100.0, 100.0 * self._up / life)

    def handle(self, fact: Fact, now: float) -> list[Order]:
        """Take a fact, return orders.

        Args:
            fact: What happened.
            now: The instant, in seconds of any steady clock.
        """
        if self.state is State.ENDED:
            return []
        self._count(now)
        match fact:
            case Tick():
                return self._tick(now)
            case Granted():
                return self._granted(fact, now)
            case Refused():
                return self._refused(fact.error, now)
            case Answered():
                return self._answered(fact)
            case Failed():
                return self._failed(fact, now)
            case Mistaken():
                return self._mistaken(fact, now)
            case _:
                self._note(fact, now)
                return []

    def _note(self, fact: Connected | Disconnected | Moved | Doubted | Leaving | Released, now: float) -> None:
        match fact:
            case Connected():
                self._connected = True
                if self._granted_at is not None:
                    # What is overdue waits, too: everybody else is back at the same time.
                    self._due = math.inf
                    self._hurry(now, self._rng() * min(CATCH_UP, self._interval))
            case Disconnected():
                self._connected = False
            case Moved():
                if self.state is State.HELD:
                    self._hurry(now, 0.0)
            case Doubted():
                self._hurry(now, self._rng() * min(CATCH_UP, self._interval))
            case Leaving():
                self._leaving = True
                if self.state is State.UNREGISTERED:
                    self.state = State.ENDED
            case Released():
                self.state = State.ENDED

    def _tick(self, now: float) -> list[Order]:
        if now < self.due:
            return []
        if self.state is State.UNREGISTERED:
            self.state = State.REGISTERING
            return [Register()]
        self._beat_at = now
        self._due = now + self._interval * (1.0 - JITTER * self._rng())
        self._seq += 1
        return [Beat(self.grant, self.incarnation, self._seq)]

    def _granted(self, granted: Granted, now: float) -> list[Order]:
        self.state = State.HELD
        self.grant += 1
        self.incarnation = granted.incarnation
        # `seq` counts on: a registry that knows this incarnation drops what it takes for old.
        self._interval = granted.interval
        self._told_to_drain = False
        self._backoff.reset()
        if self._clears_up:
            self._clears_up, self._cleared_up_at = False, now
        self._beat_at = now
        self._due = now + self._rng() * min(CATCH_UP, FIRST_BEAT * granted.interval)
        if self._granted_at is None:
            self._granted_at = self._counted_to = now
        return []

    def _refused(self, error: RegistryError, now: float) -> list[Order]:
        if not isinstance(error, WEATHER):
            self.state = State.ENDED
            return [End(error)]
        if self._leaving:
            self.state = State.ENDED
            return []
        self.state = State.UNREGISTERED
        self._due = now + self._backoff.next()
        return []

    def _answered(self, answered: Answered) -> list[Order]:
        if answered.grant != self.grant or answered.status != AgentStatus.DEREGISTERING or self._told_to_drain:
            return []
        if answered.reserved:
            return []  # the registry waits for what was assigned to be done, and then gives the order
        # The order itself is a plain message and may have been lost.
        self._told_to_drain = True
        return [Drain()]

    def _failed(self, failed: Failed, now: float) -> list[Order]:
        if failed.grant != self.grant or self.state is not State.HELD:
            return []
        if isinstance(failed.error, StaleIncarnationError):
            self.state = State.ENDED
            return [End(failed.error)]
        if isinstance(failed.error, NotFoundError):
            self._lose(now)
        return []

    def _mistaken(self, mistaken: Mistaken, now: float) -> list[Order]:
        if mistaken.grant != self.grant or self.state is not State.HELD:
            return []
        if now - self._cleared_up_at < MISTAKEN_GAP:
            self.state = State.ENDED
            return [End(mistaken.error)]
        self._clears_up = True
        self._lose(now)
        return []

    def _lose(self, now: float) -> None:
        """Have it register again soon; not at once, for it is not the only one."""
        if self._leaving:
            self.state = State.ENDED
            return
        self.state = State.UNREGISTERED
        self._due = now + self._rng() * min(CATCH_UP, self._interval)

    def _hurry(self, now: float, wait: float) -> None:
        """Beat or register in `wait` seconds, but not within `EARLY_GAP` of the last beat, nor later than planned."""
        earliest = self._beat_at + EARLY_GAP if self.state is State.HELD else -math.inf
        self._due = min(self._due, max(now + wait, earliest))

    def _count(self, now: float) -> None:
        if self.state is State.HELD and self._connected:
            self._up += now - self._counted_to
        self._counted_to = now
