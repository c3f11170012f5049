"""An assignment in the hands of whoever asked for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from nats.errors import NoRespondersError

from agents_sdk.assigned import ASSIGNMENT_HEADER, TOKEN_HEADER
from agents_sdk.connection import Connection
from agents_sdk.protocol.assignments import Grant
from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.discovery import AgentInfo
from agents_sdk.protocol.errors import RegistryError, UnavailableError
from agents_sdk.protocol.subjects import agent_topic
from agents_sdk.replies import ELSEWHERE, AgentCallError, NotBegunError, answer_in
from agents_sdk.tracing import outgoing_headers

logger = logging.getLogger(__name__)


class Assignment:
    """Slots of an agent, reserved until the assignment is released, its time is over, or its agent is gone.

    Used as an async context manager it releases them at its end. `RegistryClient.events("assignment")` tells of
    those that end before.

    Args:
        grant: What the registry answered.
        connection: The way to NATS.
        release: Releases an assignment by its id.
    """

    def __init__(self, grant: Grant, connection: Connection, release: Callable[[str], Awaitable[bool]]) -> None:
        self._grant = grant
        self._connection = connection
        self._release = release

    def __repr__(self) -> str:
        return f"<Assignment {self.assignment_id} of {self.agent.agent_id} for {self.task_id!r}>"

    @property
    def assignment_id(self) -> str:
        """Its id."""
        return self._grant.assignment_id

    @property
    def task_id(self) -> str:
        """Names the task: asked for again with it, the answer is this assignment as long as it lives."""
        return self._grant.task_id

    @property
    def agent(self) -> AgentInfo:
        """Whose slots they are, as it was then."""
        return self._grant.agent

    @property
    def slots(self) -> int:
        """How many."""
        return self._grant.slots

    @property
    def fencing_token(self) -> int:
        """Grows with each assignment: whoever guards a resource refuses a lower one than it has seen."""
        return self._grant.fencing_token

    @property
    def assigned_at(self) -> float:
        """Unix time in seconds."""
        return self._grant.assigned_at

    @property
    def expires_at(self) -> float:
        """Unix time in seconds at which it ends by itself."""
        return self._grant.expires_at

    async def call(
        self,
        topic: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float = 5.0,  # noqa: ASYNC109 - says what failed
    ) -> Any:
        """Have the agent do something, and return its answer. It is asked once.

        It can tell from the request's headers which assignment it is for: `Agent-Registry-Assignment` has the id,
        `Agent-Registry-Fencing-Token` the token; a handler of the SDK asks `assigned_work()`.

        Args:
            topic: Topic that the agent handles.
            payload: The request, a JSON object.
            timeout: Seconds that the answer may take.

        Raises:
            AgentCallError: If the agent answers with an error.
            NotBegunError: If it is not there, or has too much to do, or is leaving.
            UnavailableError: If it does not answer in time; it may have begun then.
        """
        agent_id, deadline = self.agent.agent_id, time.monotonic() + timeout
        own = {ASSIGNMENT_HEADER: self.assignment_id, TOKEN_HEADER: str(self.fencing_token)}
        headers = {**(outgoing_headers() or {}), **own}
        body = encode(payload or {})
        try:
            left = deadline - time.monotonic()
            reply = await self._connection.request(agent_topic(agent_id, topic), body, left, headers)
        except NoRespondersError:
            raise NotBegunError(f"{agent_id}: nobody listens to {topic!r}") from None
        except TimeoutError:
            raise UnavailableError(f"{agent_id}: no answer within {timeout:g} s; it may have begun") from None
        try:
            return answer_in(agent_id, reply)
        except AgentCallError as error:
            if error.status in ELSEWHERE:
                raise NotBegunError(str(error)) from error
            raise

    async def release(self) -> bool:
        """End it: its work is done. Returns False if it has ended before."""
        return await self._release(self.assignment_id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.release()
        except RegistryError as failure:  # what was done counts; it ends by itself
            logger.warning("%r was not released and ends at %.3f: %s", self, self.expires_at, failure)
