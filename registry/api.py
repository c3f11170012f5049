"""The registry in process, as the API reference writes it.

An `AgentRegistry` is a replica: what it registers is seen by every other replica and client, and the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import orjson

from agents_sdk.protocol.assignments import DEFAULT_TTL, AssignmentRequest, Grant, ReleaseCommand
from agents_sdk.protocol.codec import adapter, check, check_finite, decode_reply, encode
from agents_sdk.protocol.discovery import AgentInfo, ServiceQuery
from agents_sdk.protocol.errors import InvalidRequestError, UnavailableError
from agents_sdk.protocol.registration import AgentCommand, Registration
from agents_sdk.protocol.subjects import ASSIGN, HEALTH, PERFORMANCE, RELEASE
from agents_sdk.protocol.telemetry import HealthReport, PerformanceReport
from registry.communication_bus import CommunicationBus
from registry.core.agent import Agent
from registry.core.errors import RefusedError
from registry.core.events import Event
from registry.replica import Replica
from registry.settings import Settings, default_policy, read
from registry.shell.agent_card import AgentCards
from registry.shell.bus_nats import NobodyThereError
from registry.shell.clock import monotonic
from registry.shell.facts import command, registration
from registry.shell.home import Home
from registry.shell.logs import get_logger
from registry.shell.replies import LocalReply
from registry.shell.wire import agent_fields, load_age, to_error, to_query

log = get_logger(__name__)

_REGISTRATION = adapter(Registration)
_COMMAND = adapter(AgentCommand)
_HEALTH = adapter(HealthReport)
_PERFORMANCE = adapter(PerformanceReport)
_QUERY = adapter(ServiceQuery)
_ASSIGNMENT = adapter(AssignmentRequest)
_RELEASE = adapter(ReleaseCommand)

ANSWER_TIMEOUT = 15.0
"""Seconds after which a command that JetStream does not settle is given up; its outcome is then unknown."""


class AgentRegistry:
    """A replica of the registry in this process.

    The coroutines belong to the event loop on which `start` ran; called on another one they are carried out there. The
    plain calls may be made from any thread. Once that loop has ended, both raise `RuntimeError`. What was given and
    what is returned is the caller's to change.

    When NATS is lost for good, the log says so, and so do all calls, with `UnavailableError`.

    Args:
        communication_bus: Where NATS is; started before the registry.
        settings: Settings; read from the environment when left out.

    Raises:
        SettingsError: A `ValueError` that names the variable, if the environment cannot be used.
    """

    def __init__(self, communication_bus: CommunicationBus, settings: Settings | None = None) -> None:
        self._bus = communication_bus
        self._settings = settings or read()
        self._home = Home[Replica]("the AgentRegistry")
        self._cards = AgentCards()
        self._auto_scaling = self._settings.auto_scaling_enabled
        self._policy = default_policy(self._settings)

    async def start(self) -> None:
        """Start the replica; return when it answers. Once is enough, however many ask for it.

        Raises:
            UnreachableError: If NATS cannot be reached.
            StoreError: If JetStream does not do what is needed.
            UnavailableError: If it had started, and has lost NATS for good; stop it first.
        """
        self._home.claim()
        await self._home.run(self._start)

    async def _start(self) -> None:
        async with self._home.changing():
            if self._home.occupant is not None:
                self._check_working(self._home.occupant)
                return
            replica = Replica(self._settings, self._bus.url)
            scaler = replica.state.scaler
            scaler.enabled, scaler.policies.default = self._auto_scaling, self._policy
            await replica.start()
            assert replica.failed is not None
            replica.failed.add_done_callback(lambda failed: log.error("registry_failed", why=failed.result()))
            self._home.occupant = replica

    async def stop(self) -> None:
        """Hand leadership over and disconnect. What is registered stays registered."""
        if self._home.has_ended:
            self._home.leave()  # its connection has ended with its loop
        elif self._home.loop is not None:
            await self._home.run(self._stop)

    async def _stop(self) -> None:
        async with self._home.changing():
            replica, self._home.occupant = self._home.occupant, None
            if replica is not None:
                await replica.stop()

    async def register_agent(self, agent_info: Mapping[str, Any]) -> str:
        """Register an agent.

        Args:
            agent_info: `agent_type` and `capabilities`, and whatever else a registration may say.

        Returns:
            The agent's id.

        Raises:
            InvalidRequestError: A `ValueError` that names the field.
            AlreadyRegisteredError: If a live agent holds the id.
        """
        check_finite(agent_info)
        message = check(_REGISTRATION, agent_info)
        await self._cards.check(message.metadata)
        metadata = _copied(message.metadata)
        canaries = _copied({name: canary.model_dump() for name, canary in message.canaries.items()})

        def make(at: float, reply: LocalReply) -> Event:
            wanted = registration(message, at, reply, None)
            wanted.metadata, wanted.canaries = metadata, canaries
            return wanted

        receipt = await self._ask(make)
        return str(receipt["agent_id"])

    async def deregister_agent(self, agent_id: str) -> bool:
        """Deregister an agent; return whether there was one."""
        message = check(_COMMAND, {"agent_id": agent_id})
        answer = await self._ask(lambda at, reply: command("deregister")(message, at, reply, None))
        return bool(answer["deregistered"])

    async def discover_agents(self, query: ServiceQuery) -> list[AgentInfo]:
        """Return the agents that match, best first.

        Raises:
            InvalidRequestError: If the query is not one.
        """
        checked = check(_QUERY, {item.name: getattr(query, item.name) for item in fields(query)})
        checked.metadata = checked.metadata and _copied(checked.metadata)

        async def find() -> list[AgentInfo]:
            try:
                agents, _ = self._running.state.find(to_query(checked))
            except RefusedError as refused:
                raise to_error(refused) from None
            return [_info(agent) for agent in agents]

        return await self._home.run(find)

    async def update_agent_health(self, agent_id: str, health_data: Mapping[str, Any]) -> None:
        """Report an agent's health; renews its lease.

        Args:
            agent_id: Its id.
            health_data: `health_score`, `load_factor`, `response_time` (s), and further numbers, which become metrics.

        Raises:
            InvalidRequestError: A `ValueError` that names the field.
            NotFoundError: If no such agent is registered.
        """
        report = {**health_data, "agent_id": agent_id}
        check_finite(report)
        check(_HEALTH, report)
        await self._home.run(lambda: self._led(HEALTH, report))

    async def update_agent_performance(self, agent_id: str, metrics: Mapping[str, float]) -> None:
        """Report an agent's performance; renews its lease.

        Args:
            agent_id: Its id.
            metrics: Name to number: `requests_served` (a total), `avg_response_time` (s), `success_rate` (0 to 1),
            `uptime`, ...

        Raises:
            InvalidRequestError: A `ValueError` that names the field.
            NotFoundError: If no such agent is registered.
        """
        report = {"agent_id": agent_id, "metrics": dict(metrics)}
        check_finite(report)
        check(_PERFORMANCE, report)
        await self._home.run(lambda: self._led(PERFORMANCE, report))

    async def assign(
        self,
        query: ServiceQuery,
        *,
        task_id: str | None = None,
        slots: int = 1,
        ttl: float = DEFAULT_TTL,
        wait: float = 0.0,
    ) -> Grant:
        """Find an agent and reserve slots of it, in one step; the replica that leads does so.

        Args:
            query: Which agents would do; `limit`, `sort_by`, `statuses`, `explain` and `min_revision` are refused.
            task_id: Names the task; asked for again with it, the answer is the same as long as its assignment lives.
            slots: How many slots, 1 to 1000.
            ttl: Seconds after which it ends by itself, 1 to 86400.
            wait: Seconds to wait for an agent to be free, 0 to 60.

        Raises:
            InvalidRequestError: If no agent ever has so many slots, or a value is out of bounds.
            UnavailableError: If nobody is free, or no replica leads now; ask again with the same `task_id`.
        """
        wanted = {**query.to_wire(), "task_id": task_id, "slots": slots, "ttl": ttl, "wait": wait}
        check(_ASSIGNMENT, wanted)
        answer = await self._home.run(lambda: self._led(ASSIGN, wanted, ANSWER_TIMEOUT + wait))
        return Grant.from_wire(answer)

    async def release(self, assignment_id: str) -> bool:
        """End an assignment, whose work is done; return whether it lived.

        Raises:
            UnavailableError: If no replica leads now.
        """
        wanted = {"assignment_id": assignment_id}
        check(_RELEASE, wanted)
        return bool((await self._home.run(lambda: self._led(RELEASE, wanted)))["released"])

    def get_agent_info(self, agent_id: str) -> AgentInfo | None:
        """Return an agent, or None if no such agent is registered."""

        def get() -> AgentInfo | None:
            agent = self._running.state.agents.get(agent_id)
            return None if agent is None else _info(agent)

        return self._home.call(get)

    def get_registry_stats(self) -> dict[str, Any]:
        """Return the statistics of this replica: the API reference's ten, and more."""
        return self._home.call(self._statistics)

    def _statistics(self) -> dict[str, Any]:
        return self._running.statistics()

    @property
    def auto_scaling_enabled(self) -> bool:
        """Whether this replica, when it leads, issues scaling orders."""
        return self._auto_scaling

    @auto_scaling_enabled.setter
    def auto_scaling_enabled(self, enabled: bool) -> None:
        self._auto_scaling = bool(enabled)
        if self._replica is not None:
            self._replica.state.scaler.enabled = self._auto_scaling

    @property
    def min_agents_per_capability(self) -> int:
        """Fewer agents than this are ordered up, for capabilities without a policy of their own."""
        return self._policy.min_agents

    @min_agents_per_capability.setter
    def min_agents_per_capability(self, count: int) -> None:
        self._set_policy(min_agents=count, max_agents=max(count, self._policy.max_agents))

    @property
    def max_agents_per_capability(self) -> int:
        """More agents than this are ordered down, for capabilities without a policy of their own."""
        return self._policy.max_agents

    @max_agents_per_capability.setter
    def max_agents_per_capability(self, count: int) -> None:
        self._set_policy(max_agents=count, min_agents=min(count, self._policy.min_agents))

    @property
    def scaling_thresholds(self) -> Mapping[str, float]:
        """`high_load`, `low_load`, `health_degraded`; assign a mapping to change some or all of them."""
        policy = self._policy
        known = {"high_load": policy.high_load, "low_load": policy.low_load, "health_degraded": policy.health_degraded}
        return MappingProxyType(known)

    @scaling_thresholds.setter
    def scaling_thresholds(self, thresholds: Mapping[str, float]) -> None:
        unknown = set(thresholds) - set(self.scaling_thresholds)
        if unknown:
            known = ", ".join(self.scaling_thresholds)
            raise InvalidRequestError(f"scaling_thresholds: {sorted(unknown)} are unknown; known are {known}")
        merged = {**self.scaling_thresholds, **thresholds}
        self._set_policy(**merged, target_load=round((merged["high_load"] + merged["low_load"]) / 2, 4))

    def _set_policy(self, **changes: Any) -> None:
        policy = replace(self._policy, **changes)
        try:
            policy.check()
        except RefusedError as refused:
            raise to_error(refused) from None
        self._policy = policy
        if self._replica is not None:
            self._replica.state.scaler.policies.default = policy

    @property
    def _replica(self) -> Replica | None:
        return self._home.occupant

    @property
    def _running(self) -> Replica:
        replica = self._replica
        if replica is None:
            raise RuntimeError("start the AgentRegistry first: await registry.start()")
        self._check_working(replica)
        return replica

    def _check_working(self, replica: Replica) -> None:
        """Refuse to answer from what was known when NATS was lost for good.

        Raises:
            UnavailableError: Naming what has happened.
        """
        why = self._bus.failure
        if why is None and replica.failed is not None and replica.failed.done():
            why = replica.failed.result()
        if why is not None:
            raise UnavailableError(f"the AgentRegistry cannot go on: {why}")

    async def _ask(self, make: Callable[[float, LocalReply], Event]) -> Any:
        """Hand a command to the core and wait for its answer."""

        async def ask() -> Any:
            reply = LocalReply()
            await self._running.dispatch(make(monotonic(), reply))
            try:
                return await asyncio.wait_for(reply.future, ANSWER_TIMEOUT)
            except TimeoutError:
                raise UnavailableError(f"no outcome within {ANSWER_TIMEOUT:g} s; it may still take place") from None

        return await self._home.run(ask)

    async def _led(self, operation: str, asked: Mapping[str, Any], within: float = ANSWER_TIMEOUT) -> dict[str, Any]:
        """Ask the way others do, so that every replica hears it; return what the leader answers."""
        replica = self._running
        subject = replica.subjects.operation(operation)
        try:
            answer = await replica.bus.request(subject, encode(asked), within)
        except (NobodyThereError, TimeoutError) as error:
            raise UnavailableError(f"{operation!r} was not answered: {error}") from None
        return decode_reply(answer.data)


def _copied(free: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata or canaries of which nothing is shared, as every other replica reads them; most have none."""
    copied: dict[str, Any] = orjson.loads(orjson.dumps(free)) if free else {}
    return copied


def _info(agent: Agent) -> AgentInfo:
    own = {"metadata": _copied(agent.record.metadata), "canaries": _copied(agent.record.canaries)}
    vitals = {"performance_metrics": dict(agent.metrics), "load_age": load_age(agent, monotonic())}
    return AgentInfo.from_wire({**agent_fields(agent), **own, **vitals})
