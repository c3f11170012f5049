"""What is asked of many agents, and how long that may take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, Strict

from agents_sdk.protocol.canary import Topic
from agents_sdk.protocol.codec import adapter, check
from agents_sdk.protocol.discovery import MAX_LIMIT
from agents_sdk.protocol.fields import Seconds
from agents_sdk.protocol.model import Command
from agents_sdk.quorum import Quorum, check_quorum, needed
from agents_sdk.requester import encode_fields


class _Bounds(Command):
    """What a question has to keep to."""

    topic: Topic
    n: Annotated[int, Strict(), Field(ge=1, le=MAX_LIMIT)] | None = None
    deadline: Annotated[Seconds, Field(gt=0.0)] = 1.0


_BOUNDS = adapter(_Bounds)


def check_topic(topic: str) -> None:
    """Refuse what agents cannot be asked on.

    Raises:
        InvalidRequestError: If it is no topic.
    """
    check(_BOUNDS, {"topic": topic})


class Question:
    """One request for many agents; its time runs from now.

    Args:
        topic: Topic that the agents handle.
        payload: The request, a JSON object.
        n: How many agents to ask, 1 to 1000; all when None.
        quorum: How many of them have to give a good answer; None to wait for all, and be content with what comes.
        deadline: Seconds that this takes at most, above 0 and up to 86400.

    Raises:
        InvalidRequestError: Naming the field.
    """

    def __init__(
        self,
        topic: str,
        payload: Mapping[str, Any] | None,
        n: int | None,
        quorum: Quorum | None,
        deadline: float,
    ) -> None:
        check(_BOUNDS, {"topic": topic, "n": n, "deadline": deadline})
        check_quorum(quorum, n)
        self.topic = topic
        self.body = encode_fields(payload or {})
        self.n = n
        self.within = deadline
        self.deadline = time.monotonic() + deadline
        """Instant, of `time.monotonic`."""
        self._quorum = quorum

    @property
    def left(self) -> float:
        """Seconds until the deadline, 0 once it is over."""
        return max(0.0, self.deadline - time.monotonic())

    def needed(self, found: int) -> int:
        """Return how many good answers the quorum is; 0 without one.

        A share is of those that were to be asked: fewer than `n` that match make it no smaller.

        Args:
            found: How many agents match.
        """
        return needed(self._quorum, found if self.n is None else self.n)
