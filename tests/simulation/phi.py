"""The phi accrual failure detector as Pekko's cluster has it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil, exp, inf, log10, sqrt

from tests.simulation.rule import Hearing, Judgement, Verdict

THRESHOLD = 8.0
WINDOW = 1000
MIN_DEVIATION = 0.1
"""Seconds."""
PAUSE = 3.0
"""Seconds, `acceptable-heartbeat-pause`: added to the mean."""
CHECK = 1.0
"""Seconds between two looks (`unreachable-nodes-reaper-interval`)."""


def phi(silence: float, mean: float, deviation: float) -> float:
    """Return how suspicious a silence is: -log10 of the chance that a beat comes even later.

    Pekko's logistic approximation of the normal distribution (`PhiAccrualFailureDetector.scala`); durations are
    seconds, and `mean` contains the acceptable pause.
    """
    y = (silence - mean) / deviation
    e = exp(-y * (1.5976 + 0.070566 * y * y))
    return -log10(e / (1.0 + e)) if silence > mean else -log10(1.0 - 1.0 / (1.0 + e))


def _deviations() -> float:
    """Return how many deviations after the mean phi reaches the threshold."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if phi(middle, 0.0, 1.0) < THRESHOLD else (low, middle)
    return high


DEVIATIONS = _deviations()


class History:
    """The last intervals between beats, s. Two entries a quarter off the expected interval stand at its beginning."""

    def __init__(self, interval: float) -> None:
        self._intervals = deque((interval * 0.75, interval * 1.25))
        self._sum = sum(self._intervals)
        self._squares = sum(value * value for value in self._intervals)

    def add(self, interval: float) -> None:
        """Take an interval."""
        if len(self._intervals) == WINDOW:
            oldest = self._intervals.popleft()
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._intervals.append(interval)
        self._sum += interval
        self._squares += interval * interval

    @property
    def limit(self) -> float:
        """Seconds of silence after which phi is at the threshold."""
        count = len(self._intervals)
        mean = self._sum / count
        deviation = sqrt(max(0.0, self._squares / count - mean * mean))
        return mean + PAUSE + DEVIATIONS * max(deviation, MIN_DEVIATION)


@dataclass(frozen=True, slots=True)
class PhiAccrual:
    """Unreachable is who reaches phi 8 when it is looked at; the next beat takes that back.

    Numbers: Pekko's `cluster.failure-detector` (`reference.conf:192-225`): beats each second, threshold 8, 1000
    intervals, least deviation 100 ms, acceptable pause 3 s. Pekko's split brain resolver then waits 20 s until it downs
    anybody; that is not counted.
    """

    name: str = "Pekko phi 8"
    interval: float = 1.0
    is_eager: bool = False

    def judge(self, hearing: Hearing) -> Judgement:
        """Judge."""
        dead: list[Verdict] = []
        for agent, heard in enumerate(hearing.heard):
            dead += self._judge(hearing, agent, heard)
        return Judgement(dead)

    def _judge(self, hearing: Hearing, agent: int, heard: list[float]) -> list[Verdict]:
        dead: list[Verdict] = []
        over = min(hearing.left(agent), hearing.trace.duration)
        history, last = History(self.interval), 0.0
        for at in (*heard, inf):
            gap = at - last
            if gap > PAUSE and gap > (limit := history.limit):
                looked = hearing.trace.awake(ceil(hearing.due(last, limit) / CHECK) * CHECK)
                if looked < min(at, over):
                    dead.append(Verdict(agent, looked, at))
            else:
                history.add(gap)
            last = at
        return dead
