"""Calling an agent by what it can do."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from nats.errors import NoRespondersError

from agents_sdk.connection import Connection
from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.discovery import AgentInfo, Listing, ServiceQuery
from agents_sdk.protocol.errors import (
    MESSAGE_HEADER,
    STATUS_HEADER,
    OverloadedError,
    UnavailableError,
)
from agents_sdk.protocol.subjects import agent_topic
from agents_sdk.retry import Backoff
from agents_sdk.tracing import outgoing_headers

LISTING_AGE = 1.0
"""Seconds for which a listing serves further calls."""

MAX_LISTINGS = 256
"""Queries whose listings are kept; one more and all are forgotten."""

CANDIDATES = 10
"""Agents to choose among."""

ASSUMED_CONCURRENCY = 16
"""Tasks that an agent is taken to do at once when it does not say."""

_ELSEWHERE = frozenset((OverloadedError.status, UnavailableError.status))
"""Statuses of replies that say that the agent did not begin."""

Discover = Callable[[ServiceQuery], Awaitable[Listing]]


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


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an agent's handler returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt ended without an answer."""

    why: str
    may_have_run: bool = False


@dataclass(slots=True)
class _Cached:
    """A listing, perhaps still on its way."""

    asked_at: float
    listing: asyncio.Task[Listing]


class Caller:
    """Sends requests to agents, choosing the better of two random candidates.

    Two random choices spread load nearly as well as perfect knowledge, and callers that have the
    same listing do not all run to the same agent (Mitzenmacher, TPDS 2001).

    Args:
        connection: The way to NATS.
        discover: Finds agents.
        rng: Source of the random choices.
    """

    def __init__(self, connection: Connection, discover: Discover, rng: random.Random | None = None) -> None:
        self._connection = connection
        self._discover = discover
        self._rng = rng or random.Random()
        self._listings: dict[bytes, _Cached] = {}
        self._last_good: dict[bytes, Listing] = {}
        self._in_flight: Counter[str] = Counter()

    async def call(
        self,
        query: ServiceQuery,
        topic: str,
        payload: Mapping[str, Any] | None,
        within: float,
        *,
        at_most_once: bool,
    ) -> Any:
        """Return what an agent answers.

        Args:
            query: Who may be asked.
            topic: Topic of the agent.
            payload: The request, a JSON object.
            within: Seconds that this takes at most, all attempts included.
            at_most_once: Ask no second agent when the first one may have begun.

        Raises:
            AgentCallError: If the agent answers with an error.
            UnavailableError: If no agent did it in time.
        """
        body = encode(payload or {})
        deadline = time.monotonic() + within
        backoff = Backoff()
        failures: dict[str, str] = {}
        excluded: set[str] = set()
        fresh_since = 0.0
        while True:
            agents = await self._candidates(query, fresh_since, deadline)
            untried = [agent for agent in agents if agent.agent_id not in excluded]
            while untried and (left := deadline - time.monotonic()) > 0:
                agent = self._choose(untried)
                untried.remove(agent)
                # The others get their chance within half of the time that is left.
                outcome = await self._attempt(agent, topic, body, left / 2 if untried else left)
                if isinstance(outcome, _Answer):
                    return outcome.value
                excluded.add(agent.agent_id)
                failures[agent.agent_id] = outcome.why
                if outcome.may_have_run and at_most_once:
                    raise UnavailableError(f"{agent.agent_id}: {outcome.why}; it may have begun")
            pause = backoff.next()
            if time.monotonic() + pause >= deadline:
                raise UnavailableError(_gave_up(query, topic, within, failures))
            await asyncio.sleep(pause)
            fresh_since = time.monotonic()
            if all(agent.agent_id in excluded for agent in agents):
                excluded.clear()

    def close(self) -> None:
        """Give up what is under way."""
        for cached in self._listings.values():
            cached.listing.cancel()
        self._listings.clear()

    async def _candidates(self, query: ServiceQuery, fresh_since: float, deadline: float) -> list[AgentInfo]:
        """Return agents, from a listing asked for after `fresh_since` if the registry is there."""
        key = encode(query.to_wire())
        now = time.monotonic()
        cached = self._listings.get(key)
        if cached is None or cached.asked_at < max(fresh_since, now - LISTING_AGE):
            if len(self._listings) >= MAX_LISTINGS:
                self._listings.clear()
                self._last_good.clear()
            cached = _Cached(now, asyncio.ensure_future(self._discover(query)))
            cached.listing.add_done_callback(_look_at)
            self._listings[key] = cached
        try:
            async with asyncio.timeout(max(0.0, deadline - now)):
                # Others wait for the same listing: our time-out must not end it.
                listing = await asyncio.shield(cached.listing)
        except (UnavailableError, TimeoutError) as error:
            known = self._last_good.get(key)
            if known is None:
                why = str(error) or "no answer in time"
                raise UnavailableError(f"agents cannot be found: {why}") from error
            # Agents work on without a registry; whom it listed last is the best guess.
            return known.agents
        self._last_good[key] = listing
        return listing.agents

    def _choose(self, agents: list[AgentInfo]) -> AgentInfo:
        if len(agents) == 1:
            return agents[0]
        one, other = self._rng.sample(agents, 2)
        return one if self._load(one) <= self._load(other) else other

    def _load(self, agent: AgentInfo) -> float:
        """Return an agent's load as reported, and what we have sent it since."""
        concurrency = agent.max_concurrency or ASSUMED_CONCURRENCY
        return agent.load_factor + self._in_flight[agent.agent_id] / concurrency

    async def _attempt(self, agent: AgentInfo, topic: str, body: bytes, within: float) -> _Answer | _Failure:
        agent_id = agent.agent_id
        self._in_flight[agent_id] += 1
        try:
            subject = agent_topic(agent_id, topic)
            reply = await self._connection.request(subject, body, within, outgoing_headers())
        except NoRespondersError:
            return _Failure("nobody listens")
        except TimeoutError:
            return _Failure(f"no answer within {within:.2g} s", may_have_run=True)
        finally:
            self._in_flight[agent_id] -= 1
            if self._in_flight[agent_id] <= 0:
                del self._in_flight[agent_id]
        status = (reply.headers or {}).get(STATUS_HEADER)
        if status is None:
            return _Answer(orjson.loads(reply.data) if reply.data else None)
        error = _call_error(agent_id, status, reply.headers or {}, reply.data)
        if error.status in _ELSEWHERE:
            return _Failure(error.message)
        raise error


