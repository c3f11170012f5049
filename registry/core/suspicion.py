"""Suspicion: agents that beat often are suspected when they are late by their own rhythm; it only moves their rank."""

from __future__ import annotations

from registry.core.agent import Agent
from registry.core.deadlines import Deadlines
from registry.core.leases import Leases
from registry.core.limits import MAX_EXPIRIES
from registry.core.path import TICK, Path
from registry.core.rhythm import Rhythm
from registry.core.standing import Standings
from registry.core.status import Status


class Suspicions:
    """Watches the rhythm of agents; every replica does, for each hears every beat. Instants are monotonic seconds.

    Args:
        agents: All agents by id; their suspicion is changed here alone.
        below: Heartbeat interval, s, up to which an agent is watched.
        leases: Say from when on silence counts.
        path: Says up to when it does.
        standings: Told whose standing is to be found out.
    """

    def __init__(
        self, agents: dict[str, Agent], below: float, leases: Leases, path: Path, standings: Standings
    ) -> None:
        self._agents = agents
        self._below = below
        self._leases = leases
        self._path = path
        self._standings = standings
        self._looks = Deadlines(self._look_at)

    def beat(self, agent: Agent, at: float) -> None:
        """Take a beat."""
        if agent.record.heartbeat_interval > self._below:
            return
        begins = agent.rhythm is None
        if agent.rhythm is None:
            agent.rhythm = Rhythm(agent.record.heartbeat_interval)
        elif agent.heard <= self._leases.amnesty:
            agent.rhythm.pause()
        agent.rhythm.beat(at)
        if begins:
            self._looks.watch(agent.agent_id)

    def clear(self, agent: Agent, at: float) -> None:
        """Suspect an agent no more: it has given a sign of life."""
        if agent.suspicion:
            agent.suspicion, agent.doubted_at = 0.0, 0.0
            self._looks.watch(agent.agent_id)
            self._standings.stand(agent, at)

    def forget(self, agent_id: str) -> None:
        """Take note that there is no such agent any more."""
        self._looks.watch(agent_id)

    def look(self, at: float) -> None:
        """Look at those whose silence has become suspicious, or more so."""
        judged = min(at, self._path.judged_to)
        for agent_id in list(self._looks.due(judged, MAX_EXPIRIES)):
            agent = self._agents[agent_id]
            assert agent.rhythm is not None, "or it would not be watched"
            suspicion = agent.rhythm.suspicion(judged - self._leases.begins(agent) - self._path.allowance)
            agent.doubted_at = at
            if suspicion != agent.suspicion:
                agent.suspicion = suspicion
                self._standings.stand(agent, at)
            self._looks.watch(agent_id)

    def _look_at(self, agent_id: str) -> float | None:
        agent = self._agents.get(agent_id)
        if agent is None or agent.rhythm is None or agent.suspicion >= 1.0 or agent.status is Status.OFFLINE:
            return None
        quiet = self._leases.begins(agent) + agent.rhythm.quiet + self._path.allowance
        # It grows with time; four looks a deviation show it well enough.
        again = agent.doubted_at + max(TICK, agent.rhythm.deviation / 4)
        return max(quiet, again, self._leases.busy_until(agent))
