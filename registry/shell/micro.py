"""The registry as a NATS micro service (ADR-32): PING, INFO and STATS under `$SRV`.

Answered here instead of by `nats.micro`, which hides a service without a description from the `nats` CLI, leaves
requests unanswered when it stops, sends exception texts to callers and does not count the time of work that outlives
its handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from registry.shell.bus_nats import Bus, Message

_TYPE = "io.nats.micro.v1."


@dataclass(slots=True)
class Endpoint:
    """One endpoint and what was counted of it. Times are nanoseconds from arrival to answer."""

    name: str
    subject: str
    queue_group: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0
    errors: int = 0
    nanoseconds: int = 0
    last_error: str = ""

    def succeeded(self, nanoseconds: int) -> None:
        """Count a request that was answered."""
        self.requests += 1
        self.nanoseconds += nanoseconds

    def failed(self, nanoseconds: int, error: str) -> None:
        """Count a request that was answered with an error."""
        self.requests += 1
        self.errors += 1
        self.nanoseconds += nanoseconds
        self.last_error = error


class MicroService:
    """Answers `$SRV` for the registry.

    Args:
        name: Name of the service.
        instance: Id of this replica.
        version: Version of the software, strict SemVer.
        metadata: Strings that describe this replica.
        endpoints: What it serves.
    """

    def __init__(
        self, name: str, instance: str, version: str, metadata: Mapping[str, str], endpoints: list[Endpoint]
    ) -> None:
        self._name = name
        self._instance = instance
        self._identity = {"name": name, "id": instance, "version": version, "metadata": dict(metadata)}
        self._endpoints = endpoints
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")

    async def start(self, bus: Bus) -> None:
        """Answer from now on."""
        for verb, answer in (("PING", self.ping), ("INFO", self.info), ("STATS", self.stats)):

            async def respond(msg: Message, answer: Any = answer) -> None:
                inbox = bus.inbox(msg.reply)
                if inbox:
                    await bus.publish(inbox, orjson.dumps(answer()))

            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{self._name}", f"$SRV.{verb}.{self._name}.{self._instance}"):
                await bus.subscribe(subject, respond)

    def ping(self) -> dict[str, Any]:
        """Return the PING response."""
        return {"type": f"{_TYPE}ping_response", **self._identity}

    def info(self) -> dict[str, Any]:
        """Return the INFO response."""
        endpoints = [
            {"name": e.name, "subject": e.subject, "queue_group": e.queue_group, "metadata": dict(e.metadata)}
            for e in self._endpoints
        ]
        return {
            "type": f"{_TYPE}info_response",
            **self._identity,
            "description": "Registry of agents: register, discover, watch, scale",
            "endpoints": endpoints,
        }

    def stats(self) -> dict[str, Any]:
        """Return the STATS response."""
        endpoints = [
            {
                "name": e.name,
                "subject": e.subject,
                "queue_group": e.queue_group,
                "num_requests": e.requests,
                "num_errors": e.errors,
                "last_error": e.last_error,
                "processing_time": e.nanoseconds,
                "average_processing_time": e.nanoseconds // e.requests if e.requests else 0,
            }
            for e in self._endpoints
        ]
        return {"type": f"{_TYPE}stats_response", **self._identity, "started": self._started, "endpoints": endpoints}
