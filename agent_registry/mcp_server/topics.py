"""The topics that an agent answers, which it tells itself: the registry knows only whether it is there."""

from __future__ import annotations

import orjson
from nats.errors import NoRespondersError

from agents_sdk.connection import Connection
from agents_sdk.micro import service_name
from agents_sdk.protocol.discovery import AgentInfo
from agents_sdk.protocol.errors import ForbiddenError
from agents_sdk.protocol.subjects import agent_topic

TIMEOUT = 0.5
"""Seconds to wait for the agent."""


async def topics_of(connection: Connection, agent: AgentInfo) -> list[str] | None:
    """Return an agent's topics as its micro service tells them (ADR-32); None if it does not.

    Of an adopted service they are its endpoints, which it was asked for when it was met.

    Raises:
        UnavailableError: If NATS is away.
    """
    if agent.adopted is not None:
        return sorted(agent.adopted.endpoints)
    if agent.instance_id is None:
        return None
    subject = f"$SRV.INFO.{service_name(agent.agent_type)}.{agent.instance_id}"
    try:
        reply = await connection.request(subject, b"", TIMEOUT)
        subjects = [endpoint["subject"] for endpoint in orjson.loads(reply.data)["endpoints"]]
    except (NoRespondersError, TimeoutError, ForbiddenError):
        return None  # it is gone, has no SDK, or this user may not ask it: what the registry knows is worth showing
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None  # whatever answers there is no micro service
    own = agent_topic(agent.agent_id, "")
    return sorted(each.removeprefix(own) for each in subjects if each.startswith(own))
