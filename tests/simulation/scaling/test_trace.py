"""Traces: the same for the same seed, and of the character that they are said to have."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from statistics import fmean, pstdev

import pytest

from tests.simulation.scaling.published import LONGEST, log_normal, pareto
from tests.simulation.scaling.run import PLAIN, PUBLISHED
from tests.simulation.scaling.setting import LEAD, MAX_AGENTS, PER_AGENT, SERVICE
from tests.simulation.scaling.shapes import exponential
from tests.simulation.scaling.trace import arrivals

SHAPES = (*PLAIN, *PUBLISHED)


@pytest.mark.parametrize("make", SHAPES)
def test_the_same_seed_gives_the_same_trace_and_another_one_does_not(make):
    assert make(1) == make(1)
    assert make(1).work != make(2).work


@pytest.mark.parametrize("make", SHAPES)
def test_as_much_arrives_as_is_demanded(make):
    trace = make(1)
    expected = (sum(trace.demand) + LEAD * trace.demand[0]) * PER_AGENT
    assert len(trace.work) == pytest.approx(expected, rel=0.06)
    assert fmean(took for _, took in trace.work) == pytest.approx(SERVICE, rel=0.06)
    assert all(one[0] <= two[0] for one, two in pairwise(trace.work))
    assert -LEAD <= trace.work[0][0] <= trace.work[-1][0] <= trace.duration
    assert 0.0 < min(trace.demand) <= max(trace.demand) < MAX_AGENTS


@pytest.mark.parametrize("variation", [1.0, 2.0, 4.0])
def test_gaps_vary_as_told(variation):
    instants = arrivals([10.0] * 20_000, Random(1), lambda _: variation)
    gaps = [two - one for one, two in pairwise(instants)]
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(variation, rel=0.05)


@pytest.mark.parametrize("draw", [exponential, pareto, log_normal(0.5), log_normal(1.0), log_normal(2.36)])
def test_work_takes_the_same_in_the_mean_however_it_is_distributed(draw):
    chance = Random(1)
    times = [draw(chance) for _ in range(200_000)]
    assert fmean(times) == pytest.approx(SERVICE, rel=0.03)
    assert min(times) > 0.0


def test_the_longest_work_is_cut():
    chance, draw = Random(1), log_normal(2.36)
    assert max(draw(chance) for _ in range(200_000)) == LONGEST
