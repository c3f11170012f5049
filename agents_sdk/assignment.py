"""An assignment in the hands of whoever asked for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from agents_sdk.connection import Connection
from agents_sdk.protocol.assignments import Grant
from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.discovery import AgentInfo
from agents_sdk.protocol.errors import NotFoundError, RegistryError, UnavailableError
from agents_sdk.protocol.subjects import ASSIGN, RELEASE
from agents_sdk.protocol.topics import ASSIGNMENT_HEADER, TOKEN_HEADER
from agents_sdk.replies import ELSEWHERE, AgentCallError, NotBegunError, answer_in
from agents_sdk.requester import Requester
from agents_sdk.tracing import outgoing_headers

NEW = 1.0
"""Seconds for which an agent is new: it takes requests a moment after it has registered."""

NEW_PATIENCE = 0.5
"""Seconds for which a new agent that nobody listens for is asked again; it cannot have begun."""

NEW_PAUSE = 0.05

logger = logging.getLogger(__name__)


class Assignment:
    """Slots of an agent, reserved until the assignment is released, its time is over, or its agent is gone.

    Used as an async context manager it releases them at its end. `RegistryClient.events("assignment")` tells of
    those that end before.

    Args:
        grant: What the registry answered.
        ttl: Seconds for which it was asked for.
        connection: The way to NATS.
        requester: Asks the registry.
    """

    def __init__(self, grant: Grant, ttl: float, connection: Connection, requester: Requester) -> None:
        self._grant = grant
        self._ttl = ttl
        self._connection = connection
        self._requester = requester

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
        """Unix time in seconds at which it ends by itself, as far as is known here: others may have renewed it."""
        return self._grant.expires_at

    async def renew(self, ttl: float | None = None) -> None:
        """Have it end by itself later, or earlier; its id and its token stay.

        So `ttl` can be short, and the slots are free soon when whoever asked for them is gone.

        Args:
            ttl: Seconds from now, 1 to 86400; as many as it was asked for with when left out.

        Raises:
            NotFoundError: If it has ended, also if its task has another assignment since.
            UnavailableError: If there is no answer in time; whether it was renewed is unknown then.
        """
        fields = {"task_id": self.task_id, "ttl": self._ttl if ttl is None else ttl, "renew": True}
        grant = Grant.from_wire(await self._requester.ask(ASSIGN, fields))
        if grant.assignment_id != self.assignment_id:
            raise NotFoundError(f"{self.assignment_id} has ended; {self.task_id!r} is assigned anew")
        self._grant = grant

    async def call(
        self,
        topic: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float = 5.0,  # noqa: ASYNC109 - says what failed
    ) -> Any:
        """Have the agent do something, and return its answer. It is asked once.

        If it has just registered, and nobody listens yet, that is asked again for half a second.

        It can tell from the request's headers which assignment it is for: `Agent-Registry-Assignment` has the id,
        `Agent-Registry-Fencing-Token` the token; a handler of the SDK asks `assigned_work()`. If nobody listens, or
        there is no answer in time, the registry is told, and looks after the agent at once.

        Args:
            topic: Topic that the agent handles.
            payload: The request, a JSON object.
            timeout: Seconds that the answer may take.

        Raises:
            AgentCallError: If the agent answers with an error.
            NotBegunError: If it is not there, or has too much to do, or is leaving.
            UnavailableError: If it does not answer in time; it may have begun then.
        """
        agent_id, refusal = self.agent.agent_id, self.agent.refusal(topic)
        if refusal is not None:
            raise NotBegunError(f"{agent_id}: {refusal}")
        own = {ASSIGNMENT_HEADER: self.assignment_id, TOKEN_HEADER: str(self.fencing_token)}
        headers = {**(outgoing_headers() or {}), **own}
        try:
            reply = await self._request(self.agent.topic(topic), encode(payload or {}), timeout, headers)
        except NoRespondersError:
            await self._requester.hint(agent_id, f"{topic}: nobody listens")
            raise NotBegunError(f"{agent_id}: nobody listens to {topic!r}") from None
        except TimeoutError:
            await self._requester.hint(agent_id, f"{topic}: no answer within {timeout:.2g} s")
            raise UnavailableError(f"{agent_id}: no answer within {timeout:g} s; it may have begun") from None
        try:
            return answer_in(agent_id, reply)
        except AgentCallError as error:
            if error.status in ELSEWHERE:
                raise NotBegunError(str(error)) from error
            raise

    async def _request(self, subject: str, body: bytes, within: float, headers: dict[str, str]) -> Msg:
        started, since = time.monotonic(), self.agent.status_since or 0.0
        patience = min(within, NEW_PATIENCE) if self.assigned_at - since < NEW else 0.0
        while True:
            try:
                left = started + within - time.monotonic()
                return await self._connection.request(subject, body, left, headers)
            except NoRespondersError:
                if time.monotonic() + NEW_PAUSE > started + patience:
                    raise
            await asyncio.sleep(NEW_PAUSE)

    async def release(self) -> bool:
        """End it: its work is done. Returns False if it has ended before."""
        answer = await self._requester.ask(RELEASE, {"assignment_id": self.assignment_id})
        return bool(answer["released"])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.release()
        except RegistryError as failure:  # what was done counts; it ends by itself
            logger.warning("%r was not released and ends at %.3f: %s", self, self.expires_at, failure)
