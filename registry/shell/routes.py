"""From subjects to facts: every operation of the wire contract, checked here and handed to the core.

A handler never waits for JetStream: nats-py runs one callback of a subscription at a time, so waiting would make every
request wait for the one before. Queries are answered from memory on the spot; commands are answered when the core says
so.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter

from agents_sdk.protocol import subjects as operations
from agents_sdk.protocol.assignments import AssignmentRequest, AssignmentsQuery, ReleaseCommand
from agents_sdk.protocol.codec import adapter, check, parse
from agents_sdk.protocol.conflicts import ConflictQuery, RuleChange
from agents_sdk.protocol.discovery import ServiceQuery
from agents_sdk.protocol.errors import Detail, InternalError, InvalidRequestError, OverloadedError, RegistryError
from agents_sdk.protocol.registration import AgentCommand, AgentQuery, Registration
from agents_sdk.protocol.scaling import PolicyChange, ScalingQuery
from agents_sdk.protocol.schema.endpoint import metadata_of
from agents_sdk.protocol.schema.query import SchemaQuery
from agents_sdk.protocol.statistics import Empty
from agents_sdk.protocol.subjects import LED, MESSAGE_ID, SHARED, TELEMETRY, Subjects, check_same_agent
from agents_sdk.protocol.telemetry import HealthReport, Heartbeat, PerformanceReport, ProblemReport
from registry.core.errors import RefusedError
from registry.core.events import CommandRequested, Event, RegisterRequested, TelemetryReceived
from registry.shell.agent_card import AgentCards
from registry.shell.bus_nats import REQUEST_INFO
from registry.shell.clock import monotonic
from registry.shell.facts import (
    assignment,
    assignments,
    command,
    health,
    heartbeat,
    performance,
    policy_change,
    problem,
    registration,
    release,
    rule_change,
)
from registry.shell.logs import get_logger
from registry.shell.micro import Endpoint
from registry.shell.observability import trace_of
from registry.shell.replies import NatsReply, Reply
from registry.shell.wire import to_error

if TYPE_CHECKING:
    from registry.core.state import RegistryState
    from registry.shell.bus_nats import Bus, Headers, Message
    from registry.shell.observability import Observability
    from registry.shell.queries import Queries

log = get_logger(__name__)

_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

MAX_WAITING = 1024
"""Queries that wait for a revision or for the leader at once."""

MAX_KNOWN = 1024
MAX_KNOWN_BYTES = 1024
"""Queries remembered in their checked form, and how long they may be."""

Answer = Callable[[Any, float], Awaitable[bytes]]
"""Takes a checked query and the instant of its arrival, returns the answer."""

_OF_A_REVISION = (operations.DISCOVER, operations.GET)
"""Queries that may ask for a state at least as new as a revision."""

ToFact = Callable[[Any, float, Reply | None, str | None], Event]
"""Takes a checked message, the instant of its arrival, where to answer, and who sent it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: how its messages are checked, and what is made of them. Either `answer` or `to_fact` is set."""

    name: str
    adapter: TypeAdapter[Any]
    endpoint: Endpoint
    to_fact: ToFact | None = None
    answer: Answer | None = None


class Routes:
    """Serves the operations.

    Args:
        bus: The connection.
        subjects: Names.
        replica_id: Under which its operations are served, too.
        state: Where refusals are counted, and who leads is known.
        queries: Answers queries.
        dispatch: Takes facts.
        verify_identity: Whether the `Nats-Request-Info` header is trusted.
        observability: Where spans go, if anywhere.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        replica_id: str,
        state: RegistryState,
        queries: Queries,
        dispatch: Callable[[Event], Awaitable[None]],
        verify_identity: bool,
        observability: Observability | None,
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._replica_id = replica_id
        self._state = state
        self._queries = queries
        self._dispatch = dispatch
        self._subscriptions: list[Any] = []
        self._waiting: set[asyncio.Task[None]] = set()
        """Queries that wait for a revision or for the leader."""
        self._verify_identity = verify_identity
        self._observability = observability
        self._cards = AgentCards()
        self._operations = [
            self._operation(operations.REGISTER, Registration, to_fact=registration),
            self._operation(operations.DEREGISTER, AgentCommand, to_fact=command("deregister")),
            self._operation(operations.SUSPEND, AgentCommand, to_fact=command("suspend")),
            self._operation(operations.RESUME, AgentCommand, to_fact=command("resume")),
            self._operation(operations.DRAIN, AgentCommand, to_fact=command("drain")),
            self._operation(operations.HEARTBEAT, Heartbeat, to_fact=heartbeat),
            self._operation(operations.HEALTH, HealthReport, to_fact=health),
            self._operation(operations.PERFORMANCE, PerformanceReport, to_fact=performance),
            self._operation(operations.REPORT, ProblemReport, to_fact=problem),
            self._operation(operations.DISCOVER, ServiceQuery, answer=queries.discover),
            self._operation(operations.GET, AgentQuery, answer=queries.get),
            self._operation(operations.STATS, Empty, answer=queries.stats),
            self._operation(operations.CAPABILITIES, Empty, answer=queries.capabilities),
            self._operation(operations.SCALING_GET, ScalingQuery, answer=queries.scaling),
            self._operation(operations.SCALING_SET, PolicyChange, to_fact=policy_change),
            self._operation(operations.CONFLICT_GET, ConflictQuery, answer=queries.conflicts),
            self._operation(operations.CONFLICT_SET, RuleChange, to_fact=rule_change),
            self._operation(operations.ASSIGN, AssignmentRequest, to_fact=assignment),
            self._operation(operations.RELEASE, ReleaseCommand, to_fact=release),
            self._operation(operations.ASSIGNMENTS, AssignmentsQuery, to_fact=assignments),
            self._operation(operations.REPLICAS, Empty, answer=queries.presence),
            self._operation(operations.SCHEMA, SchemaQuery, answer=queries.schema),
        ]
        self._known: dict[bytes, Any] = {}
        """Checked queries by payload: callers ask the same again and again."""

    def _operation(
        self, name: str, message: type[Any], to_fact: ToFact | None = None, answer: Answer | None = None
    ) -> Operation:
        queue = self._subjects.service if name in SHARED else ""
        endpoint = Endpoint(name.replace(".", "-"), self._subjects.operation(name), queue, metadata_of(name))
        return Operation(name, adapter(message), endpoint, to_fact, answer)

    @property
    def endpoints(self) -> list[Endpoint]:
        """What is served, for `$SRV`."""
        return [operation.endpoint for operation in self._operations]

    async def start(self) -> None:
        """Serve from now on."""
        for operation in self._operations:
            await self._serve(operation, operation.endpoint.subject, operation.endpoint.queue_group)
            if operation.name in SHARED:
                own = self._subjects.operation(operation.name, replica_id=self._replica_id)
                await self._serve(operation, own, queue="")

    async def stop(self) -> None:
        """Serve no longer; return when all that was asked has been answered, or is in the core's hands."""
        subscriptions, self._subscriptions = self._subscriptions, []
        await self._bus.unsubscribe(subscriptions)
        if self._waiting:
            await asyncio.wait(self._waiting)

    async def _serve(self, operation: Operation, subject: str, queue: str) -> None:
        handler = self._handler(operation, subject)
        self._subscriptions.append(await self._bus.subscribe(subject, handler, queue))
        if operation.name in operations.AGENT_BOUND:
            self._subscriptions.append(await self._bus.subscribe(self._subjects.bound(subject), handler, queue))

    def _handler(self, operation: Operation, subject: str) -> Callable[[Message], Awaitable[None]]:
        async def handle(msg: Message) -> None:
            if operation.name in LED and not self._state.leading:
                return
            started, at = time.perf_counter_ns(), monotonic()
            on_end, trace = None, trace_of(msg.headers)
            if self._observability is not None:
                on_end, trace = self._observability.begin(operation.name, msg.subject, len(msg.data), msg.headers)
            reply = NatsReply(self._bus, msg.reply, operation.endpoint, started, on_end)
            try:
                if operation.answer is None:
                    await self._fact(operation, subject, msg, at, reply, trace)
                else:
                    await self._query(operation, subject, msg, at, reply)
            except Exception as error:
                await self._refuse(operation, reply, error)

        return handle

    async def _refuse(self, operation: Operation, reply: NatsReply, why: Exception) -> None:
        """Answer whatever went wrong, and count it."""
        error = self._error_of(operation, why)
        self._state.statistics.refused[error.code] += 1
        if operation.name in TELEMETRY and not self._state.leading:
            reply.mute()
        await reply.fail(error)

    def _error_of(self, operation: Operation, why: Exception) -> RegistryError:
        """Return what the caller is told; a defect is told to the log instead."""
        if isinstance(why, RefusedError):
            return to_error(why)
        if isinstance(why, RegistryError):
            return why
        incident = secrets.token_hex(4)
        log.error("request_failed", operation=operation.name, incident=incident, exc_info=why)
        return InternalError(f"the registry failed; its log says more under {incident}")

    async def _query(self, operation: Operation, subject: str, msg: Message, at: float, reply: NatsReply) -> None:
        assert operation.answer is not None
        message = self._known.get(msg.data) if operation.name == operations.DISCOVER else None
        if message is None:
            message = self._check(operation, subject, msg)
            if operation.name == operations.DISCOVER:
                self._remember(msg.data, message)
        if operation.name in _OF_A_REVISION and self._queries.must_wait(message.min_revision):
            if len(self._waiting) >= MAX_WAITING:
                raise OverloadedError(f"min_revision: {MAX_WAITING} queries wait for a newer state already; try again")
            self._spawn(self._later(operation, message, reply))
            return
        is_shared = operation.name == operations.GET and subject == operation.endpoint.subject
        if is_shared and not self._state.leading and len(self._waiting) < MAX_WAITING:
            self._spawn(self._from_leader(operation, message, reply))
            return
        await reply.answer(await operation.answer(message, at))

    def _spawn(self, answering: Coroutine[Any, Any, None]) -> None:
        waiting = asyncio.ensure_future(answering)
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)

    async def _from_leader(self, operation: Operation, query: AgentQuery, reply: NatsReply) -> None:
        """Answer with what the leader knows, who alone probes; with what is known here if it does not answer."""
        assert operation.answer is not None
        try:
            answer = await self._queries.ask_leader(query)
            await reply.answer(answer or await operation.answer(query, monotonic()))
        except Exception as error:
            await self._refuse(operation, reply, error)

    async def _later(self, operation: Operation, query: ServiceQuery | AgentQuery, reply: NatsReply) -> None:
        assert operation.answer is not None
        try:
            await self._queries.reach(query.min_revision)
            await reply.answer(await operation.answer(query, monotonic()))
        except Exception as error:
            await self._refuse(operation, reply, error)

    async def _fact(
        self, operation: Operation, subject: str, msg: Message, at: float, reply: NatsReply, trace: str | None
    ) -> None:
        assert operation.to_fact is not None
        message = self._check(operation, subject, msg)
        if operation.name == operations.REGISTER and await self._cards.check(message.metadata):
            at = monotonic()  # the first card took a while
        fact = operation.to_fact(message, at, reply, self._identity(msg))
        if isinstance(fact, TelemetryReceived):
            if not msg.reply or not self._state.leading:  # nobody waits, or the leader answers: only count how it ends
                reply.mute()
                fact.ack = False
        elif isinstance(fact, RegisterRequested | CommandRequested):
            fact.trace, fact.name = trace, _name(operation.name, msg.headers)
        await self._dispatch(fact)
        if operation.name in TELEMETRY and not reply.ended:
            reply.done()

    def _remember(self, payload: bytes, query: Any) -> None:
        if len(payload) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[payload] = query

    def _check(self, operation: Operation, subject: str, msg: Message) -> Any:
        fields = parse(msg.data)
        if operation.name in operations.AGENT_BOUND:
            agent_id = self._subjects.agent_id_of(msg.subject, subject)
            if agent_id is not None:
                given = fields.get("agent_id")
                if isinstance(given, str):
                    check_same_agent(agent_id, given)
                elif given is None:
                    fields["agent_id"] = agent_id
        return check(operation.adapter, fields)

    def _identity(self, msg: Message) -> str | None:
        if not self._verify_identity:
            return None
        identity = _identity_in((msg.headers or {}).get(REQUEST_INFO))
        if identity is None:
            raise RefusedError(
                "forbidden",
                "the request came without a verified identity; use an account that imports it with share: true",
            )
        return identity


def _name(operation: str, headers: Headers | None) -> str | None:
    """Return the name that its sender gave a command, if it did.

    Raises:
        InvalidRequestError: If the name is not one.
    """
    given = headers.get(MESSAGE_ID) if headers else None
    if given is None:
        return None
    if _MESSAGE_ID.fullmatch(given) is None:
        message = f"must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -; got {given[:80]!r}"
        raise InvalidRequestError(f"{MESSAGE_ID}: {message}", [Detail(MESSAGE_ID, message)])
    # Somebody who counts from 1 for each kind of command means different ones.
    return given if operation == operations.REGISTER else f"{operation}-{given}"


def _identity_in(info: str | None) -> str | None:
    """Return who the server says is asking, as account/user; None when it does not say both."""
    try:
        known = orjson.loads(info or b"")
    except orjson.JSONDecodeError:
        return None
    match known:
        case {"acc": str(account), "user": str(user)} if account and user:
            return f"{account}/{user}"
    return None
