"""`python -m tests.simulation`: how soon the dead are found, and how many of the living are taken for dead."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.simulation import plot, report
from tests.simulation.rule import Rule
from tests.simulation.run import OURS, PEERS, SWEEPS, run
from tests.simulation.score import Score

FOLDER = Path(__file__).parents[2] / "docs"


def main() -> int:
    """Run everything, print the tables, draw the picture."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--agents", type=int, default=1000, help="in each trace; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="traces at a time; default: %(default)s")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the picture goes; default: docs")
    told = parser.parse_args()
    scores = run(told.agents, told.seed, told.jobs, _tell)
    _tell("")
    sys.stdout.write(f"{told.agents} agents, seed {told.seed}\n\n{text(scores)}\n")
    peers, ours, sweeps = _names(PEERS), _names(OURS), [_names(sweep) for sweep in SWEEPS]
    plot.save(plot.draw(scores, peers, ours, sweeps), told.folder)
    return 0


def _names(rules: Sequence[Rule]) -> list[str]:
    return [rule.name for rule in rules]


def text(scores: Sequence[Score]) -> str:
    """Return all tables."""
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


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line:<60}\r")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
