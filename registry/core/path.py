"""The way from agents to this replica: whoever is to be judged by silence must have been able to be heard.

A replica sends itself a *pulse* through NATS with each tick. What reached NATS before a pulse is delivered before it,
and the shell hands a pulse over only when all that was delivered before has been handled. So a pulse that was sent at
an instant and has come back says: everything until that instant is known here. A stall of this process, a NATS that
stands still, a connection that is dead but not closed, a queue that grew: all of them are pulses that do not come.
"""

from __future__ import annotations

from registry.core.errors import RefusedError
from registry.core.limits import LATE, LATE_PULSE, SETTLING
from registry.core.protection import LATENESS, OUTAGE

ALLOWANCE_HALF_LIFE = 10.0
"""Seconds in which half of what is allowed for an own delay is forgotten."""

MAX_ALLOWANCE = 10.0
"""Allowed at most, s: who stood still for an hour is not to wait an hour for each answer."""

RECONNECT_ALLOWANCE = 1.0
"""Allowed after each outage, s."""

TICK = 0.1
"""Seconds between two ticks, when all is well."""


class Path:
    """What is known of the way. Instants are monotonic seconds.

    Args:
        grace: Seconds after a connection was made within which somebody who is not there may be on his way back.
    """

    def __init__(self, grace: float) -> None:
        self.connected = False
        self.heard_to = 0.0
        """Everything that reached NATS until this instant has been handled here."""
        self.judged_to = 0.0
        """Silence until this instant counts."""
        self._grace = grace
        self._settled_at = 0.0
        self.back_at = 0.0
        """Until then, somebody who is not there may be on his way back."""
        self.lag = 0.0
        """Seconds that the last pulse was on its way."""
        self.late_ticks = 0
        """Ticks that came later than a late pulse would."""
        self.late_pulses = 0
        self.outages = 0
        self.allowance = 0.0
        """Seconds that are added to every time-out, for this replica itself was so late of late."""
        self._allowed_at = 0.0
        self.ticked_at: float | None = None
        """Instant of the last tick."""

    def connect(self, at: float) -> None:
        """NATS is there, for the first time or again; so are its other clients, a little earlier or later."""
        if self.back_at:
            self.outages += 1
            self._allow(at, RECONNECT_ALLOWANCE)
        self.connected = True
        self.heard_to = at
        self.back_at = at + self._grace

    def disconnect(self) -> None:
        """NATS is away."""
        self.connected = False

    def pulse(self, at: float, sent: float) -> None:
        """Take a pulse that was sent at one instant and came at another.

        One that was long on its way was held up somewhere, and what agents sent meanwhile is held up on their own ways:
        that is waited for before silence counts again.
        """
        self.heard_to = max(self.heard_to, sent)
        self.lag = at - sent
        self._allow(at, self.lag)
        if at - sent > LATE_PULSE:
            self.late_pulses += 1
            self._settled_at = at + SETTLING
        if at >= self._settled_at:
            self.judged_to = self.heard_to

    def tick(self, at: float) -> None:
        """Note that time passes; a tick that is late says that this process was."""
        if self.ticked_at is not None:
            late = at - self.ticked_at - TICK
            if late > LATE_PULSE:
                self.late_ticks += 1
                self._allow(at, late)
        self.ticked_at = at

    def _allow(self, at: float, delay: float) -> None:
        left: float = self.allowance * 0.5 ** ((at - self._allowed_at) / ALLOWANCE_HALF_LIFE)
        self.allowance, self._allowed_at = max(left, min(delay, MAX_ALLOWANCE)), at

    def hindrance(self, at: float) -> str | None:
        """Return what of this replica's own hinders it from judging who was heard of before; None if nothing does."""
        if at < self._settled_at or (self.connected and at - self.heard_to > LATE):
            return LATENESS
        return OUTAGE if self.outages and at < self.back_at else None

    def is_current(self, at: float) -> bool:
        """Return whether what arrives at an instant was sent a moment ago, and not before a standstill."""
        return self.connected and at - self.heard_to <= LATE

    def check_current(self, at: float) -> None:
        """Refuse to carry out what arrives at an instant and may have been sent before a standstill.

        Raises:
            RefusedError: `unavailable`.
        """
        if not self.is_current(at):
            late = "this replica was cut off or stood still, and is catching up; try again"
            raise RefusedError("unavailable", late)

    def can_judge(self, at: float) -> bool:
        """Return whether who does not answer at an instant is himself to blame."""
        return self.is_current(at) and at >= max(self.back_at, self._settled_at)

    def was_clear(self, since: float, at: float) -> bool:
        """Return whether who has not answered from one instant to another is himself to blame."""
        return self.can_judge(at) and self.judges_from(since) <= since

    def judges_from(self, at: float) -> float:
        """Return the instant from which, as far as is known, who does not answer is himself to blame."""
        return max(at, self.back_at, self._settled_at)
