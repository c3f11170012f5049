"""One measured run, and rounds of two that alternate."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

STARVED = 0.5
"""Below this part of a core the registry was not saturated: what it does by the clock weighs too much."""


@dataclass
class Sample:
    """What one run of one side did. `cpu` is of the process under load, all its threads, in seconds."""

    ops: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.ops / self.seconds

    @property
    def micros(self) -> float:
        """CPU microseconds of the process under load for each operation."""
        return self.cpu / self.ops * 1e6

    @property
    def busy(self) -> float:
        """Part of the time in which the process under load had a core."""
        return self.cpu / self.seconds

    def text(self) -> str:
        return f"{_short(self.rate)}/s {self.micros:.1f} us {self.busy:.0%}"


@dataclass
class Row:
    """One line of the table."""

    name: str
    work: str
    against: str
    budget: str
    measured: str = ""
    ok: bool = False
    spread: str = ""
    by_clock: str = ""
    ours: str = ""
    theirs: str = ""
    note: str = ""
    value: float = 0.0
    samples: dict = field(default_factory=dict)

    def as_json(self) -> dict:
        return asdict(self)


def alternate(
    rounds: int, ours: Callable[[], Sample], theirs: Callable[[], Sample]
) -> tuple[list[Sample], list[Sample]]:
    """Measure both sides in turn; who is first alternates too."""
    mine: list[Sample] = []
    other: list[Sample] = []
    for turn in range(rounds):
        for measure, kept in ((ours, mine), (theirs, other))[:: 1 if turn % 2 == 0 else -1]:
            kept.append(measure())
    return mine, other


def judge(row: Row, ours: list[Sample], theirs: list[Sample], at_least: float, by: str = "micros") -> Row:
    """Fill a row in: the median of the rounds' ratios.

    Args:
        row: The row.
        ours: Runs of the registry.
        theirs: Runs of what it is measured against.
        at_least: The budget.
        by: `micros` for operations per CPU second of the process under load, `rate` for operations per second.
    """
    pairs = list(zip(ours, theirs, strict=True))
    per_cpu = [their.micros / our.micros for our, their in pairs]
    per_second = [our.rate / their.rate for our, their in pairs]
    ratios = per_cpu if by == "micros" else per_second
    row.value = statistics.median(ratios)
    row.measured, row.ok = f"{row.value:.2f}", row.value >= at_least
    row.spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    row.by_clock = f"{statistics.median(per_second):.2f}"
    row.ours, row.theirs = middle(ours).text(), middle(theirs).text()
    if statistics.median([our.busy for our in ours]) < STARVED:
        row.note += "; STARVED by other processes, measure again on an idle machine"
    row.samples = {"ours": [asdict(one) for one in ours], "theirs": [asdict(one) for one in theirs]}
    return row


def middle(samples: list[Sample]) -> Sample:
    """Return the sample with the median cost."""
    return sorted(samples, key=lambda sample: sample.micros)[len(samples) // 2]


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate < 10_000 else f"{rate / 1000:,.1f}k"
