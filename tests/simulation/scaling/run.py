"""Every rule on every trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing import get_context

from tests.simulation.scaling import published, shapes
from tests.simulation.scaling.course import Course, course
from tests.simulation.scaling.hpa import Hpa, Keda
from tests.simulation.scaling.knative import UTILIZATION, Knative
from tests.simulation.scaling.ours import Ours
from tests.simulation.scaling.plain import Static, Thresholds
from tests.simulation.scaling.rule import Rule
from tests.simulation.scaling.score import Score, score
from tests.simulation.scaling.setting import START
from tests.simulation.scaling.trace import Trace
from tests.simulation.scaling.world import play

Shape = Callable[[int], Trace]

PLAIN: tuple[Shape, ...] = (
    shapes.steady,
    shapes.step,
    shapes.ramp,
    shapes.sine,
    shapes.flash_crowd,
    shapes.saw_tooth,
)

PUBLISHED: tuple[Shape, ...] = (published.functions, published.coding, published.burst_gpt, published.wikimedia)

OURS: tuple[Ours, ...] = (Ours(),)

PEERS: tuple[Rule, ...] = (Hpa(), Keda(), Knative(), Knative(UTILIZATION), Thresholds())

STATIC = Static()

RULES: tuple[Rule, ...] = (*OURS, *PEERS, STATIC)

DRAWN = ("HPA", "Knative", "thresholds")
"""Rules in the picture beside ours: KEDA's line is that of the HPA beneath it, all but."""

KNOWING = (STATIC.name,)
"""Rules that know the future: nobody is compared with them."""

STARTS = (5.0, START, 60.0)
"""Seconds from an agent's order until it serves; all of them are tried on the plain shapes, the middle one on all."""

SEEDS = 3
"""Traces of each shape, of which means are taken."""

Played = tuple[list[Score], list[Course]]


def play_all(make: Shape, seed: int, starts: Sequence[float], rules: Sequence[Rule] = RULES) -> Played:
    """Let rules scale while a trace takes place, with each start; return the courses of the usual start."""
    trace = make(seed)
    scores, courses = [], []
    for start in starts:
        for rule in rules:
            history = play(rule, trace, start)
            scores.append(score(history))
            if start == START:
                courses.append(course(history))
    return scores, courses


def _play(task: tuple[Shape, int]) -> Played:
    make, seed = task
    return play_all(make, seed, STARTS if make in PLAIN else (START,))


def run(seed: int, jobs: int, told: Callable[[str], None]) -> Played:
    """Let all rules scale on all traces, so many traces at a time; `told` hears of each that is done.

    The courses are those of the first seed.
    """
    scores: list[Score] = []
    courses: list[Course] = []
    tasks = [(make, seed + more) for more in range(SEEDS) for make in (*PLAIN, *PUBLISHED)]
    # Not forked: what a process was before must not matter.
    with get_context("spawn").Pool(jobs) as pool:
        for (_, own), (some, drawn) in zip(tasks, pool.imap(_play, tasks), strict=True):
            told(some[0].trace)
            scores += some
            courses += drawn if own == seed else []
    return scores, courses
