"""An agent as a NATS micro service (ADR-32), so that `nats micro ls`, `info` and `stats` show it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg

from agents_sdk.connection import Callback, Connection
from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.errors import RegistryError

_TYPE = "io.nats.micro.v1."
_SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(slots=True)
class Counts:
    """What was counted of one endpoint."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    """Time from arrival to answer, summed up."""
    last_error: str = ""

    def add(self, seconds: float, error: RegistryError | None = None) -> None:
        """Count a request that is done, and took so many seconds."""
        self.requests += 1
        self.seconds += seconds
        if error is not None:
            self.errors += 1
            self.last_error = f"{error.status}:{error.message}"


@dataclass(eq=False)
class Endpoint:
    """One thing that a service does: where it is asked for it, and what was counted of it."""

    name: str
    subject: str
    queue: str = ""
    """Queue group of those that share the requests; empty for none."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)


class MicroService:
    """Answers PING, INFO and STATS for an agent.

    Args:
        name: The service's; several may have it.
        instance_id: Becomes the service's id.
        version: The agent's; 0.0.0 is shown where it is not SemVer, which the `nats` CLI asks for.
        description: For people. Without one the `nats` CLI hides a service.
        metadata: What else it says of itself.
        endpoints: What it does.
    """

    def __init__(
        self,
        name: str,
        instance_id: str,
        version: str,
        description: str,
        metadata: Mapping[str, str],
        endpoints: Collection[Endpoint],
    ) -> None:
        self._name = service_name(name)
        self._id = instance_id
        self._description = description
        self._endpoints = endpoints
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._identity = {
            "name": self._name,
            "id": instance_id,
            "version": version if _SEMVER.fullmatch(version) else "0.0.0",
            "metadata": dict(metadata),
        }

    @property
    def subjects(self) -> tuple[str, ...]:
        """Where it is asked."""
        return ("$SRV.*", f"$SRV.*.{self._name}", f"$SRV.*.{self._name}.{self._id}")

    def responder(self, connection: Connection) -> Callback:
        """Return what answers on `subjects`."""
        verbs: dict[str, Callable[[], dict[str, Any]]] = {"PING": self.ping, "INFO": self.info, "STATS": self.stats}

        async def respond(msg: Msg) -> None:
            verb = verbs.get(msg.subject.split(".")[1])
            if verb is not None and msg.reply:
                await connection.publish(msg.reply, encode(verb()))

        return respond

    def ping(self) -> dict[str, Any]:
        """Return the PING response."""
        return {"type": f"{_TYPE}ping_response", **self._identity}

    def info(self) -> dict[str, Any]:
        """Return the INFO response."""
        endpoints = [{**_listed(each), "metadata": dict(each.metadata)} for each in self._endpoints]
        return {
            "type": f"{_TYPE}info_response",
            **self._identity,
            "description": self._description,
            "endpoints": endpoints,
        }

    def stats(self) -> dict[str, Any]:
        """Return the STATS response; its times are nanoseconds."""
        endpoints = [
            {
                **_listed(each),
                "num_requests": each.counts.requests,
                "num_errors": each.counts.errors,
                "last_error": each.counts.last_error,
                "processing_time": int(each.counts.seconds * 1e9),
                "average_processing_time": int(each.counts.seconds * 1e9 / max(1, each.counts.requests)),
            }
            for each in self._endpoints
        ]
        return {"type": f"{_TYPE}stats_response", **self._identity, "started": self._started, "endpoints": endpoints}


def service_name(text: str) -> str:
    """Return `text` as a name that ADR-32 accepts."""
    return _NO_NAME.sub("-", text)


def _listed(endpoint: Endpoint) -> dict[str, str]:
    return {"name": service_name(endpoint.name), "subject": endpoint.subject, "queue_group": endpoint.queue}