def _look_at(listing: asyncio.Task[Listing]) -> None:
    """Take note of how a listing ended: nobody may be waiting for it any more."""
    if not listing.cancelled():
        listing.exception()


def _call_error(agent_id: str, status: str, headers: Mapping[str, str], data: bytes) -> AgentCallError:
    """Read an error reply: its headers (ADR-32), and its body if it is one of ours."""
    try:
        error = orjson.loads(data)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        code, message = status, headers.get(MESSAGE_HEADER, "no message")
    return AgentCallError(agent_id, code, int(status) if status.isdigit() else 500, message)


def _gave_up(query: ServiceQuery, topic: str, within: float, failures: Mapping[str, str]) -> str:
    wanted = ", ".join(sorted(query.capabilities or ()))
    if not failures:
        return f"no agent found for {wanted} within {within:g} s"
    tried = "; ".join(f"{agent_id}: {why}" for agent_id, why in failures.items())
    return f"no agent for {wanted} did {topic!r} within {within:g} s ({tried})"


def candidates_query(capability: str, query: ServiceQuery | None) -> ServiceQuery:
    """Return the query for whom to call: the caller's filters, and the capability."""
    base = query or ServiceQuery(limit=CANDIDATES)
    return replace(base, capabilities={*(base.capabilities or ()), capability})
