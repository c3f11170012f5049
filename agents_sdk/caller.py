"""Calling an agent by what it can do."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nats.errors import NoRespondersError

from agents_sdk.connection import Connection
from agents_sdk.link import ClosedError
from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.discovery import AgentInfo, Listing, ServiceQuery
from agents_sdk.protocol.errors import UnavailableError
from agents_sdk.replies import ELSEWHERE, AgentCallError, answer_in
from agents_sdk.reports import Reports
from agents_sdk.retry import Backoff
from agents_sdk.tracing import outgoing_headers

LISTING_AGE = 1.0
"""Seconds for which a listing serves further calls."""

REFRESH = 0.25
"""Seconds that a listing serves calls that got no answer from those in it: when all agents are busy, many calls try
again and again."""

MAX_LISTINGS = 256
"""Queries whose listings are kept; one more and all are forgotten."""

CANDIDATES = 10
"""Agents to choose among."""

NEARLY_EQUAL = 0.02
"""Loads that differ by no more are the same: either agent is taken, as the registry shuffles those that it ranks so."""

ASSUMED_CONCURRENCY = 16
"""Tasks that an agent is taken to do at once when it does not say."""

Discover = Callable[[ServiceQuery], Awaitable[Listing]]


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
class _Call:
    """What is asked for, and what came of it so far."""

    topic: str
    body: bytes
    deadline: float
    at_most_once: bool
    failures: dict[str, str] = field(default_factory=dict)
    """Agent to why it did not do it."""
    tried: set[str] = field(default_factory=set)
    """Agents that get no second chance before the others."""
    trouble: str = ""
    """Why nobody can be asked, if nobody can."""


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
        reports: Told of agents that do not answer.
        rng: Source of the random choices.
    """

    def __init__(
        self, connection: Connection, discover: Discover, reports: Reports, rng: random.Random | None = None
    ) -> None:
        self._connection = connection
        self._discover = discover
        self._reports = reports
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
        call = _Call(topic, encode(payload or {}), time.monotonic() + within, at_most_once)
        backoff, fresh_since = Backoff(), 0.0
        while True:
            outcome: _Answer | _Failure | None = None
            try:
                outcome = await self._try(await self._candidates(query, fresh_since, call.deadline), call)
                call.trouble = ""
            except ClosedError:
                raise
            except UnavailableError as error:
                call.trouble = call.trouble or error.message
            if isinstance(outcome, _Answer):
                return outcome.value
            if outcome is not None:
                raise UnavailableError(f"{outcome.why}; it may have begun")
            pause = backoff.next()
            if time.monotonic() + pause >= call.deadline:
                raise UnavailableError(_gave_up(query, within, call))
            await asyncio.sleep(pause)
            fresh_since = time.monotonic() - REFRESH

    def close(self) -> None:
        """Give up what is under way."""
        for cached in self._listings.values():
            cached.listing.cancel()
        self._listings.clear()

    async def _candidates(self, query: ServiceQuery, fresh_since: float, deadline: float) -> list[AgentInfo]:
        """Return agents, from a listing asked for after `fresh_since` if the registry is there.

        Raises:
            UnavailableError: If it is not, and has not been.
        """
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
        except ClosedError:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if cached.listing.cancelled() and not (task and task.cancelling()):
                raise ClosedError("the client is closed") from None
            raise
        except (UnavailableError, TimeoutError) as error:
            known = self._last_good.get(key)
            if known is None:
                why = str(error) or "no answer in time"
                raise UnavailableError(f"agents cannot be found: {why}") from error
            # Agents work on without a registry; whom it listed last is the best guess.
            return known.agents
        self._last_good[key] = listing
        return listing.agents

    async def _try(self, agents: list[AgentInfo], call: _Call) -> _Answer | _Failure | None:
        """Ask agents that have not been asked; return the answer, or the failure that is final, or None.

        Raises:
            UnavailableError: If NATS is away.
        """
        untried = [agent for agent in agents if agent.agent_id not in call.tried]
        while untried and (left := call.deadline - time.monotonic()) > 0:
            agent = self._choose(untried)
            untried.remove(agent)
            # The others get their chance within half of the time that is left.
            outcome = await self._attempt(agent, call, left / 2 if untried else left)
            if isinstance(outcome, _Answer):
                return outcome
            if outcome.may_have_run and call.at_most_once:
                return _Failure(f"{agent.agent_id}: {outcome.why}")
            call.tried.add(agent.agent_id)
            call.failures[agent.agent_id] = outcome.why
        if all(agent.agent_id in call.tried for agent in agents):
            call.tried.clear()
        return None

    def _choose(self, agents: list[AgentInfo]) -> AgentInfo:
        if len(agents) == 1:
            return agents[0]
        one, other = self._rng.sample(agents, 2)
        return one if self._load(one) <= self._load(other) + NEARLY_EQUAL else other

    def _load(self, agent: AgentInfo) -> float:
        """Return an agent's load as reported, and what we have sent it since."""
        concurrency = agent.max_concurrency or ASSUMED_CONCURRENCY
        return agent.load_factor + self._in_flight[agent.agent_id] / concurrency

    async def _attempt(self, agent: AgentInfo, call: _Call, within: float) -> _Answer | _Failure:
        agent_id, refusal = agent.agent_id, agent.refusal(call.topic)
        if refusal is not None:
            return _Failure(refusal)
        self._in_flight[agent_id] += 1
        try:
            reply = await self._connection.request(agent.topic(call.topic), call.body, within, outgoing_headers())
        except NoRespondersError:
            return await self._failed(agent_id, call.topic, _Failure("nobody listens"))
        except TimeoutError:
            late = _Failure(f"no answer within {within:.2g} s", may_have_run=True)
            return await self._failed(agent_id, call.topic, late)
        finally:
            self._in_flight[agent_id] -= 1
            if self._in_flight[agent_id] <= 0:
                del self._in_flight[agent_id]
        try:
            return _Answer(answer_in(agent_id, reply))
        except AgentCallError as error:
            if error.status in ELSEWHERE:
                return _Failure(error.message)
            raise

    async def _failed(self, agent_id: str, topic: str, failure: _Failure) -> _Failure:
        await self._reports.tell(agent_id, f"{topic}: {failure.why}")
        return failure


def _look_at(listing: asyncio.Task[Listing]) -> None:
    """Take note of how a listing ended: nobody may be waiting for it any more."""
    if not listing.cancelled():
        listing.exception()


def _gave_up(query: ServiceQuery, within: float, call: _Call) -> str:
    wanted = ", ".join(sorted(query.capabilities or ()))
    reasons = [f"{agent_id}: {why}" for agent_id, why in call.failures.items()]
    if call.trouble:
        reasons.append(call.trouble)
    what = f"no agent for {wanted} did {call.topic!r}" if call.failures else f"no agent found for {wanted}"
    because = f" ({'; '.join(reasons)})" if reasons else ""
    return f"{what} within {within:g} s{because}"


def candidates_query(capability: str, query: ServiceQuery | None) -> ServiceQuery:
    """Return the query for whom to call: the caller's filters, and the capability."""
    base = query or ServiceQuery(limit=CANDIDATES)
    return replace(base, capabilities={*(base.capabilities or ()), capability})
