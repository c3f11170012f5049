"""What the simulated registry restores from: a bucket with compare-and-set, and the records in it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from registry.core.capabilities import Vocabulary
from registry.core.limits import Limits
from registry.core.policy import Policy
from registry.core.record import Change, Record
from registry.core.scaler import Scaler
from registry.core.state import RegistryState
from registry.core.status import Status

CAPABILITY = "analysis"


def agent_id(agent: int) -> str:
    """Return an agent's id."""
    return f"a{agent}"


def newcomer(agent: int, interval: float, lease: float, wall: float) -> Record:
    """Return the record of an agent that has just registered; interval and lease in seconds, `wall` is Unix time."""
    name = agent_id(agent)
    return Record(
        agent_id=name,
        agent_type="worker",
        capabilities=(CAPABILITY,),
        status=Status.ACTIVE,
        status_since=wall,
        registered_at=wall,
        instance_id=f"i{agent}",
        heartbeat_interval=interval,
        heartbeat_timeout=lease,
        health_subject=f"agent.{name}.health_check",
        last_heartbeat=wall,
        write_id=f"w{agent}",
        change=Change(Status.REGISTERING, "registered", wall, 0),
    )


class Bucket:
    """The newest entry of each key."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Record, int]] = {}
        self._revision = 0

    def put(self, record: Record, expected: int) -> int:
        """Write if the key's revision is as expected; return the new revision, 0 if it was not."""
        if expected != self.entries.get(record.agent_id, (record, 0))[1]:
            return 0
        self._revision += 1
        self.entries[record.agent_id] = record, self._revision
        return self._revision


def new_state(limits: Limits, chance: Callable[[], float], name: str) -> RegistryState:
    """Return what a process of the registry knows at first; its name makes its ids its own."""
    ids = count(1)

    def new_id() -> str:
        return f"{name}-{next(ids)}"

    return RegistryState(limits, Vocabulary((CAPABILITY,)), Scaler(False, Policy(), new_id), chance, new_id)
