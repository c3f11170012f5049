"""How well a rule did on a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf

from tests.simulation.ledger import HUNG
from tests.simulation.rule import Judgement, Verdict
from tests.simulation.trace import Trace


@dataclass(slots=True)
class Score:
    """What a rule got right and wrong on a trace.

    Attributes:
        scenario: The trace's name.
        rule: The rule's.
        agent_hours: Hours that agents were there.
        false: Verdicts on agents that were alive, those that only could not be reached included.
        found: Seconds from each death to the verdict that stands, of the dead that were found, shortest first.
        noticed: Seconds from each death until the agent was at least marked as not answering.
        missed: How many of the dead were not found before the trace's end.
        hung: Marks on agents alive that they do not answer; they stay in service.
        slow: Marks on agents alive that they answer late, or are busy: no fault, for so they are.
    """

    scenario: str
    rule: str
    agent_hours: float
    false: int = 0
    found: list[float] = field(default_factory=list)
    noticed: list[float] = field(default_factory=list)
    missed: int = 0
    hung: int = 0
    slow: int = 0

    @property
    def false_rate(self) -> float:
        """False verdicts in 1,000 agent-hours."""
        return 1000.0 * self.false / self.agent_hours


def score(trace: Trace, rule: str, judgement: Judgement) -> Score:
    """Compare a rule's verdicts with what happened."""
    result, dead = Score(trace.name, rule, trace.agent_hours), trace.dead
    found: dict[int, float] = {}
    noticed: dict[int, float] = {}
    for verdict in judgement.dead:
        if trace.lives[verdict.agent].is_alive(verdict.at):
            result.false += 1
        _keep_first(found, dead, verdict)
        _keep_first(noticed, dead, verdict)
    for verdict, reason in judgement.busy:
        if trace.lives[verdict.agent].is_alive(verdict.at):
            result.hung += reason == HUNG
            result.slow += reason != HUNG
        _keep_first(noticed, dead, verdict)
    result.found, result.noticed = sorted(found.values()), sorted(noticed.values())
    result.missed = len(dead) - len(found)
    return result


def _keep_first(times: dict[int, float], dead: dict[int, float], verdict: Verdict) -> None:
    """Note the first verdict on a dead agent that stood after its death; what was there before took no time."""
    died = dead.get(verdict.agent)
    if died is not None and verdict.until > died:
        times[verdict.agent] = min(times.get(verdict.agent, inf), max(0.0, verdict.at - died))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of sorted values."""
    return values[max(0, ceil(share * len(values)) - 1)]


def pooled(scores: Sequence[Score], rule: str) -> Score:
    """Return one rule's scores of several traces as one."""
    whole = Score("all", rule, 0.0)
    for part in scores:
        if part.rule == rule:
            whole.agent_hours += part.agent_hours
            whole.false += part.false
            whole.missed += part.missed
            whole.hung += part.hung
            whole.slow += part.slow
            whole.found += part.found
            whole.noticed += part.noticed
    whole.found.sort()
    whole.noticed.sort()
    return whole
