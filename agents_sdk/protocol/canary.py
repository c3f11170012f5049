"""Canaries: requests with a known answer, which an agent declares and the registry sends to it from time to time."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import AfterValidator, Field, Strict

from agents_sdk.protocol.fields import MAX_METADATA_BYTES, SUBJECT_PATTERN, Capability, JsonObject
from agents_sdk.protocol.model import Command

CANARY_HEADER = "Registry-Canary"
"""Header of a request that is a canary, with the value 1: real work has none."""

MAX_CANARIES = 16

Topic = Annotated[str, Strict(), Field(max_length=256, pattern=SUBJECT_PATTERN)]
CanaryTimeout = Annotated[float, Strict(), Field(ge=0.05, le=60.0, allow_inf_nan=False)]
CanaryPeriod = Annotated[float, Strict(), Field(ge=1.0, le=86_400.0, allow_inf_nan=False)]
"""Seconds."""


class DeclaredCanary(Command):
    """A canary as it stands in a registration."""

    topic: Topic
    """Topic of the agent that it is sent to, as `agent.<agent_id>.<topic>`."""
    payload: JsonObject = Field(default_factory=dict)
    """The request."""
    expect: JsonObject = Field(default_factory=dict)
    """Fields that the answer must have, with equal values; when empty, any answer will do that is no error."""
    timeout: CanaryTimeout = 2.0
    """Seconds that the answer may take."""
    period: CanaryPeriod = 60.0
    """Seconds between two of them."""


def _check_size(canaries: dict[str, DeclaredCanary]) -> dict[str, DeclaredCanary]:
    if not canaries:
        return canaries
    size = len(orjson.dumps({name: canary.model_dump() for name, canary in canaries.items()}))
    if size > MAX_METADATA_BYTES:  # they come back with the agent as metadata does
        raise ValueError(f"must be at most {MAX_METADATA_BYTES} bytes as JSON, all together; are {size}")
    return canaries


Canaries = Annotated[dict[Capability, DeclaredCanary], Field(max_length=MAX_CANARIES), AfterValidator(_check_size)]
"""Capability to the canary that shows whether it works."""
