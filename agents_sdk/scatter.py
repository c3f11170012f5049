"""Asking many agents the same, and telling them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from nats.aio.client import NO_RESPONDERS_STATUS
from nats.aio.msg import Msg
from nats.js.api import Header

from agents_sdk.answers import Answer, Answers, Outcome, checked
from agents_sdk.assignment import NEW, NEW_PATIENCE, NEW_PAUSE
from agents_sdk.connection import Connection
from agents_sdk.protocol.discovery import AgentInfo
from agents_sdk.protocol.errors import ForbiddenError, UnavailableError
from agents_sdk.question import Question
from agents_sdk.replies import AgentCallError, NotBegunError, answer_in
from agents_sdk.reports import Reports
from agents_sdk.tracing import outgoing_headers


@dataclass(slots=True)
class _Asked:
    """An agent whose answer is waited for."""

    agent: AgentInfo
    token: str
    """Last token of where it answers to. Nobody else knows it, so nobody answers in its place."""
    at: float
    again_until: float
    """Until when it is asked again if nobody listens. Both are instants of `time.monotonic`."""


class Scatter:
    """One question to many agents at the same time, each asked once.

    All answers come in on one subscription, and so does the news that nobody listens: it costs a message out and one in
    for each agent. What comes of it is kept until it is read, one message an agent.

    Agents that nobody listens for are reported to the registry. When only some are to be asked, the next of the others
    takes the place of one that has surely not begun.

    Args:
        connection: The way to NATS.
        reports: Told of agents that are not there.
        agents: Whom to ask, the best first. Those beyond the question's `n` are spares.
        question: What, and for how long.
    """

    def __init__(
        self, connection: Connection, reports: Reports, agents: Sequence[AgentInfo], question: Question
    ) -> None:
        first = len(agents) if question.n is None else question.n
        self._connection = connection
        self._reports = reports
        self._question = question
        self._first = agents[:first]
        self._spares = deque(agents[first:])
        self._needed = question.needed(len(agents))
        self._headers = outgoing_headers()
        self._inbox = ""
        self._waiting: dict[str, _Asked] = {}
        self._unread = 0
        """Of how many agents that were asked nothing has been read. Spares count once they are asked: which of the
        others they will stand in for is known only then."""
        self._arrived: asyncio.Queue[Answer | _Asked | None] = asyncio.Queue()
        """Answers; agents that it is time to ask again; None when the connection is closed."""

    async def answers(self) -> AsyncGenerator[Answer, None]:
        """Yield what comes of it for each agent, as soon as that is known, and at the deadline for all others.

        Raises:
            UnavailableError: If NATS is away before anybody was asked, or the client is closed.
            PayloadTooLargeError: If the request is larger than the NATS server takes.
        """
        if not self._first:
            return
        self._inbox = self._connection.client.new_inbox()
        subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_reply)
        self._connection.listen(self._on_link)
        try:
            for agent in self._first:
                await self._ask(agent)
            while (answer := await self._next()) is not None:
                yield answer
        finally:
            self._connection.unlisten(self._on_link)
            await self._connection.unsubscribe(subscription)

    async def gather(self) -> Answers:
        """Return what came, once the quorum is met, or without one when all have answered or the time is over.

        Raises:
            QuorumError: As soon as the quorum cannot be met any more, before anybody is asked if too few match.
            UnavailableError: As for `answers`.
            PayloadTooLargeError: As for `answers`.
        """
        came: list[Answer] = []
        good, needed = 0, self._needed
        if len(self._first) >= needed:
            async with aclosing(self.answers()) as answers:
                async for answer in answers:
                    came.append(answer)
                    good += answer.is_good
                    if needed and not good < needed <= good + self._unread:
                        came += self._rest()
                        break
        return checked(Answers(tuple(came), needed), self._question.topic)

    def _rest(self) -> list[Answer]:
        """Return what has come and was not read, and of whom nothing has."""
        now, rest = time.monotonic(), []
        while not self._arrived.empty():
            arrived = self._arrived.get_nowait()
            if isinstance(arrived, Answer):
                rest.append(arrived)
        return rest + [Answer(asked.agent, Outcome.PENDING, now - asked.at) for asked in self._waiting.values()]

    async def _next(self) -> Answer | None:
        """Wait for the next answer; None when there are no more.

        Raises:
            ClosedError: When the connection is closed.
        """
        while self._waiting or not self._arrived.empty():
            try:
                # What is there already is got without waiting, also when the time is over.
                async with asyncio.timeout(self._question.left):
                    arrived = await self._arrived.get()
            except TimeoutError:
                for asked in tuple(self._waiting.values()):
                    self._settle(asked, self._late(asked))
                continue
            if isinstance(arrived, _Asked):
                await self._ask_again(arrived)
            elif arrived is None:
                self._connection.check_open()
            else:
                self._unread -= 1
                await self._look_after(arrived)
                return arrived
        return None

    async def _look_after(self, answer: Answer) -> None:
        """Report an agent that is not there, and have another one take its place."""
        if answer.outcome is Outcome.NO_RESPONDERS:
            await self._reports.tell(answer.agent_id, f"{self._question.topic}: nobody listens")
        if answer.not_begun and self._spares and self._question.left:
            await self._ask(self._spares.popleft())

    async def _ask(self, agent: AgentInfo) -> None:
        now = time.monotonic()
        since = max(agent.registered_at, agent.status_since or 0.0)
        # It takes requests a moment after it has registered. Should the registry's clock be another one than ours,
        # that is known of nobody, or of somebody whom asking again for half a second does no harm.
        again_until = now + NEW_PATIENCE if abs(time.time() - since) < NEW else now
        asked = _Asked(agent, secrets.token_hex(8), now, again_until)
        self._waiting[asked.token] = asked
        self._unread += 1
        await self._send(asked)

    async def _ask_again(self, asked: _Asked) -> None:
        if self._question.left:
            await self._send(asked)
        else:  # whoever reads took too long
            self._settle(asked, self._nobody(asked))

    async def _send(self, asked: _Asked) -> None:
        subject, refusal = asked.agent.topic(self._question.topic), asked.agent.refusal(self._question.topic)
        try:
            if refusal is not None:
                raise UnavailableError(refusal)
            if not self._question.left:
                raise UnavailableError(f"there was no time left within {self._question.within:g} s")
            reply = f"{self._inbox}.{asked.token}"
            await self._connection.publish(subject, self._question.body, self._headers, reply)
        except UnavailableError as error:
            self._settle(asked, Answer(asked.agent, Outcome.UNSENT, 0.0, error=error))

    async def _on_reply(self, msg: Msg) -> None:
        asked = self._waiting.get(msg.subject.rpartition(".")[2])
        if asked is None:  # it has answered before
            return
        now = time.monotonic()
        if not _says_nobody(msg):
            self._settle(asked, _read(asked.agent, now - asked.at, msg))
        elif now + NEW_PAUSE < min(asked.again_until, self._question.deadline):
            asyncio.get_running_loop().call_later(NEW_PAUSE, self._arrived.put_nowait, asked)
        else:
            self._settle(asked, self._nobody(asked))

    def _settle(self, asked: _Asked, answer: Answer) -> None:
        if self._waiting.pop(asked.token, None) is not None:
            self._arrived.put_nowait(answer)

    def _nobody(self, asked: _Asked) -> Answer:
        error = NotBegunError(f"nobody listens to {self._question.topic!r}")
        return Answer(asked.agent, Outcome.NO_RESPONDERS, time.monotonic() - asked.at, error=error)

    def _late(self, asked: _Asked) -> Answer:
        agent, seconds = asked.agent, time.monotonic() - asked.at
        subject = agent.topic(self._question.topic)
        try:
            self._connection.denials.check(subject, f"{self._inbox}.{asked.token}", asked.at)
        except ForbiddenError as error:
            return Answer(agent, Outcome.FORBIDDEN, seconds, error=error)
        late = UnavailableError(f"no answer within {self._question.within:g} s; it may have begun")
        return Answer(agent, Outcome.TIMEOUT, seconds, error=late)

    def _on_link(self, _connected: bool) -> None:
        if self._connection.is_closed:
            self._arrived.put_nowait(None)


async def tell(connection: Connection, agents: Sequence[AgentInfo], topic: str, body: bytes, within: float) -> None:
    """Send agents a message that asks for no answer, and return when NATS has it.

    Args:
        connection: The way to NATS.
        agents: Whom to tell.
        topic: Topic of the agents.
        body: The message.
        within: Seconds that NATS may take to confirm.

    Raises:
        UnavailableError: If NATS is away, or is lost on the way; it says how many may have been told.
        ForbiddenError: If NATS does not let this user tell one of them; the others are told.
        PayloadTooLargeError: If the message is larger than the NATS server takes.
    """
    headers, started, told = outgoing_headers(), time.monotonic(), 0
    try:
        for agent in agents:
            await connection.publish(agent.topic(topic), body, headers)
            told += 1
        await connection.flush(within)
    except UnavailableError as error:
        raise UnavailableError(f"{error.message}; {told} of {len(agents)} agents may have been told") from error
    for agent in agents:
        connection.denials.check_publish(agent.topic(topic), started)


def _says_nobody(msg: Msg) -> bool:
    """Return whether a reply is the server's, which says that nobody listens."""
    return not msg.data and (msg.headers or {}).get(Header.STATUS) == NO_RESPONDERS_STATUS


def _read(agent: AgentInfo, seconds: float, msg: Msg) -> Answer:
    try:
        return Answer(agent, Outcome.ANSWERED, seconds, answer_in(agent.agent_id, msg))
    except AgentCallError as error:
        return Answer(agent, Outcome.ERROR, seconds, error=error)
