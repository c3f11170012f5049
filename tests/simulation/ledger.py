"""Statuses as the bucket shows them, kept as verdicts."""

from __future__ import annotations

from registry.core.status import Status
from tests.simulation.rule import Judgement, Verdict

HUNG = "probe_timeout"
"""Reason of `degraded` that says that an agent does not answer."""

BUSY = (HUNG, "slow", "busy")
"""Reasons of `degraded` that say that an agent does not answer, or not in time."""


class Ledger:
    """Who is taken for dead, or for busy, from when to when. Instants are the trace's."""

    def __init__(self) -> None:
        self._judgement = Judgement([])
        self._dead: dict[int, float] = {}
        self._busy: dict[int, tuple[float, str]] = {}

    def enter(self, agent: int, at: float, status: Status, reason: str) -> None:
        """Take note of what the bucket says of an agent from an instant on."""
        if status is Status.OFFLINE:
            self._dead.setdefault(agent, at)
        elif agent in self._dead:
            self._judgement.dead.append(Verdict(agent, self._dead.pop(agent), at))
        busy = reason if status is Status.DEGRADED and reason in BUSY else None
        known = self._busy.get(agent)
        if known is not None and known[1] != busy:
            self._judgement.busy.append((Verdict(agent, known[0], at), known[1]))
            del self._busy[agent]
        if busy is not None:
            self._busy.setdefault(agent, (at, busy))

    def close(self) -> Judgement:
        """Return all, with what still holds."""
        self._judgement.dead += [Verdict(agent, at) for agent, at in self._dead.items()]
        self._judgement.busy += [(Verdict(agent, at), reason) for agent, (at, reason) in self._busy.items()]
        return self._judgement
