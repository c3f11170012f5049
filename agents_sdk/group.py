"""A group: the agents that match a query, known at every moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from agents_sdk.answers import Answer, Answers
from agents_sdk.cancelling import cancel
from agents_sdk.connection import Connection
from agents_sdk.directory import Change, Changed, Joined, Left, Snapshot, differences
from agents_sdk.protocol.discovery import AgentInfo, ServiceQuery
from agents_sdk.protocol.vocabulary import AgentStatus
from agents_sdk.question import Question, check_topic
from agents_sdk.quorum import Quorum
from agents_sdk.reports import Reports
from agents_sdk.requester import Requester, encode_fields
from agents_sdk.scatter import Scatter, tell
from agents_sdk.watch import Watch
from agents_sdk.whom import query_for

Members = tuple[AgentInfo, ...]


class Group:
    """The agents that match a query, kept up to date by the registry's events; an async context manager.

        async with registry.group("trading") as group:
            await group.until(lambda members: len(members) >= 3)
            quotes = await group.scatter("quote", {"symbol": "BTC"}, quorum="majority")

    Membership follows what agents declare and their statuses, at once. Health and load do not count, and are as they
    were when a member last changed: they move with each heartbeat and are no events. While the registry is away the
    group is whoever was in it last; when NATS was away it is compared anew, and what changed meanwhile is told then.
    Of more than 1,000 agents that match it has the first 1,000, and others once they change, as `RegistryClient.watch`.

    Args:
        connection: The way to NATS.
        requester: The way to the registry.
        reports: Told of members that are not there.
        wanted: A query, or the name of a capability.
        timeout: Seconds that NATS may take to confirm a broadcast.
    """

    def __init__(
        self,
        connection: Connection,
        requester: Requester,
        reports: Reports,
        wanted: ServiceQuery | str,
        timeout: float,
    ) -> None:
        self._connection = connection
        self._reports = reports
        self._timeout = timeout
        self._watch = Watch(connection, requester, query_for(wanted))
        self._members: dict[str, AgentInfo] = {}
        self._turn = asyncio.Event()
        """Set, and replaced, when the members change or the following ends."""
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        changes = self._watch.changes()
        self._take(await anext(changes))
        self._following = asyncio.create_task(self._follow(changes))
        self._following.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._following is not None:
            await cancel(self._following)

    @property
    def members(self) -> Members:
        """Who is in it now, in the order in which they joined.

        Raises:
            RuntimeError: If it has not been entered, or was left.
            ClosedError: If the client is closed.
        """
        self._check()
        return tuple(self._members.values())

    async def changes(self) -> AsyncGenerator[Joined | Changed | Left, None]:
        """Yield a `Joined` for each member that there is, then who joins, changes and leaves.

        A reader that is slow misses nobody: it is told the difference to what it was told before. So a member that left
        and is back by then is one that changed.

        Raises:
            RuntimeError: As for `members`.
            ClosedError: When the client is closed.
        """
        told: dict[str, AgentInfo] = {}
        while True:
            self._check()
            turn, now = self._turn, dict(self._members)
            for change in _between(told, now):
                yield change
            told = now
            await turn.wait()

    async def until(self, condition: Callable[[Members], bool]) -> Members:
        """Wait until the members are as wanted, and return them.

        Args:
            condition: Asked now, and after each change.

        Raises:
            RuntimeError: As for `members`.
            ClosedError: When the client is closed.
        """
        while not condition(members := self.members):
            await self._turn.wait()
        return members

    async def scatter(
        self,
        topic: str,
        payload: Mapping[str, Any] | None = None,
        *,
        n: int | None = None,
        quorum: Quorum | None = None,
        deadline: float = 5.0,
    ) -> Answers:
        """Ask all members, or `n` of them, and gather what they answer; see `RegistryClient.scatter`.

        Which `n` is left to chance, for nobody's load is known here; `degraded` ones come last.
        """
        return await self._scatter(Question(topic, payload, n, quorum, deadline)).gather()

    def answers(
        self, topic: str, payload: Mapping[str, Any] | None = None, *, n: int | None = None, deadline: float = 5.0
    ) -> AsyncGenerator[Answer, None]:
        """Ask all members, or `n` of them, and yield what comes of it; see `RegistryClient.answers`."""
        return self._scatter(Question(topic, payload, n, None, deadline)).answers()

    async def broadcast(self, topic: str, payload: Mapping[str, Any] | None = None) -> list[AgentInfo]:
        """Tell all members, and return whom; see `RegistryClient.broadcast`."""
        check_topic(topic)
        members = list(self.members)
        await tell(self._connection, members, topic, encode_fields(payload or {}), self._timeout)
        return members

    def _scatter(self, question: Question) -> Scatter:
        members = list(self.members)
        if question.n is not None:
            random.shuffle(members)
            members.sort(key=lambda agent: agent.status is not AgentStatus.ACTIVE)
        return Scatter(self._connection, self._reports, members, question)

    async def _follow(self, changes: AsyncGenerator[Change, None]) -> None:
        async with aclosing(changes):
            async for change in changes:
                self._take(change)
                self._wake()

    def _take(self, change: Change) -> None:
        match change:
            case Snapshot(agents):
                # An agent that is as it was stays the same object: by that `changes` tells who changed.
                for difference in differences(self._members, {agent.agent_id: agent for agent in agents}):
                    self._take(difference)
            case Joined(agent) | Changed(agent):
                self._members[agent.agent_id] = agent
            case Left(agent_id):
                del self._members[agent_id]

    def _ended(self, following: asyncio.Task[None]) -> None:
        if not following.cancelled():
            following.exception()  # told to whoever looks at the members, if anybody does
        self._wake()

    def _wake(self) -> None:
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()

    def _check(self) -> None:
        if self._following is None or self._following.cancelled():
            raise RuntimeError("a group is known only inside of its `async with`")
        if self._following.done():
            self._following.result()


def _between(before: Mapping[str, AgentInfo], now: Mapping[str, AgentInfo]) -> list[Joined | Changed | Left]:
    """Return what has become of members. They are compared by identity, which a thousand of them cost little."""
    changes: list[Joined | Changed | Left] = [Left(agent_id, None) for agent_id in before if agent_id not in now]
    for agent_id, agent in now.items():
        known = before.get(agent_id)
        if known is None:
            changes.append(Joined(agent))
        elif known is not agent:
            changes.append(Changed(agent, None))
    return changes
