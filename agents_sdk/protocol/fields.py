"""The field types that several messages share, with their units and bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, Strict

MAX_METADATA_BYTES = 16 * 1024
"""Metadata larger than this, as JSON, is refused: it is copied into every reply that names the agent."""

MAX_NESTING = 64
"""Deepest nesting of arrays and objects accepted in free-form values."""

AGENT_ID_PATTERN = r"^[A-Za-z0-9_-]{1,128}$"
"""An agent id is a single NATS subject token and a KV key, so it has no dots, spaces or wildcards."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}$"
CAPABILITY_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
RULE_NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
SUBJECT_PATTERN = r"^[^\s.*>]+(\.[^\s.*>]+)*$"
HEALTH_SUBJECT_PATTERN = r"^[^\s.*>$_][^\s.*>]*(\.[^\s.*>]+)*$"
"""The registry sends to it with rights of its own. What begins with `$` or `_` is the server's or an inbox.
The registry's own subjects are refused as well, but by the registry alone: it knows its prefix."""

PATTERN_IN_WORDS = {
    AGENT_ID_PATTERN: "1 to 128 characters of A-Z, a-z, 0-9, _ and -",
    NAME_PATTERN: "1 to 128 characters of letters, digits, _ . + and -, a letter or digit first",
    CAPABILITY_PATTERN: "1 to 64 characters of a-z, 0-9, _ and -, a letter or digit first",
    HEALTH_SUBJECT_PATTERN: (
        "a NATS subject without wildcards or spaces, which begins neither with $ nor with _, "
        "such as agent.trader-1.health_check"
    ),
    RULE_NAME_PATTERN: "1 to 64 characters of A-Z, a-z, 0-9, _ and -",
    SUBJECT_PATTERN: "one or more tokens joined by dots, without wildcards or spaces, such as quote or orders.check",
}
"""What each pattern accepts, for error texts."""


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def nesting(value: Any) -> int:
    """Return how deep arrays and objects nest in `value`; a scalar is 0."""
    depth, level = 0, [value]
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list | tuple):
                inner.extend(item)
        if not any(isinstance(item, dict | list | tuple) for item in level):
            break
        depth, level = depth + 1, inner
    return depth


def _check_object(value: dict[str, Any]) -> dict[str, Any]:
    if not value:
        return value
    depth = nesting(value)
    if depth > MAX_NESTING:
        raise ValueError(f"must nest at most {MAX_NESTING} levels; nests {depth}")
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise ValueError(f"must be JSON: {error}") from error
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"must be at most {MAX_METADATA_BYTES} bytes as JSON; is {size}")
    return value


def sorted_unique(values: Iterable[str]) -> tuple[str, ...]:
    """Return a set as it travels: in order, each once."""
    return tuple(sorted(set(values)))


MAX_TEXT = 256

Text = Annotated[str, Strict(), Field(max_length=MAX_TEXT)]
"""A short text for people."""

AgentId = Annotated[str, Strict(), Field(pattern=AGENT_ID_PATTERN)]

Name = Annotated[str, Strict(), Field(pattern=NAME_PATTERN)]

Capability = Annotated[str, Strict(), Field(pattern=CAPABILITY_PATTERN), BeforeValidator(_lower)]
"""A capability name, read case-insensitively; whether it is known is the registry's to say.

The pattern is of the name in lower case. It comes before the validator here, which runs first all the same, so that
schemas show it.
"""

HealthSubject = Annotated[str, Strict(), Field(max_length=256, pattern=HEALTH_SUBJECT_PATTERN)]

Capabilities = Annotated[tuple[Capability, ...], AfterValidator(sorted_unique), Field(min_length=1, max_length=64)]
Names = Annotated[tuple[Name, ...], AfterValidator(sorted_unique), Field(max_length=64)]

Score = Annotated[float, Strict(), Field(ge=0.0, le=1.0, allow_inf_nan=False)]
"""A number from 0.0 to 1.0."""

Seconds = Annotated[float, Strict(), Field(ge=0.0, le=86_400.0, allow_inf_nan=False)]
Timestamp = Annotated[float, Strict(), Field(ge=0.0, allow_inf_nan=False)]
"""Unix time in seconds."""

HeartbeatInterval = Annotated[float, Strict(), Field(ge=0.1, le=3600.0, allow_inf_nan=False)]
HeartbeatTimeout = Annotated[float, Strict(), Field(ge=0.2, le=86_400.0, allow_inf_nan=False)]
"""Seconds."""

Concurrency = Annotated[int, Strict(), Field(ge=1, le=100_000)]
Count = Annotated[int, Strict(), Field(ge=0, le=2**53)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]

JsonObject = Annotated[dict[str, Any], AfterValidator(_check_object)]
Numbers = Annotated[dict[Annotated[str, Field(min_length=1, max_length=64)], Number], Field(max_length=64)]
"""Name to number, 64 at most."""
