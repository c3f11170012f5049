"""Plain shapes of demand, an hour each. What a piece of work takes is exponential, and so are the gaps between them."""

from __future__ import annotations

from math import exp, pi, sin
from random import Random

from tests.simulation.scaling.setting import SERVICE
from tests.simulation.scaling.trace import Trace, make

HOUR = 3600


def exponential(chance: Random) -> float:
    """Draw how long a piece of work takes."""
    return chance.expovariate(1.0 / SERVICE)


def steady(seed: int) -> Trace:
    """Nothing changes; what is seen is noise."""
    return make("steady", seed, [10.0] * HOUR, exponential)


def step(seed: int) -> Trace:
    """Four times as much at once, and as little again half an hour later."""
    demand = [4.0] * 600 + [16.0] * 1800 + [4.0] * 1200
    return make("step", seed, demand, exponential, steps=(600.0,))


def ramp(seed: int) -> Trace:
    """Six times as much within twenty minutes, and back."""
    up = [4.0 + 20.0 * second / 1200 for second in range(1200)]
    return make("ramp", seed, [4.0] * 300 + up + [24.0] * 600 + up[::-1] + [4.0] * 300, exponential)


def sine(seed: int) -> Trace:
    """Up and down between 4 and 20, three times."""
    return make("sine", seed, [12.0 - 8.0 * sin(2 * pi * s / 1200 + pi / 2) for s in range(HOUR)], exponential)


def flash_crowd(seed: int) -> Trace:
    """Seven times as much within 30 s, which then fades over minutes, twice."""
    demand, begins = [4.0] * HOUR, (600, 2100)
    for begin in begins:
        for second in range(begin, HOUR):
            passed = second - begin
            demand[second] += 24.0 * min(1.0, passed / 30) * exp(-max(0, passed - 90) / 240)
    return make("flash crowd", seed, demand, exponential, steps=tuple(begin + 30.0 for begin in begins))


def saw_tooth(seed: int) -> Trace:
    """Rises from 4 to 20 in ten minutes and drops at once, six times."""
    return make("saw-tooth", seed, [4.0 + 16.0 * (second % 600) / 600 for second in range(HOUR)], exponential)
