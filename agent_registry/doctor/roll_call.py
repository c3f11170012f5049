"""Which replicas of the registry there are, whoever says so, and what each says of itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_registry.doctor.facts import Replica, Unseen, Why
from agent_registry.doctor.inquiry import Inquiry
from agents_sdk.protocol.subjects import REPLICAS, STATS, Subjects

CONNECTION_NAME = re.compile(r"agent-registry:([A-Za-z0-9_-]+)")
"""How a replica names its connection."""


@dataclass
class RollCall:
    """Who says that which replica exists."""

    presences: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each says of itself."""
    named_by: dict[str, set[str]] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    """As whom they are connected."""
    denied: bool = False
    """Whether NATS does not let this user ask replicas."""

    def name(self, replica: str, by: str) -> None:
        """Note that a replica exists, and who says so."""
        self.named_by.setdefault(replica, set()).add(by)


async def call_roll(inquiry: Inquiry, subjects: Subjects) -> RollCall:
    """Return which replicas there are: those that say so, and those that are connected."""
    roll_call, everybody = RollCall(), subjects.operation(REPLICAS)
    presences, services, connections = await asyncio.gather(
        inquiry.ask_all(everybody),
        inquiry.ask_all(f"$SRV.PING.{subjects.service}"),
        inquiry.ask_all("$SYS.REQ.ACCOUNT.PING.CONNZ", {"filter_subject": everybody, "auth": True}),
    )
    roll_call.denied = isinstance(presences, Unseen) and presences.why is Why.FORBIDDEN
    for presence in () if isinstance(presences, Unseen) else presences:
        roll_call.presences[presence["replica"]] = presence
        roll_call.name(presence["replica"], "replicas")
    for service in () if isinstance(services, Unseen) else services:
        roll_call.name(service["id"], "$SRV.PING")
    for answer in () if isinstance(connections, Unseen) else connections:
        for connection in answer.get("data", {}).get("connections") or ():
            if named := CONNECTION_NAME.fullmatch(connection.get("name", "")):
                roll_call.name(named[1], "connection")
                roll_call.users.add(connection.get("authorized_user", ""))
    return roll_call


async def ask_replicas(inquiry: Inquiry, subjects: Subjects, roll_call: RollCall) -> tuple[Replica, ...]:
    """Return what every replica that somebody named says of itself now."""
    names = sorted(roll_call.named_by)
    answers = await asyncio.gather(*(inquiry.ask(subjects.operation(STATS, replica_id=name)) for name in names))
    replicas = (_replica(name, answer, roll_call) for name, answer in zip(names, answers, strict=True))
    return tuple(replica for replica in replicas if replica is not None)


def _replica(name: str, answer: dict[str, Any] | Unseen, roll_call: RollCall) -> Replica | None:
    """Return what is known of a replica; None if it has left meanwhile, or is not for this user."""
    named_by, before = frozenset(roll_call.named_by[name]), roll_call.presences.get(name)
    if isinstance(answer, Unseen):
        if answer.why is Why.UNSERVED and before is None:
            return Replica(name, frozenset({"lease"}), answers=False) if "lease" in named_by else None
        if answer.why is Why.FORBIDDEN and before is None:
            return None  # nothing can be said of it
        if answer.why is Why.SILENT or before is None:
            return Replica(name, named_by, answers=False)
        answer = dict(before)  # its statistics are not for this user, or not served by its version
    nats = answer.get("nats", {})
    return Replica(
        name,
        named_by,
        leader=bool(answer["leader"]),
        epoch=answer["leader_epoch"],
        revision_before=(before or answer)["revision"],
        revision=answer["revision"],
        agents=answer["registered_agents"],
        uptime=answer["uptime"],
        version=answer["version"],
        dropped=nats.get("slow_consumer_drops", 0),
        resyncs=nats.get("resyncs", 0),
        watched=answer.get("connections_watched"),
    )
