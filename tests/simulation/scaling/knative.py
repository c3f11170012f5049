"""Knative's pod autoscaler (KPA) on concurrency.

knative.dev "Additional autoscaling configuration for Knative Pod Autoscaler"; defaults of
`config/core/configmaps/autoscaler.yaml`; what the words leave open is as in `pkg/autoscaler/scaling/autoscaler.go`.
It scrapes pods each second; here it has the reports that all have, and what waits, as its activator tells it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import floor

from tests.simulation.scaling.hpa import whole
from tests.simulation.scaling.rule import Order, Scaler, Seen
from tests.simulation.scaling.setting import MAX_AGENTS, MIN_AGENTS, SLOTS, TARGET
from tests.simulation.scaling.trace import Trace

TICK = 2.0
"""Seconds between two looks (`tick-interval`)."""

STABLE_WINDOW = 60.0
"""Seconds over which concurrency is averaged (`stable-window`)."""

PANIC_WINDOW = 6.0
"""The same in a panic (`panic-window-percentage`, 10 % of it)."""

PANIC_THRESHOLD = 2.0
"""Panic begins when so many times as many pods would be right as are ready (`panic-threshold-percentage`, 200 %)."""

MAX_UP_RATE = 1000.0
MAX_DOWN_RATE = 2.0
"""At most so many times as many, or as few, as are ready (`max-scale-up-rate`, `max-scale-down-rate`)."""

UTILIZATION = 0.7
"""Of a pod's slots that is aimed at, unless something else is said (`container-concurrency-target-percentage`)."""


class Autoscaler(Scaler):
    """Decides from two averages of concurrency; `target` is what one pod is to have of it."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._samples: deque[tuple[float, float]] = deque()
        self._panic_at: float | None = None
        self._most = 0
        """Pods that the panic has come to; it takes none back."""

    def look(self, seen: Seen) -> Order | None:
        """Take a sample and return what there should be."""
        self._samples.append((seen.at, seen.concurrency))
        while self._samples[0][0] <= seen.at - STABLE_WINDOW:
            self._samples.popleft()
        desired = self.desired(
            seen.at, seen.serving, self._average(seen.at, STABLE_WINDOW), self._average(seen.at, PANIC_WINDOW)
        )
        return Order(max(MIN_AGENTS, min(desired, MAX_AGENTS)))

    def _average(self, at: float, window: float) -> float:
        values = [value for taken, value in self._samples if taken > at - window]
        return sum(values) / len(values)

    def desired(self, at: float, ready: int, stable: float, panic: float) -> int:
        """Return how many pods are right for an average concurrency, in the long and in the short window."""
        ready = max(1, ready)
        most, least = whole(MAX_UP_RATE * ready), floor(ready / MAX_DOWN_RATE)
        for_stable, for_panic = whole(stable / self._target), whole(panic / self._target)
        if for_panic / ready >= PANIC_THRESHOLD:
            self._panic_at = at
        elif self._panic_at is not None and self._panic_at + STABLE_WINDOW < at:
            self._panic_at, self._most = None, 0
        desired = min(max(for_stable, least), most)
        if self._panic_at is None:
            return desired
        self._most = max(self._most, desired, min(max(for_panic, least), most))
        return self._most


@dataclass(frozen=True, slots=True)
class Knative:
    """KPA, told a share of a pod's slots to aim at."""

    utilization: float = TARGET
    period: float = TICK

    @property
    def name(self) -> str:
        """What the tables call it."""
        return "Knative" if self.utilization == TARGET else f"Knative {self.utilization:.0%}"

    def begin(self, trace: Trace, agents: int) -> Scaler:
        """Set to work."""
        return Autoscaler(SLOTS * self.utilization)
