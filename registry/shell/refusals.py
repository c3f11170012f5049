"""What replicas tell the leader, who publishes: whom they refused for a conflict."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import orjson
from pydantic import Field, Strict

from agents_sdk.protocol.codec import adapter, check, parse
from agents_sdk.protocol.errors import RegistryError
from agents_sdk.protocol.fields import AgentId, Text
from agents_sdk.protocol.model import Telemetry
from agents_sdk.protocol.vocabulary import ConflictKind
from registry.core.clash import Clash
from registry.shell.logs import get_logger
from registry.shell.trouble import Trouble

MAX_MESSAGE = 8192
"""Characters; the longest names 64 capabilities."""

_trouble = Trouble(get_logger(__name__))


class _Refusal(Telemetry):
    """A clash on its way; anybody may have sent it."""

    kind: ConflictKind
    name: Text
    """Of a claim or a rule."""
    agent_id: AgentId
    other: AgentId | None
    message: Annotated[str, Strict(), Field(max_length=MAX_MESSAGE)]


_REFUSAL = adapter(_Refusal)


def encode_refusal(clash: Clash) -> bytes:
    """Return what is sent."""
    return orjson.dumps(asdict(clash))


def refusal_in(payload: bytes) -> Clash | None:
    """Return what was sent; None, logged, if it is nothing that a replica would send."""
    try:
        told = check(_REFUSAL, parse(payload))
    except RegistryError as error:
        _trouble.warning("refusal_unreadable", error=str(error))
        return None
    return Clash(str(told.kind), told.name, told.agent_id, told.other, told.message)
