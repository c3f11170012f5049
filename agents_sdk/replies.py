"""What an agent answers: a value, or an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from nats.aio.msg import Msg

from agents_sdk.protocol.errors import (
    MESSAGE_HEADER,
    STATUS_HEADER,
    InternalError,
    OverloadedError,
    UnavailableError,
)

ELSEWHERE = frozenset((OverloadedError.status, UnavailableError.status))
"""Statuses of replies that say that the agent did not begin."""

_STATUS = re.compile("[0-9]{1,3}")


class AgentCallError(Exception):
    """An agent took the request and answered with an error; it was not sent to another one.

    Attributes:
        agent_id: The agent.
        code: Name of the error, for programs.
        status: Number of the error, as in HTTP.
        message: What the agent says.
    """

    def __init__(self, agent_id: str, code: str, status: int, message: str) -> None:
        super().__init__(f"{agent_id} answered {code} ({status}): {message}")
        self.agent_id = agent_id
        self.code = code
        self.status = status
        self.message = message


class NotBegunError(UnavailableError):
    """The agent did not begin: nobody listens there, it has too much to do, or is leaving. Another one may be asked."""


def answer_in(agent_id: str, reply: Msg) -> Any:
    """Return the value that an agent answered with; None for an empty answer.

    Raises:
        AgentCallError: If it answered with an error, or what is not JSON.
    """
    headers = reply.headers or {}
    status = headers.get(STATUS_HEADER)
    if status is not None:
        raise _call_error(agent_id, status, headers, reply.data)
    try:
        return orjson.loads(reply.data) if reply.data else None
    except orjson.JSONDecodeError as error:
        message = f"what it answered is not JSON: {error}"
        raise AgentCallError(agent_id, InternalError.code, InternalError.status, message) from error


def _call_error(agent_id: str, status: str, headers: Mapping[str, str], data: bytes) -> AgentCallError:
    """Read an error reply: its headers (ADR-32), and its body if it is one of ours."""
    try:
        error = orjson.loads(data)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        code, message = status, headers.get(MESSAGE_HEADER, "no message")
    return AgentCallError(agent_id, code, int(status) if _STATUS.fullmatch(status) else 500, message)
