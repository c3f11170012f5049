"""Beats: when agents send them, and when the watcher handles them. Virtual seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from tests.simulation.life import Life
from tests.simulation.network import LEAST
from tests.simulation.rule import Hearing
from tests.simulation.trace import Trace

JITTER = 0.1
"""Beats come up to this share of the interval early, as those of `agents_sdk/lease.py`; the same for every system."""

CATCH_UP = 1.0
"""Within so many seconds an eager agent is heard of once it is back, as `agents_sdk/lease.py` has it."""


def hear(trace: Trace, interval: float, is_eager: bool) -> Hearing:
    """Return what is heard of a fleet that beats at an interval."""
    heard = []
    for index, life in enumerate(trace.lives):
        chance = Random(f"{trace.seed} {trace.name} {interval:g} {index}")
        instants = []
        for sent in _sent(life, interval, is_eager, trace.duration, chance.random):
            if trace.loss and chance.random() < trace.loss:
                continue
            at = trace.hears(sent + LEAST + chance.expovariate(1.0 / trace.latency))
            if at is not None:
                instants.append(at)
        instants.sort()
        heard.append(instants)
    return Hearing(trace, heard)


def _sent(life: Life, interval: float, is_eager: bool, until: float, chance: Callable[[], float]) -> Iterator[float]:
    at = chance() * interval
    is_plain = not (life.pauses or life.cuts)
    until = min(until, life.ends)
    while at < until:
        if not is_plain:
            at = life.runs_from(at)
            cut = life.cut_at(at)
            if cut is not None:  # a beat is not kept until there is a connection
                is_early = is_eager and cut.is_closed
                at = cut.back + chance() * min(CATCH_UP, interval) if is_early else at + interval
                continue
            if at >= until:
                return
        yield at
        at += interval * (1.0 - JITTER * chance())
