"""`python -m tests.simulation`: what becomes of failures and of load under the registry's rules and other systems'.

How soon the dead are found, and how many of the living are taken for dead; how many agents there are for the work.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.simulation import plot, report
from tests.simulation.rule import Rule
from tests.simulation.run import OURS, PEERS, SWEEPS, run
from tests.simulation.scaling import plot as scaling_plot
from tests.simulation.scaling import report as scaling_report
from tests.simulation.scaling import run as scaling_run
from tests.simulation.scaling.score import Score as ScalingScore
from tests.simulation.scaling.setting import START
from tests.simulation.score import Score

FOLDER = Path(__file__).parents[2] / "docs"


def main() -> int:
    """Run everything, print the tables, draw the pictures."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--only", choices=("detection", "scaling"), help="one of the two; default: both")
    parser.add_argument("--agents", type=int, default=1000, help="in each trace of failures; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="traces at a time; default: %(default)s")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pictures go; default: docs")
    told = parser.parse_args()
    if told.only != "scaling":
        _detection(told)
    if told.only != "detection":
        _scaling(told)
    return 0


def _detection(told: argparse.Namespace) -> None:
    scores = run(told.agents, told.seed, told.jobs, _tell)
    _tell("")
    sys.stdout.write(f"{told.agents} agents, seed {told.seed}\n\n{text(scores)}\n")
    peers, ours, sweeps = _names(PEERS), _names(OURS), [_names(sweep) for sweep in SWEEPS]
    plot.save(plot.draw(scores, peers, ours, sweeps), told.folder)


def _scaling(told: argparse.Namespace) -> None:
    scores, courses = scaling_run.run(told.seed, told.jobs, _tell)
    _tell("")
    seeds = f"seeds {told.seed} to {told.seed + scaling_run.SEEDS - 1}"
    sys.stdout.write(f"{seeds}; agents start in {START:g} s\n\n{scaling_text(scores)}\n")
    scaling_plot.save(scaling_plot.draw(courses, scaling_run.OURS[0].name, scaling_run.DRAWN), told.folder)


def _names(rules: Sequence[Rule]) -> list[str]:
    return [rule.name for rule in rules]


def text(scores: Sequence[Score]) -> str:
    """Return all tables of failure detection."""
    peers, ours = _names(PEERS), _names(OURS)
    fixed = [name for sweep in SWEEPS for name in _names(sweep)]
    return "\n\n".join(
        (
            "How soon the dead are found",
            report.detection(scores, peers + ours),
            "Live agents taken for dead (verdicts)",
            report.false_verdicts(scores, peers + ours),
            "Ours, and fixed rules on the very same beats",
            report.trade(scores, ours + fixed),
            "Other systems in the same figures",
            report.trade(scores, peers),
            "Live agents that ours marks `degraded`, for not answering or for answering late (they stay in service)",
            report.marks(scores, ours),
        )
    )


def scaling_text(scores: Sequence[ScalingScore]) -> str:
    """Return all tables of scaling."""
    return "\n\n".join(
        (
            "How many agents there are for the work",
            scaling_report.overall(scores),
            "What work waits, and what that costs",
            scaling_report.by_shape(scores),
            "The same by how long an agent takes to start, plain shapes",
            scaling_report.by_start(scores),
            "Who does best by what",
            scaling_report.better(scores, scaling_run.OURS[0].name, scaling_run.KNOWING),
            "Each shape and rule",
            scaling_report.each(scores),
        )
    )


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line:<60}\r")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
