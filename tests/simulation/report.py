"""What the scores say, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.simulation.score import Score, percentile, pooled

ALONE = ("crashes", "power losses", "hangs", "departures, then crashes", "bad day")
"""Traces in which agents die one at a time."""

DEATHS = (*ALONE, "half crash")


def looks_like_crashes(scenario: str) -> bool:
    """Return whether live agents' connections are closed in a trace, and made again only after many seconds.

    For as long, nothing that anybody can see tells them from agents that crashed.
    """
    return scenario.startswith("cut ") and scenario.endswith("closed") and " 2 s," not in scenario


def names(scores: Sequence[Score], attribute: str) -> list[str]:
    """Return what there is of an attribute, in order."""
    return list(dict.fromkeys(getattr(score, attribute) for score in scores))


def alone(scores: Sequence[Score], rule: str) -> Score:
    """Return a rule's scores of the traces in which agents die one at a time, as one."""
    return pooled([score for score in scores if score.scenario in ALONE], rule)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = [_line(line, widths) for line in lines]
    rule = "|" + "|".join("-" * (width + 1) + (":" if n else "-") for n, width in enumerate(widths)) + "|"
    return "\n".join((texts[0], rule, *texts[1:]))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    return "| " + " | ".join((first, *(cell.rjust(w) for cell, w in zip(cells[1:], widths[1:], strict=True)))) + " |"


def seconds(value: float) -> str:
    """Return seconds with as many digits as matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(found: Sequence[float]) -> str:
    """Return median, 99th percentile and maximum."""
    return " / ".join(seconds(value) for value in (percentile(found, 0.5), percentile(found, 0.99), found[-1]))


def _time(score: Score) -> str:
    if not score.found:
        return f"never ({score.missed})"
    return times(score.found) + (f" ({score.missed} missed)" if score.missed else "")


def detection(scores: Sequence[Score], rules: Sequence[str]) -> str:
    """Return the table of how soon the dead are found."""
    by = {(score.scenario, score.rule): score for score in scores}
    rows = [[rule, *(_time(by[scenario, rule]) for scenario in DEATHS)] for rule in rules]
    return table(["s: p50 / p99 / max", *DEATHS], rows)


def false_verdicts(scores: Sequence[Score], rules: Sequence[str]) -> str:
    """Return the table of how many of the living were taken for dead."""
    by = {(score.scenario, score.rule): score for score in scores}
    rows = [[name, *(str(by[name, rule].false) for rule in rules)] for name in names(scores, "scenario")]
    rows.append(["**per 1,000 agent-hours**", *(f"{pooled(scores, rule).false_rate:.1f}" for rule in rules)])
    return table(["scenario", *rules], rows)


def trade(scores: Sequence[Score], rules: Sequence[str]) -> str:
    """Return the table that sets how soon against how many."""
    rows = []
    for rule in rules:
        dying, whole = alone(scores, rule), pooled(scores, rule)
        short = pooled([score for score in scores if not looks_like_crashes(score.scenario)], rule)
        rates = f"{whole.false_rate:.1f}", f"{short.false_rate:.1f}"
        rows.append([rule, times(dying.found), *rates, str(whole.missed)])
    head = (
        "rule",
        "found after, s: p50 / p99 / max",
        "false per 1,000 agent-hours",
        "without long closed cuts",
        "missed",
    )
    return table(head, rows)


def marks(scores: Sequence[Score], rules: Sequence[str]) -> str:
    """Return the table of marks that are no verdicts: `degraded`, for not answering, or for answering late."""
    by = {(score.scenario, score.rule): score for score in scores}
    rows = [
        [name, *(f"{by[name, rule].hung} / {by[name, rule].slow}" for rule in rules)]
        for name in names(scores, "scenario")
        if any(by[name, rule].hung or by[name, rule].slow for rule in rules)
    ]
    rows.append(["*who really hung until marked, s*", *(times(by["hangs", rule].noticed) for rule in rules)])
    return table(["hung / slow", *rules], rows)
