"""The registry's client."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nats.aio.client import Client

from agents_sdk.answers import Answer, Answers
from agents_sdk.assignment import Assignment
from agents_sdk.caller import Caller, candidates_query
from agents_sdk.connection import Connection
from agents_sdk.consumers import HELD_ACK_WAIT
from agents_sdk.dial import DEFAULT_INBOX_PREFIX, Address
from agents_sdk.directory import Change
from agents_sdk.feed import Event, Feed, Held
from agents_sdk.gather import gather
from agents_sdk.group import Group
from agents_sdk.pages import Pages
from agents_sdk.protocol.assignments import DEFAULT_TTL, MAX_WAIT, AssignmentListing, Grant
from agents_sdk.protocol.codec import decode_reply
from agents_sdk.protocol.conflicts import ConflictReport
from agents_sdk.protocol.discovery import AgentInfo, Listing, ServiceQuery, Vocabulary
from agents_sdk.protocol.errors import NotFoundError, UnavailableError
from agents_sdk.protocol.registration import Receipt
from agents_sdk.protocol.scaling import ScalingReport
from agents_sdk.protocol.statistics import Presence, Statistics
from agents_sdk.protocol.subjects import (
    ASSIGN,
    ASSIGNMENTS,
    CAPABILITIES,
    CONFLICT_GET,
    CONFLICT_SET,
    DEFAULT_PREFIX,
    DEREGISTER,
    DRAIN,
    GET,
    HEALTH,
    PERFORMANCE,
    REGISTER,
    RELEASE,
    REPLICAS,
    REPORT,
    RESUME,
    SCALING_GET,
    SCALING_SET,
    STATS,
    SUSPEND,
    Subjects,
)
from agents_sdk.protocol.telemetry import ReportReceipt
from agents_sdk.question import Question, check_topic
from agents_sdk.quorum import Quorum
from agents_sdk.reports import Reports
from agents_sdk.requester import REGISTER_TIMEOUT, Requester, encode_fields, is_final
from agents_sdk.scatter import Scatter, tell
from agents_sdk.servers import server_urls
from agents_sdk.watch import Watch
from agents_sdk.whom import whom

_REFERENCE_STATISTICS = (
    "total_registrations",
    "active_agents",
    "degraded_agents",
    "health_checks_performed",
    "failed_health_checks",
    "auto_scaling_events",
    "service_discovery_requests",
    "registered_agents",
    "capabilities_distribution",
    "health_distribution",
)


OWN_WRITES = 10.0
"""Seconds for which a client asks for a state with its own changes. Replicas lag by milliseconds; and a client must not
ask for ever for revisions of a bucket that was made anew."""


class RegistryClient:
    """Everything the registry can be asked, over NATS.

        async with RegistryClient() as registry:
            agents = await registry.discover_agents(ServiceQuery(capabilities={"trading"}))

    Every method raises the error that the registry answers with, a `RegistryError`, and
    `UnavailableError` if there is no answer in time.

    Args:
        nats: URLs of NATS servers, comma-separated; `NATS_URL`, else this machine's when left out.
            Or a connected nats-py client, or a `Connection`, which stays open when this closes.
        prefix: First token or tokens of the registry's subjects.
        timeout: Seconds that a request takes at most, repetitions included.
        credentials: NATS credentials file.
        name: Name of the connection, for people who look at NATS.
        inbox_prefix: First tokens of the subjects on which replies arrive, where NATS gives each
            user its own.

    Raises:
        InvalidRequestError: A `ValueError`, if `nats` or `NATS_URL` names no server.
    """

    def __init__(
        self,
        nats: str | Client | Connection | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        timeout: float = 2.0,
        credentials: str | Path | None = None,
        name: str | None = None,
        inbox_prefix: str = DEFAULT_INBOX_PREFIX,
    ) -> None:
        self._shared = isinstance(nats, Connection)
        self._timeout = timeout
        if isinstance(nats, Connection):
            self._connection = nats
        elif isinstance(nats, Client):
            self._connection = Connection(nats)
        else:
            path = None if credentials is None else Path(credentials)
            address = Address(server_urls(nats), name, path, inbox_prefix, timeout)
            self._connection = Connection(address)
        self._requester = Requester(self._connection, Subjects(prefix), timeout)
        self._pages = Pages(self._requester)
        self._reports = Reports(self._requester.hint)
        self._caller = Caller(self._connection, self.discover, self._reports)
        self._written = 0
        """Revision of this client's newest change."""
        self._written_at = -OWN_WRITES

    async def connect(self) -> None:
        """Connect to NATS; a server that is not there gets the client's `timeout` to come.

        Raises:
            UnavailableError: If no server answers in time.
            ForbiddenError: If the server refuses the user.
        """
        if not self._shared:
            await self._connection.open(self._timeout)

    async def close(self) -> None:
        """Close the connection."""
        self._caller.close()
        if not self._shared:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def register_agent(self, agent_info: Mapping[str, Any]) -> str:
        """Register an agent and return its id; see `register`."""
        return (await self.register(agent_info)).agent_id

    async def register(self, registration: Mapping[str, Any]) -> Receipt:
        """Register an agent. It has to be heard of from now on; `Agent` does that by itself.

        Args:
            registration: The fields of `Registration`; `agent_type` and `capabilities` at least.

        Raises:
            InvalidRequestError: A `ValueError` that names the fields.
            AlreadyRegisteredError: If another live instance holds the id.
        """
        answer = await self._requester.ask(REGISTER, registration, within=REGISTER_TIMEOUT)
        receipt = Receipt.model_validate(answer)
        self._wrote(receipt.revision)
        return receipt

    async def deregister_agent(self, agent_id: str, reason: str | None = None) -> bool:
        """Remove an agent; returns False if there was none."""
        answer = await self._requester.ask(DEREGISTER, _command(agent_id, reason))
        self._wrote(answer.get("revision") or 0)
        return bool(answer["deregistered"])

    async def discover_agents(self, query: ServiceQuery | None = None) -> list[AgentInfo]:
        """Return the agents that match, best first."""
        return (await self.discover(query)).agents

    async def discover(self, query: ServiceQuery | None = None) -> Listing:
        """Return the agents that match, best first, and how many there are in all.

        What this client changed itself is seen, whichever replica answers. Agents that do not fit into one answer are
        asked for in several requests.
        """
        fields = {} if query is None else query.to_wire()
        if (own := self._own_writes()) > fields.get("min_revision", 0):
            fields["min_revision"] = own
        return await self._pages.discover(fields)

    async def get_agent_info(self, agent_id: str) -> AgentInfo | None:
        """Return what is known of an agent, None if there is no such agent."""
        try:
            fields = {"agent_id": agent_id, "min_revision": self._own_writes()}
            return AgentInfo.from_wire(await self._requester.ask(GET, fields))
        except NotFoundError:
            return None

    async def update_agent_health(self, agent_id: str, health_data: Mapping[str, Any]) -> None:
        """Report an agent's health.

        Args:
            agent_id: The agent.
            health_data: `health_score`, `load_factor` (both 0.0 to 1.0), `response_time` (seconds);
                further numbers are kept as metrics.

        Raises:
            NotFoundError: If there is no such agent.
        """
        await self._requester.ask(HEALTH, {**health_data, "agent_id": agent_id})

    async def update_agent_performance(self, agent_id: str, metrics: Mapping[str, float]) -> None:
        """Report an agent's performance metrics; see `PerformanceReport`.

        Raises:
            NotFoundError: If there is no such agent.
        """
        fields = {"agent_id": agent_id, "metrics": dict(metrics)}
        # Averages are weighted by what was served since the last report: twice is not once.
        await self._requester.ask(PERFORMANCE, fields, idempotent=False)

    async def report_agent(self, agent_id: str, problem: str) -> ReportReceipt:
        """Report that an agent could not be reached, or a problem with it: the registry asks it at once.

        Args:
            agent_id: The agent.
            problem: What happened, in a few words.

        Raises:
            NotFoundError: If there is no such agent.
        """
        answer = await self._requester.ask(REPORT, {"agent_id": agent_id, "problem": problem})
        return ReportReceipt.model_validate(answer)

    async def suspend_agent(self, agent_id: str, reason: str | None = None) -> AgentInfo:
        """Take an agent out of service until it is resumed."""
        return await self._command(SUSPEND, agent_id, reason)

    async def resume_agent(self, agent_id: str, reason: str | None = None) -> AgentInfo:
        """Put a suspended agent back into service."""
        return await self._command(RESUME, agent_id, reason)

    async def drain_agent(self, agent_id: str, reason: str | None = None) -> AgentInfo:
        """Ask an agent to finish its work and leave; it gets no more."""
        return await self._command(DRAIN, agent_id, reason)

    async def get_registry_stats(self) -> dict[str, Any]:
        """Return the statistics of the API reference; `statistics` has more."""
        answer = await self._requester.ask(STATS, {})
        return {name: answer[name] for name in _REFERENCE_STATISTICS}

    async def statistics(self) -> Statistics:
        """Return the statistics of the replica that answers."""
        return Statistics.model_validate(await self._requester.ask(STATS, {}))

    async def replicas(self, within: float = 0.5) -> list[Presence]:
        """Return the replicas that answer now, the leader first.

        Args:
            within: Seconds to wait for them.
        """
        payloads = await gather(self._connection, self._requester.subjects.operation(REPLICAS), b"", within)
        found = [Presence.model_validate(decode_reply(payload)) for payload in payloads]
        return sorted(found, key=lambda each: (not each.leader, each.replica))

    async def capabilities(self) -> Vocabulary:
        """Return the known capabilities, and how many agents have each."""
        return Vocabulary.model_validate(await self._requester.ask(CAPABILITIES, {}))

    async def scaling(self, capability: str | None = None) -> ScalingReport:
        """Return what the scaler sees and wants, of one capability or of all."""
        fields = {} if capability is None else {"capability": capability}
        return ScalingReport.model_validate(await self._requester.ask(SCALING_GET, fields))

    async def set_scaling(self, capability: str, **changes: Any) -> ScalingReport:
        """Change how a capability is scaled.

        Args:
            capability: Which.
            changes: Fields of `PolicyChange`, for example `min_agents=3`; `reset=True` drops the
                capability's own policy.
        """
        fields = {"capability": capability, **changes}
        return ScalingReport.model_validate(await self._requester.ask(SCALING_SET, fields))

    async def conflicts(self, name: str | None = None) -> ConflictReport:
        """Return the rules on what agents must not be together, and who breaks them; one rule or all."""
        fields = {} if name is None else {"name": name}
        return ConflictReport.model_validate(await self._requester.ask(CONFLICT_GET, fields))

    async def set_conflict(self, name: str, **rule: Any) -> ConflictReport:
        """Set a rule, in the place of the one of that name, or remove it.

        Args:
            name: Its name.
            rule: Fields of `RuleChange`, for example `kind="combination", capabilities=["trading", "execution"]`;
                `remove=True` removes it.

        Raises:
            InvalidRequestError: If it is none.
            ConflictError: If a `revision` is given, and another one is there.
        """
        return ConflictReport.model_validate(await self._requester.ask(CONFLICT_SET, {"name": name, **rule}))

    async def assign(
        self,
        query: ServiceQuery | None = None,
        *,
        task_id: str | None = None,
        slots: int = 1,
        ttl: float = DEFAULT_TTL,
        wait: float = 0.0,
    ) -> Assignment:
        """Find an agent and reserve slots of it, in one step; an async context manager that gives them back.

            async with await registry.assign(ServiceQuery(capabilities={"trading"}), wait=10) as assignment:
                order = await assignment.call("order", {"symbol": "BTC"})

        It is safe to ask again with the same `task_id`, also when the answer was lost or the registry failed over: as
        long as its assignment lives, that is the answer. This does so by itself until the client's `timeout`, and
        `wait` before it, are over. When it is cancelled, or over without an answer, the registry is told that the task
        needs no agent any more.

        Args:
            query: Which agents would do; `limit`, `sort_by`, `statuses`, `explain` and `min_revision` are refused.
            task_id: Names the task, 1 to 128 characters; made up when left out.
            slots: How many slots of the agent to reserve, 1 to 1000.
            ttl: Seconds after which the assignment ends by itself, 1 to 86400.
            wait: Seconds to wait for an agent to be free, 0 to 60.

        Raises:
            InvalidRequestError: If no agent ever has so many slots.
            UnavailableError: If nobody is free, or too many wait already; whether there is an assignment is unknown if
                the registry fell silent.
        """
        fields = {} if query is None else query.to_wire()
        task = secrets.token_hex(8) if task_id is None else task_id
        fields |= {"task_id": task, "slots": slots, "ttl": ttl, "wait": wait}
        patience = wait if 0.0 <= wait <= MAX_WAIT else 0.0  # the registry refuses what is out of bounds
        try:
            answer = await self._requester.ask(ASSIGN, fields, wait=patience)
        except (asyncio.CancelledError, UnavailableError) as error:
            if not (isinstance(error, UnavailableError) and is_final(error)):
                await self._requester.withdraw(task)
            raise
        return Assignment(Grant.from_wire(answer), ttl, self._connection, self._requester)

    async def release(self, assignment_id: str, agent_id: str | None = None) -> bool:
        """End an assignment, whose work is done; returns False if it has ended before.

        It is also False when the answer to a first request was lost, which this then repeats.

        Args:
            assignment_id: Which.
            agent_id: Its agent, if that is who says so.

        Raises:
            ForbiddenError: If it is another agent's, or was made by another identity.
        """
        fields = {"assignment_id": assignment_id}
        if agent_id is not None:
            fields["agent_id"] = agent_id
        return bool((await self._requester.ask(RELEASE, fields))["released"])

    async def assignments(
        self, agent_id: str | None = None, task_id: str | None = None, limit: int = 100
    ) -> AssignmentListing:
        """Return the assignments that live.

        Args:
            agent_id: Only those of this agent.
            task_id: Only that of this task.
            limit: How many to return at most, 1 to 1000.
        """
        given = {"agent_id": agent_id, "task_id": task_id, "limit": limit}
        fields = {name: value for name, value in given.items() if value is not None}
        return AssignmentListing.model_validate(await self._requester.ask(ASSIGNMENTS, fields))

    def watch(self, query: ServiceQuery | None = None) -> AsyncGenerator[Change, None]:
        """Yield a `Snapshot` of the agents that match, then `Joined`, `Changed` and `Left`.

        After an outage of NATS comes a new snapshot. Health and load are not watched: they change
        with each heartbeat, so the query's bounds on them and its limit do not count here.

        Raises:
            RegistryError: If there is no first snapshot. After it, only the end of the client ends the watch, with an
                `UnavailableError`.
        """
        return Watch(self._connection, self._requester, query or ServiceQuery()).changes()

    def events(self, *kinds: str, durable: str | None = None) -> AsyncGenerator[Event, None]:
        """Yield the registry's events, each of its own class.

        They are `StatusEvent`, `ScalingOrder`, `ConflictEvent`, `RegistryEvent` and `AssignmentLost`.
        One that this version has no class for, or that says something it has no word for, is a dict.

        Args:
            kinds: `status`, `scaling`, `conflict`, `registry`, `assignment`; when left out all, or what an existing
                durable reads.
            durable: Name under which the server remembers what was read: first comes everything
                kept that was not. Without one, events come from now on.

        Raises:
            InvalidRequestError: If there is no such kind, or the durable exists and reads others.
            UnavailableError: If JetStream is needed for a durable and cannot be reached, or the client is closed.
        """
        feed = Feed(self._connection, self._requester.subjects, kinds)
        return feed.from_now_on() if durable is None else feed.durable(durable)

    def held_events(self, *kinds: str, durable: str) -> AsyncGenerator[Held, None]:
        """Yield the events of a durable, each to be acknowledged when what it asks for is done.

        `events` acknowledges one when the next one is asked for; here several can be worked on at the same time. What
        is neither acknowledged nor given back is held for as long as this process and its connection live.

        Args:
            kinds: As for `events`.
            durable: As for `events`.

        Raises:
            InvalidRequestError: If there is no such kind, or the durable exists and reads others.
            UnavailableError: If JetStream cannot be reached, or the client is closed.
        """
        return Feed(self._connection, self._requester.subjects, kinds).held(durable, HELD_ACK_WAIT)

    async def call(
        self,
        capability: str,
        topic: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float = 5.0,  # noqa: ASYNC109 - bounds several attempts, and says what failed
        query: ServiceQuery | None = None,
        at_most_once: bool = False,
    ) -> Any:
        """Have an agent with a capability do something, and return its answer.

        When nobody listens, or the agent is overloaded or leaving, another one is asked. When it
        does not answer in time, too, unless `at_most_once`: then it may be done twice.

        Args:
            capability: What the agent must be able to do.
            topic: Topic that the agent handles.
            payload: The request, a JSON object.
            timeout: Seconds that this takes at most, all attempts included.
            query: Further conditions; its `limit` says among how many agents to choose.
            at_most_once: Ask no second agent when the first one may have begun.

        Raises:
            AgentCallError: If the agent answers with an error.
            UnavailableError: If no agent did it in time.
        """
        wanted = candidates_query(capability, query)
        return await self._caller.call(wanted, topic, payload, timeout, at_most_once=at_most_once)

    async def scatter(
        self,
        query: ServiceQuery | str,
        topic: str,
        payload: Mapping[str, Any] | None = None,
        *,
        n: int | None = None,
        quorum: Quorum | None = None,
        deadline: float = 5.0,
    ) -> Answers:
        """Ask all agents that match, or the best `n` of them, at the same time, and gather what they answer.

            answers = await registry.scatter("trading", "quote", {"symbol": "BTC"}, n=5, quorum="majority")
            print(statistics.median(quote["price"] for quote in answers.values))

        With a quorum this returns once there are so many good answers, else once all have answered or the time is
        over. Those that were asked and not waited for work on. Each agent is asked once; with `n`, the next best takes
        the place of one that is not there, full or leaving. Who is not there is reported to the registry.

        Args:
            query: Whom to ask; its `limit` does not count. The name of a capability means all who are in service with
                it, while a query has bounds on health and load, also when left out.
            topic: Topic that the agents handle.
            payload: The request, a JSON object.
            n: How many to ask, 1 to 1000; all that match when left out, if they are no more than 1000.
            quorum: How many of them have to give a good answer: a number; a share, as a float above 0.0 and up to 1.0;
                `majority`, which is more than half; or `all`. So `1` is one, and `1.0` is all. A share is of `n`, or
                of all that match.
            deadline: Seconds that this takes at most, up to 86400, finding the agents included.

        Raises:
            QuorumError: An `UnavailableError`, with what came as `answers`, as soon as the quorum cannot be met any
                more. If too few match, nobody is asked.
            InvalidRequestError: Naming what is wrong; also if all of more than 1000 agents were to be asked.
            UnavailableError: If agents cannot be found, or NATS is away.
        """
        question = Question(topic, payload, n, quorum, deadline)
        return await (await self._scatter(query, question)).gather()

    async def answers(
        self,
        query: ServiceQuery | str,
        topic: str,
        payload: Mapping[str, Any] | None = None,
        *,
        n: int | None = None,
        deadline: float = 5.0,
    ) -> AsyncGenerator[Answer, None]:
        """Ask agents as `scatter` does, and yield what comes of it for each, as soon as that is known.

        For who decides by more than a count when it has heard enough, and leaves then. Use `contextlib.aclosing`.

        Args:
            query: As for `scatter`.
            topic: As for `scatter`.
            payload: As for `scatter`.
            n: As for `scatter`.
            deadline: Seconds until an `Answer` says of all others that they are late. What has come by then is
                yielded, however long the reader takes.

        Raises:
            InvalidRequestError: As for `scatter`.
            UnavailableError: As for `scatter`.
        """
        scatter = await self._scatter(query, Question(topic, payload, n, None, deadline))
        async with aclosing(scatter.answers()) as answers:
            async for answer in answers:
                yield answer

    async def broadcast(
        self, query: ServiceQuery | str, topic: str, payload: Mapping[str, Any] | None = None
    ) -> list[AgentInfo]:
        """Tell all agents that match, without an answer, and return whom.

        Each is told by a message of its own, so that nobody hears it who is suspended or leaving, or does not match.
        It is sent once, and NATS has it then. Who is not there, or full, misses it: to know, `scatter`.

        Args:
            query: Whom to tell, as for `scatter`.
            topic: Topic that the agents handle.
            payload: The message, a JSON object.

        Raises:
            InvalidRequestError: Naming what is wrong; also if more than 1000 agents match.
            UnavailableError: If agents cannot be found; or if NATS is away, and then it says how many may have been
                told.
            ForbiddenError: If NATS does not let this user tell one of them; the others are told.
        """
        check_topic(topic)
        body = encode_fields(payload or {})
        agents = await whom(self.discover, query, None, self._timeout)
        await tell(self._connection, agents, topic, body, self._timeout)
        return agents

    def group(self, query: ServiceQuery | str) -> Group:
        """Return the group of the agents that match, which is known at every moment inside of its `async with`.

        For who asks the same agents again and again, or wants to know who joins and leaves: see `Group`. Entering it
        raises a `RegistryError` if the registry does not say who is there.

        Args:
            query: Who belongs to it: a query, whose `limit` and bounds on health and load do not count, or the name of
                a capability.
        """
        return Group(self._connection, self._requester, self._reports, query, self._timeout)

    async def _scatter(self, query: ServiceQuery | str, question: Question) -> Scatter:
        agents = await whom(self.discover, query, question.n, question.left)
        return Scatter(self._connection, self._reports, agents, question)

    async def _command(self, operation: str, agent_id: str, reason: str | None) -> AgentInfo:
        agent = AgentInfo.from_wire(await self._requester.ask(operation, _command(agent_id, reason)))
        self._wrote(agent.revision)
        return agent

    def _wrote(self, revision: int) -> None:
        self._written, self._written_at = max(self._written, revision), time.monotonic()

    def _own_writes(self) -> int:
        """Return the revision that an answer must have reached to show this client's own changes; 0 for any."""
        return self._written if time.monotonic() - self._written_at < OWN_WRITES else 0


def _command(agent_id: str, reason: str | None) -> dict[str, Any]:
    return {"agent_id": agent_id} if reason is None else {"agent_id": agent_id, "reason": reason}
