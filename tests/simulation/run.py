"""Every rule on every trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context

from tests.simulation.beats import hear
from tests.simulation.eureka import Eureka
from tests.simulation.fixed import consul, sweep, synadia
from tests.simulation.kubernetes import Kubernetes
from tests.simulation.ours import Ours
from tests.simulation.phi import PhiAccrual
from tests.simulation.rule import Hearing, Rule
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.score import Score, score
from tests.simulation.trace import Trace

PEERS: tuple[Rule, ...] = (
    consul(),
    Eureka(preserves_itself=True),
    Eureka(preserves_itself=False),
    Kubernetes(evicts=False),
    Kubernetes(evicts=True),
    synadia(),
    PhiAccrual(),
)

OURS: tuple[Ours, ...] = (
    Ours(),
    Ours(sees_connections=True),
    Ours(5.0, 5.0),
    Ours(5.0, 5.0, sees_connections=True),
)
"""With the settings' defaults, and as a fleet would have it that wants to know soon."""

SWEEPS = (sweep(30.0), sweep(5.0))
"""Fixed rules on the beats that ours has."""


def judge(trace: Trace, rules: Sequence[Rule]) -> list[Score]:
    """Let rules judge a trace. Those that have the same beats have the very same."""
    hearings: dict[tuple[float, bool], Hearing] = {}
    scores = []
    for rule in rules:
        beats = rule.interval, rule.is_eager
        if beats not in hearings:
            hearings[beats] = hear(trace, *beats)
        scores.append(score(trace, rule.name, rule.judge(hearings[beats])))
    return scores


def _judge(number: int, agents: int, seed: int) -> list[Score]:
    fixed = [rule for rules in SWEEPS for rule in rules]
    return judge(SCENARIOS[number](agents, seed), (*PEERS, *OURS, *fixed))


def run(agents: int, seed: int, jobs: int, told: Callable[[str], None]) -> list[Score]:
    """Let all rules judge all traces, so many traces at a time; `told` hears of each that is done."""
    scores: list[Score] = []
    # Not forked: what a process was before must not matter.
    with get_context("spawn").Pool(jobs) as pool:
        for some in pool.imap(partial(_judge, agents=agents, seed=seed), range(len(SCENARIOS))):
            told(some[0].scenario)
            scores += some
    return scores
