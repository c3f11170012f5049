"""Rhythm: how regularly an agent beats, and how suspicious its silence is, long before its lease ends.

The phi accrual failure detector (Hayashibara et al., SRDS 2004): phi = -log10 of the probability that the next beat
comes even later, if the intervals between beats are normally distributed. Pekko's cluster takes phi 8 for a failure, a
window of 1000 and a least deviation of 0.1 s; here 8 is a suspicion of 1.0, and no verdict.
"""

from __future__ import annotations

from math import erfc, log10, sqrt

WINDOW = 200
"""Intervals that mean and deviation are about, the older the less."""

FIRST = 1.0
LAST = 8.0
"""Suspicion begins at the one phi, for one beat in ten is so late by chance, and is complete at the other."""

_FIRST_DEVIATIONS = 1.2816
"""Deviations after the mean at which phi is 1."""

MIN_DEVIATION = 0.1
"""Least standard deviation, as part of the interval and in seconds, whichever is more: a quarter of an hour of
perfect beats must not make a hiccup a failure."""

STEP = 0.05
"""Suspicion is known in steps of this."""


class Rhythm:
    """The intervals between an agent's beats, s."""

    __slots__ = ("_count", "_last", "_mean", "_variance")

    def __init__(self, interval: float) -> None:
        self._last: float | None = None
        self._count = 1
        self._mean = interval  # what it declared counts as one interval
        self._variance = (interval / 4) ** 2

    def beat(self, at: float) -> None:
        """Take a beat that came at an instant."""
        if self._last is not None:
            self._count = min(self._count + 1, WINDOW)
            difference = at - self._last - self._mean
            step = difference / self._count
            self._mean += step
            self._variance += (difference * (difference - step) - self._variance) / self._count
        self._last = at

    def pause(self) -> None:
        """The next interval says nothing of the agent: it was not, or could not be, heard in between."""
        self._last = None

    @property
    def deviation(self) -> float:
        """Standard deviation, s."""
        return max(sqrt(self._variance), MIN_DEVIATION * self._mean, MIN_DEVIATION)

    @property
    def quiet(self) -> float:
        """Seconds of silence after which suspicion begins."""
        return self._mean + _FIRST_DEVIATIONS * self.deviation

    def phi(self, silence: float) -> float:
        """Return phi after so many seconds of silence."""
        later = 0.5 * erfc((silence - self._mean) / self.deviation / sqrt(2.0))
        return -log10(later) if later > 1e-300 else 300.0

    def suspicion(self, silence: float) -> float:
        """Return how suspicious so many seconds of silence are, 0.0 to 1.0."""
        share = (self.phi(silence) - FIRST) / (LAST - FIRST)
        return round(round(min(1.0, max(0.0, share)) / STEP) * STEP, 2)
