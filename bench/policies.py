"""Whom to give a task to by stale loads: what callers do without assignments, played through with the same arrivals.

Each agent has one worker and a queue. An agent tells how many tasks it has every so often; in between a caller knows
what it was told last. Nothing but that takes time here, so these are the best cases (Mitzenmacher, TPDS 2000).
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A task: seconds from the beginning at which it comes, and that it takes."""

    at: float
    service: float


def arrivals(count: int, agents: int, service: float, busy: float, seed: int) -> list[Task]:
    """Return tasks that come at random, and take a random time, so that agents are busy for this share of theirs."""
    rng, at, tasks = random.Random(seed), 0.0, []
    for _ in range(count):
        at += rng.expovariate(busy * agents / service)
        tasks.append(Task(at, rng.expovariate(1.0 / service)))
    return tasks


def responses(policy: str, tasks: list[Task], agents: int, period: float, seed: int) -> list[float]:
    """Return how long each task took from its arrival to its end."""
    rng = random.Random(seed)
    free_at, present, told = [0.0] * agents, [0] * agents, [0] * agents
    reports = [(rng.random() * period, agent) for agent in range(agents)]
    heapq.heapify(reports)
    ends: list[tuple[float, int]] = []
    turn = itertools.cycle(range(agents))
    found = []
    for task in tasks:
        while reports[0][0] <= task.at or (ends and ends[0][0] <= task.at):
            if ends and ends[0][0] <= reports[0][0]:
                present[heapq.heappop(ends)[1]] -= 1
            else:
                at, agent = reports[0]
                told[agent] = present[agent]
                heapq.heapreplace(reports, (at + period, agent))
        agent = _choose(policy, told, turn, rng)
        end = max(task.at, free_at[agent]) + task.service
        free_at[agent] = end
        present[agent] += 1
        heapq.heappush(ends, (end, agent))
        found.append(end - task.at)
    return found


def _choose(policy: str, told: list[int], turn: itertools.cycle[int], rng: random.Random) -> int:
    if policy == "round robin":
        return next(turn)
    if policy == "random":
        return rng.randrange(len(told))
    if policy == "best of two":
        return min(rng.sample(range(len(told)), 2), key=told.__getitem__)
    least = min(told)
    return rng.choice([agent for agent, load in enumerate(told) if load == least])


POLICIES = ("random", "round robin", "best of two", "least loaded")
