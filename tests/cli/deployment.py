"""Facts of a deployment that is well, to be changed by tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent_registry.doctor.facts import Facts, Lease, Peer, Projection, Replica, Server, Stream
from agents_sdk.protocol.subjects import Subjects

NS = 1_000_000_000

AGENTS: dict[str, Any] = {
    "name": "KV_registry_agents",
    "subjects": ["$KV.registry_agents.>"],
    "retention": "limits",
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "max_msgs_per_subject": 8,
    "max_msg_size": -1,
    "discard": "new",
    "storage": "file",
    "num_replicas": 1,
    "duplicate_window": 120 * NS,
    "allow_direct": True,
    "allow_rollup_hdrs": True,
    "allow_msg_ttl": True,
    "sealed": False,
}
CONTROL = {**AGENTS, "name": "KV_registry_control", "subjects": ["$KV.registry_control.>"], "max_msgs_per_subject": 1}
EVENTS = {
    **AGENTS,
    "name": "REGISTRY_EVENTS",
    "subjects": ["registry.events.>"],
    "max_bytes": 1024**3,
    "max_age": 7 * 86_400 * NS,
    "max_msgs_per_subject": -1,
    "discard": "old",
}


def stream(config: dict[str, Any], servers: int = 1, **settings: Any) -> Stream:
    """A stream on n1 and as many more servers as it has copies."""
    config = {**config, "num_replicas": servers, **settings}
    peers = tuple(Peer(f"n{number}", current=True, offline=False) for number in range(2, servers + 1))
    return Stream(config["name"], config, last_seq=12, leader="n1", peers=peers)


def agents(servers: int = 1, **settings: Any) -> Stream:
    """The bucket of agents."""
    return stream(AGENTS, servers, **settings)


def control(servers: int = 1, **settings: Any) -> Stream:
    """The bucket of lease and policies."""
    return stream(CONTROL, servers, **settings)


def events(servers: int = 1, **settings: Any) -> Stream:
    """The stream of events."""
    return stream(EVENTS, servers, **settings)


def server(number: int = 1, **changed: Any) -> Server:
    """One server, on a machine of its own, which syncs every two minutes."""
    made = Server(f"n{number}", "2.15.1", f"10.0.0.{number}", "east", jetstream=True, sync=120.0)
    return replace(made, **changed)


def replica(name: str = "one", **changed: Any) -> Replica:
    """A replica that is well and does not lead."""
    made = Replica(
        name,
        frozenset({"replicas", "$SRV.PING", "connection"}),
        revision_before=12,
        revision=12,
        version="0.1.0",
        watched=True,
    )
    return replace(made, **changed)


LEADER = replica(leader=True, epoch=3)


def facts(many: int = 1, /, **changed: Any) -> Facts:
    """A deployment that is well, with so many servers, and as many copies."""
    well = Facts(
        where="nats://10.0.0.1:4222",
        subjects=Subjects(),
        connected=server(),
        servers=tuple(server(number) for number in range(1, many + 1)),
        agents=agents(many),
        control=control(many),
        events=events(many),
        account="AGENTS",
        newest_revision=12,
        lease=Lease("one", 3, 1.5),
        led_for=720.0,
        replicas=(LEADER,),
        projection=Projection(12, 12),
    )
    return replace(well, **changed)
