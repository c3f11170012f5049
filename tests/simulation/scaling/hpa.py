"""Kubernetes' HorizontalPodAutoscaler, `autoscaling/v2`, with its defaults; and KEDA, which feeds one.

kubernetes.io "Horizontal Pod Autoscaling", "Algorithm details" and "Configurable scaling behavior"; what the words
leave open is as in `pkg/controller/podautoscaler` (`replica_calculator.go`, `horizontal.go`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from tests.simulation.scaling.rule import Order, Scaler, Seen
from tests.simulation.scaling.setting import MAX_AGENTS, MIN_AGENTS, SLOTS, TARGET
from tests.simulation.scaling.trace import Trace

PERIOD = 15.0
"""Seconds between two looks (`--horizontal-pod-autoscaler-sync-period`)."""

TOLERANCE = 0.1
"""Nothing is done while the ratio to the target is within so much of 1.0 (`--horizontal-pod-autoscaler-tolerance`)."""

DOWN_WINDOW = 300.0
"""Seconds of recommendations of which a scale-down takes the highest (`scaleDown.stabilizationWindowSeconds`)."""

UP_PERIOD = 15.0
UP_PODS = 4
UP_FACTOR = 2
"""Within so many seconds, so many more or so many times as many, whichever is more (`scaleUp.policies`). The default of
a scale-down, 100 % in 15 s, limits nothing."""


def whole(value: float) -> int:
    """Round up what is not whole but for the error of floating point."""
    return ceil(round(value, 9))


def by_average(current: int, loads: Sequence[float], missing: int, unready: int, target: float) -> int:
    """Return what a metric that is an average over pods recommends.

    Args:
        current: Replicas that are asked for now.
        loads: Of pods that are ready.
        missing: Pods that are ready and whose metric is not there: at the target when it comes to fewer, 0 to more.
        unready: Pods that are not ready: 0 when it comes to more, else ignored.
        target: Of the average.
    """
    if not loads:
        return current
    ratio = sum(loads) / len(loads) / target
    counts_unready = unready > 0 and ratio > 1.0
    if not missing and not counts_unready:
        return current if abs(ratio - 1.0) <= TOLERANCE else whole(ratio * len(loads))
    count = len(loads) + missing + (unready if counts_unready else 0)
    assumed = missing * target if ratio < 1.0 else 0.0
    again = (sum(loads) + assumed) / count / target
    if abs(again - 1.0) <= TOLERANCE or (ratio < 1.0 < again) or (again < 1.0 < ratio):
        return current
    wanted = whole(again * count)
    turns = wanted > current if again < 1.0 else wanted < current
    return current if turns else wanted


def by_total(current: int, total: float, target: float) -> int:
    """Return what an external metric with an `AverageValue` recommends: so much for each replica."""
    ratio = total / (target * max(current, 1))
    return current if abs(ratio - 1.0) <= TOLERANCE else whole(total / target)


class Behaviour:
    """How fast recommendations are followed: the defaults of `spec.behavior`."""

    def __init__(self, replicas: int) -> None:
        self._recommended: deque[tuple[float, int]] = deque([(0.0, replicas)])
        self._added: deque[tuple[float, int]] = deque()

    def follow(self, at: float, current: int, wanted: int) -> int:
        """Return how many replicas there are to be, of which so many are recommended now."""
        self._recommended.append((at, wanted))
        while self._recommended[0][0] < at - DOWN_WINDOW:
            self._recommended.popleft()
        highest = max(replicas for _, replicas in self._recommended)
        settled = wanted if wanted > current else min(current, highest)
        while self._added and self._added[0][0] <= at - UP_PERIOD:
            self._added.popleft()
        began = current - sum(count for _, count in self._added)
        most = max(began + UP_PODS, began * UP_FACTOR)
        replicas = max(MIN_AGENTS, min(settled, MAX_AGENTS, max(most, current)))
        if replicas > current:
            self._added.append((at, replicas - current))
        return replicas


class _Controller(Scaler):
    def __init__(self, agents: int, by_queue: bool) -> None:
        self._behaviour = Behaviour(agents)
        self._by_queue = by_queue

    def look(self, seen: Seen) -> Order | None:
        current = seen.agents
        if self._by_queue:
            wanted = by_total(current, seen.concurrency, SLOTS * TARGET)
        else:
            wanted = by_average(current, seen.loads, seen.silent, seen.starting, TARGET)
        return Order(self._behaviour.follow(seen.at, current, wanted))


@dataclass(frozen=True, slots=True)
class Hpa:
    """On the mean load that pods report. An HPA has no target of its own: it is told one."""

    name: str = "HPA"
    period: float = PERIOD

    def begin(self, trace: Trace, agents: int) -> Scaler:
        """Set to work."""
        return _Controller(agents, by_queue=False)


@dataclass(frozen=True, slots=True)
class Keda:
    """On the length of a queue, as KEDA's scalers of brokers are: what is in flight counts, for it is not acknowledged.

    keda.sh "Scaling Deployments" and "ScaledObject specification": above one replica an HPA does all, and asks KEDA's
    metrics server each 15 s, which asks the broker (`useCachedMetrics: false`). `pollingInterval`, 30 s, and
    `cooldownPeriod`, 300 s, are of the step between none and one, which does not come about with a minimum of two.
    """

    name: str = "KEDA"
    period: float = PERIOD

    def begin(self, trace: Trace, agents: int) -> Scaler:
        """Set to work."""
        return _Controller(agents, by_queue=True)
