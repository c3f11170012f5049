"""What should be done about a capability: how many agents there should be, and why, or why nothing is done."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from registry.core.agent import Agent
from registry.core.observation import Sample
from registry.core.policy import Policy
from registry.core.victims import MAX_NAMED

MIN_SAMPLES = 2
"""Looks that a decision by load needs: one may have seen a spike."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What should be done: an action or None, how many agents there should be, why, and whom to replace.

    Attributes:
        surplus: How many agents too many the load is for, whether some are to leave already or not.
    """

    action: str | None
    desired: int
    reason: str
    agents: tuple[str, ...] = ()
    surplus: int = 0


class History:
    """What the last looks at a capability saw, and what they asked for."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        """What the looks that count now saw, oldest first."""
        self._asked: deque[tuple[float, int]] = deque()
        """Since which instant so many agents were asked for, oldest first."""

    def see(self, sample: Sample, most: int) -> None:
        """Take what a look saw, and keep the newest; forget all if it could not see what agents carry."""
        if not sample.reporting:
            self.samples.clear()
            self._asked.clear()
            return
        self.samples = [*self.samples[1 - most :], sample]

    def changed(self) -> None:
        """Forget what was seen of agents of which there are more or fewer now."""
        self.samples.clear()

    def ask(self, number: int, at: float, keep: float) -> None:
        """Take how many agents a look asked for; what is older than `keep` seconds is forgotten."""
        if not self._asked or self._asked[-1][1] != number:
            self._asked.append((at, number))
        while len(self._asked) > 1 and self._asked[1][0] <= at - keep:
            self._asked.popleft()

    def lasted(self, holds: Callable[[int], bool], at: float) -> float:
        """Return for how many seconds all looks asked for numbers of which something holds."""
        since = at
        for begun, number in reversed(self._asked):
            if not holds(number):
                break
            since = begun
        return at - since

    def asked(self, within: float, at: float) -> list[int]:
        """Return how many agents the looks within so many seconds asked for."""
        runs = list(self._asked)
        ends = [begun for begun, _ in runs[1:]] + [math.inf]
        return [number for (_, number), end in zip(runs, ends, strict=True) if end > at - within]


def decide_by_bounds(policy: Policy, count: int) -> Decision | None:
    """Decide whether there are fewer agents than the least, or more than the most."""
    if count < policy.min_agents:
        return Decision("scale_up", policy.min_agents, f"{agents(count)}, fewer than min_agents {policy.min_agents}")
    if count > policy.max_agents:
        return Decision("scale_down", policy.max_agents, f"{agents(count)}, more than max_agents {policy.max_agents}")
    return None


def decide_by_health(
    policy: Policy, count: int, known: Sequence[Agent], needed: Callable[[Agent], bool]
) -> Decision | None:
    """Decide whether agents are to be replaced: the worst first, a share at a time, and none if most are unfit.

    Args:
        policy: Of the capability.
        count: How many serve.
        known: Those that could be replaced; who is suspended for its health does not serve, and is among them.
        needed: Returns whether another capability needs an agent.
    """
    unfit = [agent for agent in known if agent.health < policy.health_degraded]
    if not unfit:
        return None
    if len(unfit) > 1 and 2 * len(unfit) > len(known):
        most = f"{len(unfit)} of {agents(len(known))} have a health below {policy.health_degraded:g}"
        return Decision(None, count, f"nothing done: {most}; what ails most of them would ail their successors")
    worst = sorted((agent for agent in unfit if not needed(agent)), key=lambda agent: (agent.health, agent.agent_id))
    if not worst:
        return Decision(None, count, f"nothing done: {unfit[0].agent_id} is unfit, but another capability needs it")
    worst = worst[: min(MAX_NAMED, max(1, int(policy.replace_share * len(known))))]
    others = f", and so have {len(worst) - 1} more" if len(worst) > 1 else ""
    why = f"{worst[0].agent_id} has health {worst[0].health:g}, below {policy.health_degraded:g}{others}"
    return Decision("replace", count, why, tuple(agent.agent_id for agent in worst))


def decide_by_load(policy: Policy, history: History, newest: Sample, leaving: int) -> Decision:
    """Decide whether the load asks for more agents, or for fewer.

    Args:
        policy: Of the capability.
        history: What was seen of it, and is to take what this look asks for.
        newest: What this look saw.
        leaving: Agents that serve, and that an order for another capability takes away.
    """
    count = newest.agents
    history.see(newest, policy.looks)
    if not newest.reporting:
        nobody = "nobody has a fresh load report" if count else "nobody serves"
        return Decision(None, count, f"nothing done: {nobody}")
    if len(history.samples) < MIN_SAMPLES:
        return Decision(None, count, f"nothing done: load counts when {MIN_SAMPLES} looks saw it")
    seen = _Seen(policy, history.samples)
    history.ask(seen.asked, newest.at, max(policy.stabilisation_up, policy.stabilisation_down))
    if seen.is_high:
        return _up(policy, history, seen)
    if seen.is_low:
        return _down(policy, history, seen, leaving)
    if policy.down_below <= seen.mean <= policy.up_above:
        return Decision(None, count, f"nothing done: mean load {seen.mean:.2f} of {agents(count)} is right")
    partial = f"mean load {seen.mean:.2f} is that of {newest.reporting}, and {newest.missing} more do not report"
    return Decision(None, count, f"nothing done: {partial}")


class _Seen:
    """The looks that count, together."""

    def __init__(self, policy: Policy, samples: Sequence[Sample]) -> None:
        self.newest = newest = samples[-1]
        recent = samples[-MIN_SAMPLES:]
        self.is_panic = all((sample.least or 0.0) >= policy.panic_load for sample in recent)
        counted = recent if self.is_panic else samples
        self.mean = _mean([sample.mean for sample in counted])
        self.is_high = _mean([sample.least for sample in counted]) > policy.up_above
        self.is_low = not self.is_high and _mean([sample.most for sample in counted]) < policy.down_below
        carried = sum(sample.carried for sample in counted) / len(counted)
        count, unfit = newest.agents, newest.agents - newest.fit
        self.asked = count
        """How many agents these looks ask for."""
        if self.is_high:
            self.asked = max(count, _needed(carried, policy.target_load) + unfit)
        elif self.is_low:
            self.asked = min(count - 1, _needed(carried + newest.missing, policy.target_load) + unfit)
            if carried > 0:
                self.asked = max(1, self.asked)  # nobody would ever report a load again
        self.asked = min(policy.max_agents, max(policy.min_agents, self.asked))


def _up(policy: Policy, history: History, seen: _Seen) -> Decision:
    at, count = seen.newest.at, seen.newest.agents
    above = f"mean load {seen.mean:.2f} is above {policy.up_above:g}"
    if seen.asked <= count:
        if count >= policy.max_agents:
            return Decision(None, count, f"nothing done: {above}, but max_agents {policy.max_agents} is reached")
        return Decision(None, count, f"nothing done: {above}, but {agents(seen.newest.starting)} just started")
    if seen.is_panic:
        return Decision("scale_up", seen.asked, f"mean load {seen.mean:.2f}: the agents are full")
    lasted = history.lasted(lambda number: number > count, at)
    if lasted < policy.stabilisation_up:
        return Decision(None, count, f"nothing done: {above}, for {lasted:.0f} s of {policy.stabilisation_up:g} s")
    asked = min(history.asked(policy.stabilisation_up, at))
    desired = min(asked, count + policy.most_added(count))
    return Decision("scale_up", desired, above + _limited(desired, asked))


def _down(policy: Policy, history: History, seen: _Seen, leaving: int) -> Decision:
    at, below = seen.newest.at, f"mean load {seen.mean:.2f} is below {policy.down_below:g}"
    count = seen.newest.agents - leaving
    surplus = max(0, count - seen.asked)
    lasted = history.lasted(lambda number: number < count, at)
    if count <= policy.min_agents:
        others = f" without the {leaving} that orders for other capabilities take" if leaving else ""
        why = f"but min_agents {policy.min_agents} is reached{others}"
    elif lasted < policy.stabilisation_down:
        why = f"for {lasted:.0f} s of {policy.stabilisation_down:g} s"
    else:
        asked = max(history.asked(policy.stabilisation_down, at))
        desired = max(asked, count - policy.most_removed(count))
        long = f", for {policy.stabilisation_down:g} s" if policy.stabilisation_down else ""
        why = below + long + _limited(desired, asked)
        return Decision("scale_down", desired, why, surplus=surplus)
    return Decision(None, seen.newest.agents, f"nothing done: {below}, {why}", surplus=surplus)


def _mean(values: Sequence[float | None]) -> float:
    return round(sum(value or 0.0 for value in values) / len(values), 9)  # the sum of three times 0.8 is above 2.4


def _needed(carried: float, target: float) -> int:
    return math.ceil(round(carried / target, 6))


def _limited(desired: int, asked: int) -> str:
    return "" if desired == asked else f"; {agents(asked)} in the end, in steps"


def agents(count: int) -> str:
    """Return how many agents, in words."""
    return f"{count} agent" if count == 1 else f"{count} agents"
