"""A fleet: agents that are started, serve, and finish what they have; and work that waits for them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from random import Random

from tests.simulation.scaling.setting import SLOTS
from tests.simulation.scaling.trace import Work


class Stage(Enum):
    """What an agent is about."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Agent:
    """An agent.

    Attributes:
        number: Of all agents ever, in the order in which they were ordered.
        ordered: When it was; it is paid for from then on.
        busy: Work that it does now.
        load: What it said last of its load; None if it has said nothing yet.
    """

    number: int
    ordered: float
    stage: Stage = Stage.STARTING
    busy: int = 0
    load: float | None = None


class Fleet:
    """Agents and the queue before them. Work waits, first come first served, only while nobody has a free slot.

    Args:
        chance: Of who gets a piece of work: the less busy of two, as of an assignment that knows who is free.
    """

    def __init__(self, chance: Random) -> None:
        self.serving: list[Agent] = []
        self.starting: list[Agent] = []
        self.queue: deque[Work] = deque()
        self.free = 0
        """Slots of serving agents that nothing is done in."""
        self.draining: list[Agent] = []
        self._paid = 0.0
        self._chance = chance.random
        self._ordered = 0

    @property
    def load(self) -> float:
        """In-flight work by slots, over the agents that serve."""
        slots = len(self.serving) * SLOTS
        return 1.0 - self.free / slots if slots else 1.0

    @property
    def in_flight(self) -> int:
        """Work that somebody does."""
        return sum(agent.busy for agent in (*self.serving, *self.draining))

    def paid(self, at: float) -> float:
        """Return agent-seconds so far, from each agent's order until it was gone."""
        here = (*self.serving, *self.starting, *self.draining)
        return self._paid + sum(at - agent.ordered for agent in here)

    def order(self, at: float) -> Agent:
        """Order one more agent."""
        agent = Agent(self._ordered, at)
        self._ordered += 1
        self.starting.append(agent)
        return agent

    def begin(self, agent: Agent) -> None:
        """Let an agent serve that has started."""
        self.starting.remove(agent)
        agent.stage = Stage.SERVING
        self.serving.append(agent)
        self.free += SLOTS

    def drain(self, agent: Agent, at: float) -> None:
        """Give an agent no more work; it goes when it has finished, or at once if it has not started."""
        if agent.stage is Stage.STARTING:
            self.starting.remove(agent)
            self._end(agent, at)
            return
        self.serving.remove(agent)
        self.free -= SLOTS - agent.busy
        if agent.busy:
            agent.stage = Stage.DRAINING
            self.draining.append(agent)
        else:
            self._end(agent, at)

    def _end(self, agent: Agent, at: float) -> None:
        agent.stage = Stage.GONE
        self._paid += at - agent.ordered

    def place(self) -> Agent | None:
        """Take a slot for a piece of work; None if there is none."""
        if not self.free:
            return None
        serving, chance = self.serving, self._chance
        agent, other = serving[int(chance() * len(serving))], serving[int(chance() * len(serving))]
        if other.busy < agent.busy:
            agent = other
        if agent.busy >= SLOTS:
            agent = min(serving, key=lambda one: one.busy)
        agent.busy += 1
        self.free -= 1
        return agent

    def finish(self, agent: Agent, at: float) -> None:
        """Take note that an agent has finished a piece of work."""
        agent.busy -= 1
        if agent.stage is Stage.SERVING:
            self.free += 1
        elif not agent.busy:
            self.draining.remove(agent)
            self._end(agent, at)
