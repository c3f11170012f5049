"""What the scores say, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.report import names, table
from tests.simulation.scaling.score import Score, means
from tests.simulation.scaling.setting import START


def _percent(value: float) -> str:
    return f"{100.0 * value:.1f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 1.0 else f"{value:.1f}"


Measure = tuple[str, str, Callable[[float], str]]
"""What a column is called, the score's attribute, and how it is written; of all less is better."""

MEASURES: tuple[Measure, ...] = (
    ("under, %", "under", _percent),
    ("over, %", "over", _percent),
    ("paid", "paid", lambda value: f"{value:.2f}"),
    ("load > 0.8, %", "high", _percent),
    ("wait, s", "mean_wait", _seconds),
    ("p95", "p95_wait", _seconds),
    ("p99", "p99_wait", _seconds),
    ("orders/h", "orders", lambda value: f"{value:.1f}"),
    ("flips/h", "flips", lambda value: f"{value:.1f}"),
)

COMPARED = ("under", "over", "high", "p99_wait", "orders", "flips")
"""Measures by which the best rule for each shape is named."""


def _usual(scores: Sequence[Score]) -> list[Score]:
    """Return the means over the seeds, with the usual start."""
    return means([one for one in scores if one.start == START], lambda one: (one.trace, one.rule))


def _cells(one: Score) -> list[str]:
    return [write(getattr(one, attribute)) for _, attribute, write in MEASURES]


def _recovery(one: Score) -> str:
    return f"{one.recovery:.0f}" if one.recovery else ""


def overall(scores: Sequence[Score]) -> str:
    """Return the table of all traces together, each shape counting the same."""
    usual = _usual(scores)
    stepped = [one for one in usual if one.trace == "step"]
    rows = [
        [one.rule, *_cells(one), _recovery(step), f"{one.violations:.0f}"]
        for one, step in zip(means(usual, lambda one: one.rule), stepped, strict=True)
    ]
    heads = [head for head, _, _ in MEASURES]
    return table(["all shapes", *heads, "step caught up, s", "out of bounds, s"], rows)


def each(scores: Sequence[Score]) -> str:
    """Return the table of each trace and rule; with what is missing and too much in agent-minutes."""
    rows = [
        [
            f"{one.trace}: {one.rule}",
            *_cells(one),
            f"{one.under * one.needed / 60.0:.0f}",
            f"{one.over * one.needed / 60.0:.0f}",
            _recovery(one),
            f"{one.violations:.0f}",
        ]
        for one in _usual(scores)
    ]
    heads = [head for head, _, _ in MEASURES]
    return table(["shape: rule", *heads, "under, agent-min", "over", "caught up, s", "out of bounds, s"], rows)


def by_shape(scores: Sequence[Score]) -> str:
    """Return the table of waits against what they cost, by shape."""
    usual = _usual(scores)
    found = {(one.trace, one.rule): one for one in usual}
    rules = names(usual, "rule")
    rows = [
        [trace, *(f"{_seconds(found[trace, rule].p99_wait)} / {found[trace, rule].paid:.2f}" for rule in rules)]
        for trace in names(usual, "trace")
    ]
    return table(["p99 wait, s / paid", *rules], rows)


def by_start(scores: Sequence[Score]) -> str:
    """Return the same by how long an agent takes to start, over the shapes for which all were tried."""
    starts = sorted({one.start for one in scores})
    tried = {one.trace for one in scores if one.start != START}
    pooled = means([one for one in scores if one.trace in tried], lambda one: (one.start, one.rule))
    found = {(one.start, one.rule): one for one in pooled}
    rules = names(pooled, "rule")
    rows = [
        [
            f"{start:g} s",
            *(f"{_seconds(found[start, rule].p99_wait)} / {found[start, rule].paid:.2f}" for rule in rules),
        ]
        for start in starts
    ]
    return table(["start: p99 wait, s / paid", *rules], rows)


def better(scores: Sequence[Score], ours: str, besides: Sequence[str]) -> str:
    """Return the table of who is best for each shape, with ours in brackets where it is another; ties are ours.

    Args:
        scores: Of all.
        ours: The rule that is compared.
        besides: Rules that are not compared.
    """
    usual = [one for one in _usual(scores) if one.rule not in besides]
    chosen = [measure for measure in MEASURES if measure[1] in COMPARED]
    rows = []
    for trace in names(usual, "trace"):
        here = [one for one in usual if one.trace == trace]
        own = next(one for one in here if one.rule == ours)
        cells = []
        for _, attribute, write in chosen:
            best = min([own, *here], key=lambda one: float(write(getattr(one, attribute))))
            value = write(getattr(best, attribute))
            cells.append(f"{best.rule} {value}" + ("" if best is own else f" ({write(getattr(own, attribute))})"))
        rows.append([trace, *cells])
    return table(["best (ours)", *(head for head, _, _ in chosen)], rows)
