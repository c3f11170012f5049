"""One replica of the registry: everything put together, started and stopped in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson

from agents_sdk.protocol.registration import AgentQuery
from agents_sdk.protocol.schema.document import document
from agents_sdk.protocol.subjects import GET, Subjects
from registry.blank import blank_state
from registry.core.conflict_events import RefusalTold, RuleChanged, ViolationChanged
from registry.core.effects import Effect
from registry.core.events import (
    Connected,
    Disconnected,
    Event,
    LeadershipChanged,
    OrdersChanged,
    PoliciesReplaced,
    PolicyChanged,
    PulseHeard,
    Tick,
)
from registry.core.handler import handle
from registry.core.limits import LATE
from registry.core.path import TICK
from registry.core.status import Status
from registry.settings import Settings
from registry.shell import observability, orders, policies, rules
from registry.shell.assignment_log import AssignmentLog
from registry.shell.bucket_log import BucketLog
from registry.shell.bus_nats import Bus, NobodyThereError, UnreachableError
from registry.shell.clock import monotonic, new_replica_id, uptime, wall
from registry.shell.connections import Connections
from registry.shell.effector import Effector
from registry.shell.election import KEY as LEADER_KEY
from registry.shell.election import Election
from registry.shell.entry import Entry
from registry.shell.logs import get_logger
from registry.shell.micro import MicroService
from registry.shell.projector import KEY as MARK_KEY
from registry.shell.projector import Projector
from registry.shell.pulse import Pulse
from registry.shell.queries import Queries
from registry.shell.refusals import refusal_in
from registry.shell.routes import Routes
from registry.shell.services import Services
from registry.shell.store import Store
from registry.shell.tail import Tail
from registry.shell.tasks import end
from registry.shell.trouble import Trouble

log = get_logger(__name__)

LEADER_PATIENCE = 0.25
"""Seconds that a follower gives the leader to say what it knows of an agent."""

START_TIMEOUT = 10.0
"""Seconds until the server must know what this replica serves."""


STOP_TIMEOUT = 6.0
"""Seconds that writes under way may take to end at a stop; an acknowledgement is waited for 5 s."""


class Replica:
    """A replica; start as many as wanted against the same NATS.

    Args:
        settings: Its settings.
        nats_url: Where NATS listens.
    """

    def __init__(self, settings: Settings, nats_url: str) -> None:
        self.settings = settings
        self.replica_id = new_replica_id()
        self.subjects = Subjects(settings.prefix)
        self._nats_url = nats_url
        self.bus = self._connection(f"agent-registry:{self.replica_id}")
        self.state = blank_state(settings, self.replica_id)
        self.failed: asyncio.Future[str] | None = None
        """Resolved with a sentence when the replica cannot go on."""
        self.pulse = Pulse(self.bus, self.subjects.pulse(self.replica_id), self._pulse_heard)
        self.connections = Connections(self.bus, self._connection, self.dispatch)
        self._trouble = Trouble(log)
        self._started = monotonic()
        self._parts = AsyncExitStack()
        """Stops the parts that were started, the last one first."""

    async def start(self) -> None:
        """Connect, restore, serve; return when requests are answered. A start that fails leaves nothing behind.

        Raises:
            UnreachableError: If NATS cannot be reached.
            StoreError: If JetStream does not do what is needed.
        """
        self.failed = asyncio.get_running_loop().create_future()
        try:
            await self._connect()
            await self._restore()
            await self._serve()
        except BaseException:
            await self.stop()
            raise
        log.info("serving", nats=self.bus.url, replica=self.replica_id, agents=len(self.state.agents))

    async def stop(self) -> None:
        """Let what is under way end, hand leadership over, disconnect."""
        await self._parts.aclose()

    def _connection(self, name: str) -> Bus:
        """Return a connection of that name, not made yet."""
        return Bus(self._nats_url, name, _login(self.settings), self.settings.prefix)

    # What stops a part is pushed before the part is started: one that fails half-way has begun all the same.

    async def _connect(self) -> None:
        stops = self._parts.push_async_callback
        stops(self.bus.close)
        await self.bus.connect()
        self.store = Store(self.bus, self.subjects, self.settings.kv_replicas)
        await self.store.open()

    async def _restore(self) -> None:
        stops = self._parts.push_async_callback
        self.election = Election(
            self.bus, self.store, self.subjects, self.replica_id, self.settings.leader_lease, self._led
        )
        self.projector = Projector(self.store, self.subjects, self.replica_id, self.election.holds)
        self.log = BucketLog(self.store, self._decide, self._perform, self.projector)
        self.assignments = AssignmentLog(self.store, self.dispatch, self.projector.losses)
        verify = self.settings.identity == "request-info"
        self.services = Services(self.bus, self.subjects, self.state.adoption, self.dispatch, verify)
        self.effector = Effector(
            self.bus,
            self.store,
            self.subjects,
            self.dispatch,
            self.log,
            self.assignments,
            self.projector,
            self.services,
        )
        self._control = Tail(self.store, self.subjects.control_bucket, self._control_heard, self._control_replaced)
        stops(self.effector.stop)
        stops(self.projector.follow)
        await self._tick()
        stops(self.log.stop)
        await self.log.start()
        stops(self.assignments.stop)
        await self.assignments.start()
        stops(self._control.stop)
        await self._control.start()

    async def _serve(self) -> None:
        stops = self._parts.push_async_callback
        self.bus.on_connected = self._connected
        self.bus.on_disconnected = self._disconnected
        self.bus.on_closed = self._closed
        await self._connected()
        await self.bus.subscribe(self.subjects.replica(self.replica_id), self._present)
        await self.bus.subscribe(self.subjects.refusals, self._refusal_told)
        await self.pulse.start()
        await self.services.start()
        stops(self.election.stop)
        await self.election.start()
        # What was asked is answered before the log, which the answers need, and the connection end.
        stops(self._settled)
        contract = partial(document, subjects=self.subjects, version=VERSION)
        self.queries = Queries(
            self.state, self.log, self.statistics, self.presence, self.replica_id, self._ask_leader, contract
        )
        watcher = None
        if observability.is_configured():
            watcher = observability.Observability(self.state, self.subjects.service)
        verify = self.settings.identity == "request-info"
        self.routes = Routes(
            self.bus, self.subjects, self.replica_id, self.state, self.queries, self.dispatch, verify, watcher
        )
        stops(self.routes.stop)
        await self.routes.start()
        metadata = {"prefix": self.settings.prefix, "replica": self.replica_id}
        service = MicroService(self.subjects.service, self.replica_id, VERSION, metadata, self.routes.endpoints)
        await service.start(self.bus)
        stops(self.connections.stop)
        await self.connections.start()
        stops(end, asyncio.ensure_future(self._ticking()))
        # nats-py's flush does not wait for what is still buffered; an answer to oneself does.
        try:
            await self.bus.request(self.subjects.replica(self.replica_id), b"", START_TIMEOUT)
            await self.bus.client.flush()
        except (NobodyThereError, TimeoutError) as error:
            raise UnreachableError(f"NATS at {self.bus.url} stopped answering: {error!r}") from error

    async def _settled(self) -> None:
        """Wait until no write is under way, or time is up."""
        deadline = monotonic() + STOP_TIMEOUT
        state = self.state
        while (state.writes or state.ledger.underway) and self.bus.connected and monotonic() < deadline:  # noqa: ASYNC110 - the core tells nobody
            await asyncio.sleep(TICK / 10)

    async def dispatch(self, event: Event) -> None:
        """Hand a fact to the core and carry out its orders."""
        await self._perform(self._decide(event))

    def _decide(self, event: Event) -> list[Effect]:
        return handle(self.state, event)

    async def _perform(self, effects: Iterable[Effect]) -> None:
        await self.effector.perform(effects)

    def presence(self) -> dict[str, Any]:
        """Return what `replicas` answers, and this replica on its own subject."""
        return {
            "replica": self.replica_id,
            "leader": self.state.leading,
            "leader_epoch": self.state.epoch,
            "revision": self.log.revision,
            "registered_agents": len(self.state.agents),
            "uptime": round(monotonic() - self._started, 3),
            "version": VERSION,
        }

    def statistics(self) -> dict[str, Any]:
        """Return what `stats` answers."""
        state, counts = self.state, self.state.statistics
        statuses = state.catalog.statuses
        return {
            "total_registrations": counts.registrations,
            "active_agents": statuses[Status.ACTIVE],
            "degraded_agents": statuses[Status.DEGRADED],
            "health_checks_performed": counts.health_checks,
            "failed_health_checks": counts.failed_health_checks,
            "auto_scaling_events": counts.scaling_orders,
            "service_discovery_requests": counts.discoveries,
            "assignments": len(state.ledger),
            "assignments_made": counts.assignments,
            "capabilities_distribution": {name: n for name, n in sorted(state.catalog.capabilities.items()) if n},
            "health_distribution": dict(state.catalog.healths),
            "status_distribution": {str(status): statuses[status] for status in Status if statuses[status]},
            "heartbeats_received": counts.heartbeats,
            "heartbeats_dropped": counts.heartbeats_dropped,
            "canaries_run": counts.canaries_run,
            "canaries_failed": counts.canaries_failed,
            "requests_refused": dict(counts.refused),
            "conflicts": {
                "refused": dict(state.refusals.counts),
                "standing": dict(Counter(str(rule.kind) for rule in state.catalog.rules.broken())),
            },
            "events_published": self.projector.published,
            "write_conflicts": counts.write_conflicts,
            "pending_writes": len(state.writes),
            "returns": counts.returns,
            "late_agents": len(state.leases.late),
            "protection": {cause: state.wall(since) for cause, since in state.protection.causes.items()},
            "judge": {
                "lag": round(state.path.lag, 6),
                "allowance": round(state.path.allowance, 6),
                "late_ticks": state.path.late_ticks,
                "late_pulses": state.path.late_pulses,
                "outages": state.path.outages,
            },
            "connections_watched": state.connections_watched,
            "adopted_agents": len(state.adoption.agents),
            **self.presence(),
            "nats": {
                "reconnects": self.bus.reconnects,
                "errors": self.bus.errors,
                "slow_consumer_drops": self.bus.slow_consumer_drops,
                "resyncs": self.log.resyncs + self.assignments.resyncs + self._control.resyncs,
            },
        }

    async def _ask_leader(self, query: AgentQuery) -> bytes | None:
        """Return what the leader knows of an agent; None if there is none, or it knows of no such agent."""
        leader = self.election.holder
        if leader in ("", self.replica_id):
            return None
        subject = self.subjects.operation(GET, replica_id=leader)
        # The leader may know less of the log; what this replica has shown is not to be taken back.
        asked = {"agent_id": query.agent_id, "min_revision": max(query.min_revision, self.log.revision)}
        try:
            answer = await self.bus.request(subject, orjson.dumps(asked), LEADER_PATIENCE)
        except (NobodyThereError, TimeoutError):
            return None
        return None if answer.headers else answer.data

    async def _control_heard(self, entry: Entry) -> None:
        """Take note of the leader's lease, of how far events are published, of policies, orders and rules."""
        if entry.key == LEADER_KEY:
            self.election.noticed(entry)
            return
        if entry.key == MARK_KEY:
            self.projector.noticed(entry)
            return
        capability = policies.capability_of(entry.key)
        if capability is not None:
            policy, readable = policies.policy_in(entry)
            await self.dispatch(PolicyChanged(monotonic(), capability, policy, entry.revision, readable))
        capability = orders.capability_of(entry.key)
        if capability is not None:
            await self.dispatch(OrdersChanged(monotonic(), capability, orders.orders_in(entry), entry.revision))
        if entry.key.startswith(rules.RULE):
            rule, readable = rules.rule_in(entry)
            name = entry.key.removeprefix(rules.RULE)
            await self.dispatch(RuleChanged(monotonic(), name, rule, entry.revision, readable))
        if entry.key.startswith(rules.VIOLATION):
            name, told = entry.key.removeprefix(rules.VIOLATION), rules.violation_in(entry)
            await self.dispatch(ViolationChanged(monotonic(), name, told, entry.revision))

    async def _control_replaced(self) -> None:
        await self.dispatch(PoliciesReplaced(monotonic()))

    async def _led(self, leading: bool, epoch: int) -> None:
        await self.dispatch(LeadershipChanged(monotonic(), leading, epoch))
        if leading:
            await self.projector.lead()
            await self.projector.publish_state("leader_changed", epoch)
        else:
            await self.projector.follow()

    async def _present(self, msg: Any) -> None:
        inbox = self.bus.inbox(msg.reply)
        if inbox:
            await self.bus.publish(inbox, orjson.dumps(self.presence()))

    async def _refusal_told(self, msg: Any) -> None:
        clash = refusal_in(msg.data) if self.state.leading else None
        if clash is not None:
            await self.dispatch(RefusalTold(monotonic(), clash))

    async def _connected(self) -> None:
        self.election.doubt()
        await self.dispatch(Connected(monotonic()))
        self.connections.doubt()

    async def _disconnected(self) -> None:
        self.election.doubt()
        await self.dispatch(Disconnected(monotonic()))
        await self.connections.lost()

    def _closed(self) -> None:
        if self.failed is not None and not self.failed.done():
            self.failed.set_result("NATS closed the connection for good; its log and ours say why")

    async def _tick(self) -> None:
        await self.dispatch(Tick(monotonic(), wall(), self.election.holds()))

    async def _pulse_heard(self, sent: float) -> None:
        await self.dispatch(PulseHeard(monotonic(), sent))

    async def _ticking(self) -> None:
        while True:
            before = uptime()
            await asyncio.sleep(TICK)
            if uptime() - before > LATE:
                self.election.doubt()
            try:
                await self.pulse.send(monotonic())
                await self.election.check()  # before anything is decided in the name of a lease that has run out
                await self._tick()
            except Exception as error:
                self._trouble.defect("tick_failed", error=error)


def _login(settings: Settings) -> dict[str, Any]:
    return {} if settings.credentials is None else {"user_credentials": str(settings.credentials)}


def _version() -> str:
    try:
        return version("agent-registry")
    except PackageNotFoundError:
        return "0.0.0"  # run from a checkout that was not installed


VERSION = _version()
