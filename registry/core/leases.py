"""Leases: until when an agent's silence says nothing, and from when on it is late."""

from __future__ import annotations

from registry.core.agent import Agent
from registry.core.limits import LATE_BEAT, LEASES_HELD, MAX_BUSY, MAX_GRACE, MAX_SILENCE_HELD, MIN_SILENCE_HELD
from registry.core.path import Path


class Leases:
    """The leases of all agents, as one replica counts them. Instants are monotonic seconds.

    Args:
        path: The way from agents to here; what was late of late on it is added to every lease.
    """

    def __init__(self, path: Path) -> None:
        self.late: dict[str, float] = {}
        """Agents whose next beat is overdue, with since when, the earliest first. Known at the leader alone."""
        self._long_late: set[str] = set()
        """Those that have been for so long that it says nothing of the way any more."""
        self.unreachable: set[str] = set()
        """Agents that did not answer or were not there when asked, and were not heard of since. Known at the leader
        alone."""
        self.amnesty = 0.0
        """Instant from which every lease runs again."""
        self._path = path

    def pardon(self, at: float) -> None:
        """Let every lease run its full time again from now, plus grace: what was missed was not the agents' fault.

        Grace is one interval, bounded; and once NATS is back, no lease begins before its clients can be. Who is heard
        after that is judged as ever.
        """
        self.amnesty = at
        self.clear()

    def clear(self) -> None:
        """Miss nobody."""
        self.late.clear()
        self._long_late.clear()
        self.unreachable.clear()

    def forget(self, agent_id: str) -> None:
        """Miss an agent no more."""
        self.late.pop(agent_id, None)
        self._long_late.discard(agent_id)
        self.unreachable.discard(agent_id)

    def is_late(self, agent_id: str) -> bool:
        """Return whether an agent's next beat is overdue."""
        return agent_id in self.late or agent_id in self._long_late

    def count_late(self, at: float) -> int:
        """Return how many agents have become late within the time for which silence is held back."""
        while self.late and next(iter(self.late.values())) <= at - MAX_SILENCE_HELD:
            agent_id = next(iter(self.late))
            del self.late[agent_id]
            self._long_late.add(agent_id)
        return len(self.late)

    def begins(self, agent: Agent) -> float:
        """Return the instant from which an agent's silence counts."""
        if agent.heard > self.amnesty:
            return agent.heard
        grace = min(agent.record.heartbeat_interval, MAX_GRACE)
        return max(agent.heard, self.amnesty + grace, self._path.back_at)

    def end(self, agent: Agent) -> float:
        """Return the instant at which an agent's lease ends if it stays silent."""
        record = agent.record
        lease = max(
            self.begins(agent) + record.heartbeat_timeout,
            # Who was busy for longer than its lease has that long to say that it is done, and is asked meanwhile.
            self.busy_until(agent) + LATE_BEAT * record.heartbeat_interval,
        )
        return lease + self._path.allowance

    def late_at(self, agent: Agent) -> float:
        """Return the instant at which an agent is late if it stays silent; later than its lease, if that is short."""
        late = self.begins(agent) + LATE_BEAT * agent.record.heartbeat_interval + self._path.allowance
        return max(late, self.busy_until(agent))

    @staticmethod
    def busy_until(agent: Agent) -> float:
        """Return the instant up to which it is believed that an agent is busy."""
        return min(agent.busy_until, agent.heard + MAX_BUSY)

    def held_until(self, agent: Agent) -> float:
        """Return the instant up to which protection holds an agent's silence back."""
        leases = LEASES_HELD * agent.record.heartbeat_timeout
        return self.end(agent) + min(max(leases, MIN_SILENCE_HELD), MAX_SILENCE_HELD)
