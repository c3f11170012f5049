"""The picture: for each shape the agents that there were beside those that were needed, and how busy they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.simulation.report import names
from tests.simulation.scaling.course import Course
from tests.simulation.scaling.setting import HIGH_LOAD, LOW_LOAD

STYLE: Any = {
    "svg.hashsalt": "scaling",  # else its ids differ from run to run
    "font.family": "DejaVu Sans",  # the one that matplotlib brings along
    "font.size": 8,
}

COLUMNS = 2

OUR_COLOUR = "#e31a1c"
COLOURS = ("tab:blue", "tab:green", "tab:purple", "tab:orange")


def draw(courses: Sequence[Course], ours: str, peers: Sequence[str]) -> Figure:
    """Return the picture.

    Args:
        courses: Of all rules on all traces.
        ours: The name of our rule; what it asked for is drawn as well.
        peers: Names of the others that are drawn.
    """
    traces = names(courses, "trace")
    lines = -(-len(traces) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.0, 2.6 * lines), layout="constrained")
        panels = figure.subplots(2 * lines, COLUMNS, squeeze=False, height_ratios=[2.2, 1.0] * lines)
        for place, trace in enumerate(traces):
            line, column = divmod(place, COLUMNS)
            upper, lower = panels[2 * line][column], panels[2 * line + 1][column]
            shown = {one.rule: one for one in courses if one.trace == trace}
            _agents(upper, shown, ours, peers)
            _loads(lower, shown, ours, peers)
            upper.set_title(trace, fontsize=8, loc="left")
            if not column:
                upper.set_ylabel("agents")
                lower.set_ylabel("load")
        figure.supxlabel("minutes", fontsize=8)
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=8, frameon=False)
    return figure


def _agents(axes: Axes, shown: dict[str, Course], ours: str, peers: Sequence[str]) -> None:
    own = shown[ours]
    axes.fill_between(*_changes(own.minutes, own.needed), step="post", color="0.85", lw=0, label="needed")
    for rule, colour in zip(peers, COLOURS, strict=False):
        _steps(axes, shown[rule].minutes, shown[rule].serving, lw=0.9, color=colour, label=rule)
    _steps(axes, own.minutes, own.desired, lw=0.8, ls=":", color=OUR_COLOUR, label=f"{ours}, desired")
    _steps(axes, own.minutes, own.serving, lw=1.4, color=OUR_COLOUR, label=ours)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelbottom=False)
    _tidy(axes, own)


def _changes(minutes: Sequence[float], values: Sequence[int]) -> tuple[list[float], list[int]]:
    """Return only where a value changes, and both ends: the picture is a third as large."""
    last = len(values) - 1
    kept = [place for place, value in enumerate(values) if place in (0, last) or value != values[place - 1]]
    return [minutes[place] for place in kept], [values[place] for place in kept]


def _steps(axes: Axes, minutes: Sequence[float], values: Sequence[int], **style: Any) -> None:
    axes.step(*_changes(minutes, values), where="post", **style)


def _loads(axes: Axes, shown: dict[str, Course], ours: str, peers: Sequence[str]) -> None:
    for rule, colour in zip(peers, COLOURS, strict=False):
        axes.plot(shown[rule].minutes, shown[rule].load, lw=0.5, color=colour, alpha=0.7)
    axes.plot(shown[ours].minutes, shown[ours].load, lw=0.9, color=OUR_COLOUR)
    for bound in (LOW_LOAD, HIGH_LOAD):
        axes.axhline(bound, lw=0.5, ls="--", color="0.4")
    axes.set_ylim(0.0, 1.05)
    _tidy(axes, shown[ours])


def _tidy(axes: Axes, own: Course) -> None:
    axes.set_xlim(own.minutes[0], own.minutes[-1])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def save(figure: Figure, folder: Path) -> None:
    """Write the picture, the same bytes for the same courses and the same matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(folder / "scaling.png", dpi=110, metadata={"Software": None})
        figure.savefig(folder / "scaling.svg", metadata={"Date": None, "Creator": None})
