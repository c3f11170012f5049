"""An agent as a NATS micro service (ADR-32), so that `nats micro ls`, `info` and `stats` show it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg

from agents_sdk.connection import Callback, Connection
from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.subjects import agent_topic

_TYPE = "io.nats.micro.v1."
_SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(slots=True)
class Counts:
    """What was counted of one topic."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    """Time from arrival to answer, summed up."""
    last_error: str = ""


class MicroService:
    """Answers PING, INFO and STATS for an agent.

    Args:
        agent_id: The agent.
        agent_type: Becomes the service's name.
        instance_id: Becomes the service's id.
        version: The agent's; 0.0.0 where it is not SemVer, which the `nats` CLI asks for.
        counts: Topic to what was counted of it.
    """

    def __init__(
        self, agent_id: str, agent_type: str, instance_id: str, version: str, counts: Mapping[str, Counts]
    ) -> None:
        self._name = service_name(agent_type)
        self._id = instance_id
        self._agent_id = agent_id
        self._counts = counts
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._identity = {
            "name": self._name,
            "id": instance_id,
            "version": version if _SEMVER.fullmatch(version) else "0.0.0",
            "metadata": {"agent_id": agent_id, "agent_type": agent_type, "agent_version": version},
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
        endpoints = [{**self._endpoint(topic), "metadata": {}} for topic in self._counts]
        # Without a description the `nats` CLI hides a service.
        description = f"Agent {self._agent_id}"
        return {"type": f"{_TYPE}info_response", **self._identity, "description": description, "endpoints": endpoints}

    def stats(self) -> dict[str, Any]:
        """Return the STATS response; its times are nanoseconds."""
        endpoints = [
            {
                **self._endpoint(topic),
                "num_requests": counts.requests,
                "num_errors": counts.errors,
                "last_error": counts.last_error,
                "processing_time": int(counts.seconds * 1e9),
                "average_processing_time": int(counts.seconds * 1e9 / counts.requests) if counts.requests else 0,
            }
            for topic, counts in self._counts.items()
        ]
        return {"type": f"{_TYPE}stats_response", **self._identity, "started": self._started, "endpoints": endpoints}

    def _endpoint(self, topic: str) -> dict[str, str]:
        subject = agent_topic(self._agent_id, topic)
        return {"name": service_name(topic), "subject": subject, "queue_group": ""}


def service_name(text: str) -> str:
    """Return `text` as a name that ADR-32 accepts."""
    return _NO_NAME.sub("-", text)
