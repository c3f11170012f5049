"""The picture: how soon the dead are found against how many of the living are taken for dead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.simulation.report import alone, looks_like_crashes
from tests.simulation.score import Score, percentile, pooled

STYLE: Any = {
    "svg.hashsalt": "detection",  # else its ids differ from run to run
    "font.family": "DejaVu Sans",  # the one that matplotlib brings along
    "font.size": 9,
}

PEER_COLOURS = ("tab:blue", "tab:green", "tab:olive", "tab:purple", "tab:pink", "tab:cyan", "tab:brown")
PEER_MARKERS = "osDv^PX"
OUR_COLOURS = ("#f4a582", "#d6604d", "#e31a1c", "#7f0000")

LINEAR = 1.0
"""False verdicts per 1,000 agent-hours below which the axis is linear: zero has no logarithm."""


def draw(scores: Sequence[Score], peers: Sequence[str], ours: Sequence[str], sweeps: Sequence[Sequence[str]]) -> Figure:
    """Return the picture.

    Args:
        scores: Of all rules on all traces.
        peers: Names of other systems' rules.
        ours: Names of ours.
        sweeps: Names of fixed rules on the same beats, a line each.
    """
    short = [score for score in scores if not looks_like_crashes(score.scenario)]
    titles = "all scenarios", "without closed cuts of 8 s and 60 s"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.0, 5.0), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, counted, title in zip(panels, (scores, short), titles, strict=True):
            axes.set_title(title, fontsize=9)
            _fill(axes, counted, peers, ours, sweeps)
        what = "from death to verdict, s: median, 10th to 99th percentile; agents that die one at a time"
        figure.supxlabel(what, fontsize=9)
        panels[0].set_ylabel("live agents taken for dead, per 1,000 agent-hours")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _fill(
    axes: Axes, scores: Sequence[Score], peers: Sequence[str], ours: Sequence[str], sweeps: Sequence[Sequence[str]]
) -> None:
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=LINEAR)
    for sweep, line in zip(sweeps, ("-", "--"), strict=True):
        spots = [_spot(scores, rule) for rule in sweep]
        label = f"TTL of 1.5 to 10 x {sweep[0].rpartition(' x ')[2]}, same beats as ours"
        axes.plot([s[1] for s in spots], [s[3] for s in spots], line, marker=".", lw=1, color="0.6", label=label)
    for rule, colour, marker in zip(peers, PEER_COLOURS, PEER_MARKERS, strict=True):
        _point(axes, scores, rule, colour, marker, 7)
    for rule, colour in zip(ours, OUR_COLOURS, strict=True):
        _point(axes, scores, rule, colour, "*", 15)
    axes.set_ylim(bottom=-0.15)
    axes.grid(visible=True, which="major", lw=0.4, color="0.85")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _spot(scores: Sequence[Score], rule: str) -> tuple[float, float, float, float]:
    found, rate = alone(scores, rule).found, pooled(scores, rule).false_rate
    return percentile(found, 0.1), percentile(found, 0.5), percentile(found, 0.99), rate


def _point(axes: Axes, scores: Sequence[Score], rule: str, colour: str, marker: str, size: float) -> None:
    early, median, late, rate = _spot(scores, rule)
    axes.plot([early, late], [rate, rate], "-", lw=1.2, color=colour, alpha=0.5)
    axes.plot([median], [rate], marker, ms=size, color=colour, mec="white", mew=0.5, label=rule)


def save(figure: Figure, folder: Path) -> None:
    """Write the picture, the same bytes for the same scores and the same matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(folder / "detection.png", dpi=150, metadata={"Software": None})
        figure.savefig(folder / "detection.svg", metadata={"Date": None, "Creator": None})
