"""Shapes after published traces: made by a generator with what is published of their character, not the traces.

A day is pressed into six hours, so changes come four times as fast as they did; peaks are scaled to some twenty agents.
What is taken from where is said at each.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, exp, log, pi, sin, sqrt
from random import Random

from tests.simulation.scaling.setting import SERVICE
from tests.simulation.scaling.trace import Trace, make

DAY = 6 * 3600
HOUR = DAY // 24

LONGEST = 60 * SERVICE
"""What a piece of work takes at most: a time-out ends it."""


def _day(second: float, peak: float = 14.0) -> float:
    """Return -1.0 to 1.0: the time of day, highest at an hour of it."""
    return sin(2 * pi * (second / DAY - (peak - 6.0) / 24.0))


def log_normal(sigma: float) -> Callable[[Random], float]:
    """Return what draws log-normal times of the common mean, cut at the longest."""
    low, high = log(1e-6), log(SERVICE)
    for _ in range(60):
        mu = (low + high) / 2
        low, high = (mu, high) if _mean(mu, sigma) < SERVICE else (low, mu)
    return lambda chance: min(LONGEST, chance.lognormvariate(mu, sigma))


def _mean(mu: float, sigma: float) -> float:
    def normal(value: float) -> float:
        return (1.0 + erf(value / sqrt(2.0))) / 2.0

    cut = (log(LONGEST) - mu) / sigma
    return exp(mu + sigma * sigma / 2) * normal(cut - sigma) + LONGEST * (1.0 - normal(cut))


def pareto(chance: Random) -> float:
    """Draw a time with a power law's tail (exponent 1.5) and the common mean, cut at a hundred times the shortest."""
    most = 100.0
    return min(most, chance.paretovariate(1.5)) * SERVICE / (3.0 - 2.0 / sqrt(most))


def functions(seed: int) -> Trace:
    """After Azure Functions 2019 (Azure/AzurePublicDataset; Shahrad et al., "Serverless in the Wild", ATC'20).

    Taken over: half of the load is there all day and half follows it; timers fire on the hour and the half hour, all
    together; times are log-normal with a sigma of 2.36.
    """
    demand = []
    for second in range(DAY):
        timers = (8.0 if second % HOUR < 15 else 4.0 if (second + HOUR // 2) % HOUR < 15 else 0.0) if second else 0.0
        demand.append(7.0 + 7.0 * (1.0 + _day(second)) / 2.0 + timers)
    return make("Functions-like", seed, demand, log_normal(2.36), lambda _: 1.5)


def coding(seed: int) -> Trace:
    """After the coding trace of Azure LLM inference 2023 and 2024 (Azure/AzurePublicDataset; Patel et al., "Splitwise",
    ISCA'24; Stojkovic et al., "DynamoLLM", HPCA'25).

    Taken over: hardly anything at night and a steep working day; within it, minutes of much and of little; bursts.
    """
    chance = Random(f"{seed} coding")
    demand, level, until = [], 1.0, 0
    for second in range(DAY):
        if second >= until:
            level, until = chance.uniform(0.5, 1.5), second + chance.randint(60, 240)
        demand.append(0.7 + 17.0 * max(0.0, _day(second, 13.0) + 0.1) / 1.1 * level)
    return make("LLM-coding-like", seed, demand, log_normal(1.0), lambda _: 2.0)


def burst_gpt(seed: int) -> Trace:
    """After BurstGPT (HPMLL/BurstGPT; Wang et al., arXiv 2401.17644).

    Taken over: gamma-distributed gaps whose burstiness changes with time; day and night; a power law's tail.
    """
    chance = Random(f"{seed} burstgpt")
    variations = [chance.choice((1.0, 1.5, 2.0, 3.0, 4.0)) for _ in range(DAY // 300)]
    demand = [9.0 + 6.0 * _day(second, 15.0) for second in range(DAY)]
    return make(
        "BurstGPT-like", seed, demand, pareto, lambda at: variations[min(max(0, int(at / 300)), len(variations) - 1)]
    )


def wikimedia(seed: int) -> Trace:
    """After Wikimedia's page views (Urdaneta et al., "Wikipedia workload analysis", 2009; the traces of Papadopoulos et
    al., "PEAS", 2016).

    Taken over: a smooth day with a second, smaller hump; little noise; one piece of news.
    """
    news = Random(f"{seed} wikimedia").randrange(DAY // 4, 3 * DAY // 4)
    demand = []
    for second in range(DAY):
        usual = 12.0 + 5.0 * _day(second, 17.0) + 2.0 * sin(4 * pi * second / DAY)
        passed = second - news
        demand.append(usual * (1.0 + (0.6 * min(1.0, passed / 60) * exp(-passed / 600) if passed >= 0 else 0.0)))
    return make("Wikimedia-like", seed, demand, log_normal(0.5))
