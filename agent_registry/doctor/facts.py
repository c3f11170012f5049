"""What was seen of a deployment, before anything is concluded from it. Durations are seconds, sizes bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agents_sdk.protocol.subjects import Subjects


class Why(StrEnum):
    """Why something was not seen."""

    ABSENT = "absent"
    """It does not exist."""
    FORBIDDEN = "forbidden"
    """NATS does not let this user ask."""
    UNSERVED = "unserved"
    """Nobody answers such questions here."""
    SILENT = "silent"
    """No answer came in time, or none that says anything."""


@dataclass(frozen=True)
class Unseen:
    """Something that was looked for and not seen."""

    why: Why
    said: str = ""
    """What the server said about it."""


@dataclass(frozen=True)
class Server:
    """One nats-server."""

    name: str
    version: str
    host: str = ""
    """The address on which it listens."""
    cluster: str = ""
    jetstream: bool = True
    sync: float | None = None
    """Longest time until what was written is on disk; 0 when each write waits for that, None when it was not seen."""


@dataclass(frozen=True)
class Usage:
    """How much is used of what is limited; what has no limit is no `Usage`."""

    kind: str
    """`file storage`, `memory`, `streams` or `consumers`."""
    of: str
    """Whose limit it is."""
    used: int
    limit: int
    reserved: int = 0
    """What streams with a limit of their own may still come to use."""


@dataclass(frozen=True)
class Peer:
    """One server that follows a stream's leader."""

    name: str
    current: bool
    offline: bool
    lag: int = 0
    """Operations that it is behind."""


@dataclass(frozen=True)
class Stream:
    """A stream, also when it is a bucket's."""

    name: str
    config: Mapping[str, Any]
    """Settings, as JetStream's API names and counts them."""
    bytes: int = 0
    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0
    leader: str = ""
    """Name of the server."""
    peers: tuple[Peer, ...] = ()

    @property
    def copies(self) -> int:
        """How many servers keep it."""
        return int(self.config.get("num_replicas", 1))

    @property
    def in_memory(self) -> bool:
        """Whether it is kept in memory only."""
        return self.config.get("storage") == "memory"


@dataclass(frozen=True)
class Permissions:
    """What a user may do, in patterns. An empty list of allowed ones allows all."""

    publish_allow: tuple[str, ...] = ()
    publish_deny: tuple[str, ...] = ()
    subscribe_allow: tuple[str, ...] = ()
    subscribe_deny: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lease:
    """The leader's lease, as it stands in the control bucket."""

    replica: str
    """Empty when the last leader handed it over."""
    epoch: int
    age: float
    """Since it was renewed."""


@dataclass(frozen=True)
class Replica:
    """One replica of the registry. The numbers are its own; None when it did not answer."""

    replica: str
    named_by: frozenset[str]
    """Who says that it exists: `replicas`, `$SRV.PING`, `lease`, `connection`."""
    answers: bool = True
    leader: bool = False
    epoch: int = 0
    revision_before: int = 0
    """About a second before `revision`; equal to it when it was asked only once."""
    revision: int = 0
    agents: int = 0
    uptime: float = 0.0
    version: str = ""
    dropped: int = 0
    resyncs: int = 0
    watched: bool | None = None
    """Whether it hears when connections end; None when it does not say."""


@dataclass(frozen=True)
class Gap:
    """The oldest change that has no event."""

    revision: int
    age: float


@dataclass(frozen=True)
class Projection:
    """How far the stream of events tells what happened in the bucket."""

    newest_event: int | None
    """Revision of the newest status event that the stream keeps; None when it keeps none."""
    last_revision: int
    """Of the bucket, when the event was there."""
    gap: Gap | None = None
    searched_to: int | None = None
    """Revision up to which no gap was found, when that is not the newest."""


@dataclass(frozen=True)
class Facts:
    """Everything that was seen."""

    where: str
    """URL of NATS, without a password."""
    subjects: Subjects
    connected: Server
    """The server that was asked."""
    servers: tuple[Server, ...] | Unseen
    agents: Stream | Unseen
    control: Stream | Unseen
    events: Stream | Unseen
    assignments: Stream | Unseen | None = None
    """None when nobody looked."""
    jetstream: Unseen | None = None
    """Why JetStream itself was not seen; None when it was."""
    usages: tuple[Usage, ...] = ()
    user: str = ""
    account: str = ""
    """Of that user; empty when it was not seen."""
    permissions: Permissions | None = None
    """Of the user that asked; None when it is not restricted."""
    registry_users: frozenset[str] = field(default_factory=frozenset)
    """Users as whom replicas are connected."""
    newest_revision: int = 0
    """Of the bucket of agents, before the replicas were asked how far they are."""
    lease: Lease | Unseen = Unseen(Why.ABSENT)
    led_for: float | None = None
    """How long the holder of the lease has led; None when no event tells."""
    replicas: tuple[Replica, ...] = ()
    denied: bool = False
    """Whether NATS does not let this user ask replicas."""
    projection: Projection | Unseen = Unseen(Why.ABSENT)
    wanted_copies: int | None = None
    """What `AGENT_REGISTRY_KV_REPLICAS` says here; None when it is not set."""

    @property
    def seen_servers(self) -> tuple[Server, ...]:
        """Every server that was seen."""
        return (self.connected,) if isinstance(self.servers, Unseen) else self.servers

    @property
    def answering(self) -> tuple[Replica, ...]:
        """The replicas that answer."""
        return tuple(replica for replica in self.replicas if replica.answers)

    @property
    def jetstream_servers(self) -> tuple[Server, ...] | None:
        """The servers that could keep a copy; None when not all were seen."""
        if isinstance(self.servers, Unseen):
            return None
        cluster = self.connected.cluster
        return tuple(server for server in self.servers if server.jetstream and server.cluster == cluster)
