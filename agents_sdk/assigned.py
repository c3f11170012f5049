"""Assigned work on an agent's side: which assignment a request is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from agents_sdk.protocol.topics import ASSIGNMENT_HEADER, TOKEN_HEADER

MAX_DIGITS = 19
"""Of a token: it is a revision, which has 64 bits."""


@dataclass(frozen=True, slots=True)
class AssignedWork:
    """What a request says of its assignment."""

    assignment_id: str
    fencing_token: int | None
    """To be passed on to whatever refuses a lower one than it has seen; None if the request has none that is one."""


_current: ContextVar[AssignedWork | None] = ContextVar("assigned", default=None)


def assigned_work() -> AssignedWork | None:
    """Return which assignment the request is for that a handler works on; None if it came without one.

    When the work ends later than the answer, `Agent.release` says when, and the caller leaves that to the agent.
    """
    return _current.get()


@contextmanager
def working(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Have `assigned_work` return what the headers of a request say, for as long as it is worked on."""
    headers = headers or {}
    assignment_id, token = headers.get(ASSIGNMENT_HEADER), headers.get(TOKEN_HEADER, "")
    work = None
    if assignment_id:
        is_one = token.isascii() and token.isdecimal() and len(token) <= MAX_DIGITS
        work = AssignedWork(assignment_id, int(token) if is_one else None)
    reset = _current.set(work)
    try:
        yield
    finally:
        _current.reset(reset)
