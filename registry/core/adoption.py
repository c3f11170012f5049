"""Adoption: which services become agents, and whose turn it is to be asked.

Traffic has bounds, however many services there are: they are called less often when many answer, and each kind of
question goes to so many of them in a second and no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice

from registry.core.record import Record
from registry.core.service import MICRO, SYNADIA, SYNADIA_SERVICE, Sample, Service

RATE = 100
"""Services asked in a second at most, with each kind of question; and answers to calls in a second, on average."""

MAX_ASKED = 64
"""Services that are asked at once what they are."""

MAX_NEWCOMERS = 10_000
"""Services that wait to be asked what they are; others are met at a later call."""

MAX_SHUNNED = 10_000
"""Services remembered that could not be adopted."""

SHUNNED_FOR = 60.0
"""Seconds until one of these is looked at again; what a service says of itself never changes, settings do."""

_WILD = frozenset("*?")


class Adoption:
    """What one replica knows of services that it adopts, or has adopted. Instants are monotonic seconds.

    Args:
        protocols: As what services are adopted, see `service.PROTOCOLS`; none for none.
        names: Patterns of the names of micro services, as in a shell.
        interval: Seconds between two calls, and between two looks at the work of one, when they are few.
    """

    def __init__(
        self, protocols: Collection[str] = (), names: Collection[str] = ("*",), interval: float = 10.0
    ) -> None:
        self.protocols = frozenset(protocols)
        self._names = tuple(names)
        self._interval = interval
        self.agents: dict[str, tuple[object, object]] = {}
        """Adopted agents, each with its connection as server and client; of both None where that is not known."""
        self._by_connection: dict[tuple[object, object], dict[str, None]] = {}
        self.strayed: dict[str, None] = {}
        """Adopted agents whose connection may be another one than is known."""
        self.samples: dict[str, Sample] = {}
        self._call_at = 0.0
        self._answers = 0
        """To the last call."""
        self._newcomers: dict[str, Service] = {}
        self._asked: dict[str, Service] = {}
        """Services that are asked what they are."""
        self._shunned: dict[str, float] = {}
        """Services that are not looked at before an instant, those earliest that were shunned first."""
        self._turns: dict[str, float] = {}
        """Adopted agents by the instant at which they are asked for their work, the earliest first."""

    def protocol_of(self, name: str) -> str | None:
        """Return as what a service of a name is adopted; None if it is not."""
        if name == SYNADIA_SERVICE and SYNADIA in self.protocols:
            return SYNADIA
        wanted = MICRO in self.protocols and any(fnmatchcase(name, pattern) for pattern in self._names)
        return MICRO if wanted else None

    def calls(self) -> list[str]:
        """Return the subjects on which those services answer that are adopted; others than they may, too."""
        names: list[str] = []
        if MICRO in self.protocols:
            if any(_WILD.intersection(pattern) for pattern in self._names):
                return ["$SRV.PING"]
            names += self._names
        if SYNADIA in self.protocols:
            names.append(SYNADIA_SERVICE)
        return [f"$SRV.PING.{name}" for name in dict.fromkeys(names)]

    def call_is_due(self, at: float) -> bool:
        """Return whether services are to be called now; then they are not for a while."""
        if not self.protocols or at < self._call_at:
            return False
        self._call_at = at + max(self._interval, self._answers / RATE)
        self._answers = 0
        return True

    def answered(self) -> None:
        """Count an answer to a call."""
        self._answers += 1

    # Newcomers.

    def met(self, service: Service, at: float, known: bool = False) -> None:
        """Take note of a service of which it is to be known what it is.

        Args:
            service: Which.
            at: The instant now.
            known: Whether it is adopted, and only its connection may be another one.
        """
        if service.id in self._newcomers or service.id in self._asked or len(self._newcomers) >= MAX_NEWCOMERS:
            return
        if known or at >= self._shunned.get(service.id, at):
            self._newcomers[service.id] = service

    def to_ask(self, count: int) -> list[Service]:
        """Return whom to ask now what they are, at most so many; they are under way from then on."""
        services = list(islice(self._newcomers.values(), max(0, min(count, MAX_ASKED - len(self._asked)))))
        for service in services:
            self._asked[service.id] = self._newcomers.pop(service.id)
        return services

    def told(self, service_id: str) -> Service | None:
        """Take note that one has been asked; return it if it was under way."""
        return self._asked.pop(service_id, None)

    def shun(self, service_id: str, at: float) -> None:
        """Leave a service alone for a while: it cannot be adopted."""
        self._shunned.pop(service_id, None)
        if len(self._shunned) >= MAX_SHUNNED:
            del self._shunned[next(iter(self._shunned))]
        self._shunned[service_id] = at + SHUNNED_FOR

    # Their work.

    def take_turns(self, agent_id: str, at: float, chance: float) -> None:
        """Have an agent asked for its work from now on, from some instant within the interval."""
        if agent_id not in self._turns:
            self._turns[agent_id] = at + chance * self._interval

    def turns(self, at: float, count: int) -> Iterator[str]:
        """Yield whose turn it is, at most so many; their next turns come later."""
        pause = max(self._interval, len(self._turns) / RATE)
        for agent_id, due in list(islice(self._turns.items(), count)):
            if due <= at:
                del self._turns[agent_id]
                self._turns[agent_id] = at + pause
                yield agent_id

    def end_turns(self, agent_id: str) -> None:
        """Ask an agent for its work no more."""
        self._turns.pop(agent_id, None)
        self.samples.pop(agent_id, None)

    # Which agents are adopted, and where they are connected.

    def learn(self, record: Record) -> None:
        """Take note of whether an agent is adopted, and of its connection."""
        agent_id, connection = record.agent_id, record.connection or {}
        if record.adopted is None:
            self.remove(agent_id)
            return
        place = (connection.get("server_id"), connection.get("client_id"))
        if self.agents.get(agent_id) == place:
            return
        self.remove(agent_id)
        self.agents[agent_id] = place
        self._by_connection.setdefault(place, {})[agent_id] = None

    def remove(self, agent_id: str) -> None:
        """Forget an agent that is gone, or is not adopted."""
        place = self.agents.pop(agent_id, None)
        if place is not None:
            self.strayed.pop(agent_id, None)
            others = self._by_connection[place]
            del others[agent_id]
            if not others:
                del self._by_connection[place]

    def at_connection(self, server_id: str, client_id: int) -> list[str]:
        """Return the agents of a connection."""
        return list(self._by_connection.get((server_id, client_id), ()))

    def validate(self, records: Iterable[Record]) -> None:
        """Check that those are known that are adopted, and that each is filed under its connection alone.

        Raises:
            AssertionError: If not.
        """
        assert set(self.agents) == {record.agent_id for record in records if record.adopted is not None}
        filed = [(agent_id, place) for place, agents in self._by_connection.items() for agent_id in agents]
        assert sorted(filed, key=repr) == sorted(self.agents.items(), key=repr)
        assert all(self._by_connection.values()), "nobody is filed there any more"
        assert set(self.strayed) <= set(self.agents)

    def begin(self) -> None:
        """Begin to lead: whoever is there is met anew."""
        self._call_at = 0.0
        self._answers = 0
        for known in (self._newcomers, self._asked, self._shunned, self._turns, self.samples):
            known.clear()
        self.stray()

    def stray(self) -> None:
        """Doubt all connections: NATS servers may have gone, which tell of no connection that ended with them."""
        self.strayed = dict.fromkeys(self.agents)
