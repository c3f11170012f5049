"""The network between the registry and its agents: what becomes of a probe. Virtual seconds."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from registry.core.events import Outcome
from tests.simulation.trace import Trace

LEAST = 0.0003
"""A message takes at least so long; request and no-responders take 0.14 to 0.28 ms on loopback, and this is a LAN."""

SERVICE = 0.0005
"""An agent that runs answers a probe within so long."""

CLOSING = 0.0024
"""From the end of a process until the server's event is there: 2.1 to 2.4 ms in five runs of `kill -9`."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How a probe ends: with what, and when that is handled."""

    outcome: Outcome
    at: float


def probe(trace: Trace, agent: int, sent: float, timeout: float, chance: Random) -> Fate:
    """Return what becomes of a probe.

    Args:
        trace: What happens.
        agent: Who is asked.
        sent: When.
        timeout: How long the registry waits.
        chance: Source of latencies and losses.
    """
    over = Fate(Outcome.TIMEOUT, trace.awake(sent + timeout))
    arrives = sent + _latency(trace, chance)
    if not trace.is_connected(sent) or _is_lost(trace, chance):
        return over
    life = trace.lives[agent]
    if not life.is_listening(arrives):
        return _in_time(trace, Fate(Outcome.NO_RESPONDERS, arrives + LEAST), over)
    if life.cut_at(arrives) is not None:
        return over
    answers = life.runs_from(arrives) + SERVICE
    if answers > sent + timeout or life.cut_at(answers) is not None or _is_lost(trace, chance):
        return over
    return _in_time(trace, Fate(Outcome.ANSWERED, answers + _latency(trace, chance)), over)


def _in_time(trace: Trace, answer: Fate, over: Fate) -> Fate:
    """Return the answer, unless nobody hears it, or the timer is due before it is read."""
    at = trace.hears(answer.at)
    return over if at is None or at > over.at else Fate(answer.outcome, at)


def _latency(trace: Trace, chance: Random) -> float:
    return LEAST + chance.expovariate(1.0 / trace.latency)


def _is_lost(trace: Trace, chance: Random) -> bool:
    return trace.loss > 0.0 and chance.random() < trace.loss
