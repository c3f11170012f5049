"""Writes on their way: at most one an agent, with the commands that wait for its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from registry.core.errors import RefusedError
from registry.core.events import CommandRequested, RegisterRequested
from registry.core.limits import MAX_WAITING, MAX_WRITES
from registry.core.record import Record

Command = RegisterRequested | CommandRequested

Kind = tuple[str, str]
"""Type and version of an agent."""


@dataclass(slots=True)
class Write:
    """One write on its way.

    Attributes:
        record: What is being written.
        removed: Whether it removes the key.
        command: Who asked for it; None when the registry decided it by itself.
        attempts: How often it was decided.
        waiting: Commands for the same agent that came meanwhile, oldest first.
        missed: Probes of the id's holder, in a row, that found nobody; the write itself waits for them.
        signs: Signs of life of the holder when that was last probed.
        settling: Revision up to which the log has to be known before it is settled who holds the claims; 0 if that is
            not asked.
        refusal: What its command is answered with once it is durable; the write then undoes what the command did.
        sent: Whether it was sent to the bucket; otherwise it only holds the agent's place.
        reading: Whether the bucket is being asked how it ended.
        known: Revision that was known of the agent when the bucket was asked how the write ended.
    """

    record: Record
    removed: bool = False
    command: Command | None = None
    attempts: int = 1
    waiting: list[Command] = field(default_factory=list)
    reading: bool = False
    known: int = 0
    missed: int = 0
    signs: int = 0
    settling: int = 0
    refusal: RefusedError | None = None
    sent: bool = True

    @classmethod
    def unsent(cls, command: Command, attempts: int = 1) -> Write:
        """Return what holds the agent's place while there is nothing to write yet."""
        nothing = Record(command.agent_id or "", "", (), write_id=command.write_id)
        return cls(nothing, command=command, attempts=attempts, sent=False)


class Writes:
    """The writes on their way, by agent id. A command that waits for a probe holds its agent's place too."""

    def __init__(self) -> None:
        self._writes: dict[str, Write] = {}
        self._by_kind: dict[Kind, dict[str, Record]] = {}
        """What they make of agents, by type and version: of these there are few, however many the writes."""

    def __len__(self) -> int:
        return len(self._writes)

    def __contains__(self, agent_id: str) -> bool:
        return agent_id in self._writes

    def get(self, agent_id: str) -> Write | None:
        """Return the agent's write, if one is on its way."""
        return self._writes.get(agent_id)

    def start(self, write: Write) -> None:
        """Note a write that has been ordered, or what holds its place."""
        record = write.record
        if record.agent_id in self._writes:
            self._remove(record.agent_id)
        self._writes[record.agent_id] = write
        if not write.removed:
            self._by_kind.setdefault(_kind(record), {})[record.agent_id] = record

    def wait(self, agent_id: str, command: Command) -> None:
        """Let a command wait until the agent's write has ended.

        Raises:
            RefusedError: `overloaded` when too many wait already.
        """
        waiting = self._writes[agent_id].waiting
        if len(waiting) >= MAX_WAITING:
            raise RefusedError("overloaded", f"agent_id: {MAX_WAITING} commands wait for {agent_id!r}; try again later")
        waiting.append(command)

    def end(self, agent_id: str) -> list[Command]:
        """Note that the agent's write has ended; return the commands that waited, oldest first."""
        return self._remove(agent_id).waiting

    def _remove(self, agent_id: str) -> Write:
        write = self._writes.pop(agent_id)
        if not write.removed:
            records = self._by_kind[_kind(write.record)]
            del records[agent_id]
            if not records:
                del self._by_kind[_kind(write.record)]
        return write

    def check_room(self) -> None:
        """Refuse more work than can be kept in memory.

        Raises:
            RefusedError: `overloaded`.
        """
        if len(self._writes) >= MAX_WRITES:
            raise RefusedError("overloaded", f"{MAX_WRITES} writes are on their way; try again later")

    def claims(self, agent_id: str) -> Iterator[tuple[str, str]]:
        """Yield the claims, with their holders, that writes of other agents are about to make."""
        for other, write in self._writes.items():
            if other != agent_id and not write.removed:
                for claim in write.record.claims:
                    yield claim, other

    def by_kind(self) -> Iterator[tuple[Kind, Iterable[Record]]]:
        """Yield what writes are about to make of agents, by their type and version."""
        for kind, records in self._by_kind.items():
            yield kind, records.values()

    def validate(self) -> None:
        """Check that every write is filed under its agent.

        Raises:
            AssertionError: If one is not.
        """
        for agent_id, write in self._writes.items():
            assert write.record.agent_id == agent_id, agent_id
        filed = {(kind, record.agent_id) for kind, records in self.by_kind() for record in records}
        assert filed == {(_kind(each.record), name) for name, each in self._writes.items() if not each.removed}


def _kind(record: Record) -> Kind:
    return record.agent_type, record.version
