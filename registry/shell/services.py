"""Asking micro services: who is there, what one is, how much one has done; and hearing those that beat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from agents_sdk.protocol.errors import RegistryError
from agents_sdk.protocol.subjects import Subjects
from registry.core.effects import CallServices, DescribeService, MeasureService, ShareVitals
from registry.core.errors import RefusedError
from registry.core.events import Event, RegisterRequested, TelemetryReceived
from registry.core.service import SYNADIA, Service
from registry.core.service_events import ServiceDescribed, ServiceMeasured
from registry.shell import foreign
from registry.shell.bus_nats import REQUEST_INFO, Bus, NobodyThereError
from registry.shell.clock import monotonic
from registry.shell.foreign import UnreadableError
from registry.shell.logs import get_logger
from registry.shell.trouble import Trouble

if TYPE_CHECKING:
    from registry.core.adoption import Adoption
    from registry.shell.bus_nats import Message
    from registry.shell.replies import Body

log = get_logger(__name__)

HEARTBEATS = "agents.hb.>"
"""Where agents of the Synadia Agent Protocol beat."""

PATIENCE = 2.0
"""Seconds that a service may take to answer."""

CONNECTIONS = "$SYS.REQ.ACCOUNT.PING.CONNZ"
"""Where every NATS server tells an account of its own connections."""

CONNECTIONS_PATIENCE = 1.0
"""Seconds that the NATS servers may take to say where a service is connected. One whose it is not says nothing of it,
and whether others are still to answer nobody knows."""


class Services:
    """Performs what the core orders to be asked of services.

    Args:
        bus: The connection.
        subjects: Names.
        adoption: What is adopted.
        dispatch: Takes the facts that come back.
        verify_identity: Whether requests of others carry who they are of; those of this registry's own replicas do not.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        adoption: Adoption,
        dispatch: Callable[[Event], Awaitable[None]],
        verify_identity: bool,
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._adoption = adoption
        self._dispatch = dispatch
        self._verify_identity = verify_identity
        self._inbox = ""
        self._lookups: dict[str, asyncio.Future[dict[str, Any]]] = {}
        """Questions for a connection, by the last token of where they are answered."""
        self._trouble = Trouble(log)

    async def start(self) -> None:
        """Hear what is answered, what beats, and what the leader tells of services."""
        self._inbox = self._bus.new_inbox()
        await self._bus.subscribe(f"{self._inbox}.service", self._heard(foreign.seen))
        await self._bus.subscribe(f"{self._inbox}.connection.*", self._found)
        await self._bus.subscribe(self._subjects.vitals, self._vitals)
        if SYNADIA in self._adoption.protocols:
            await self._bus.subscribe(HEARTBEATS, self._heard(foreign.beaten))

    def _heard(self, to_fact: Callable[[bytes, float], Event]) -> Callable[[Message], Awaitable[None]]:
        async def take(msg: Message) -> None:
            try:
                fact = to_fact(msg.data, monotonic())
            except UnreadableError as error:
                self._trouble.warning("service_unreadable", of=msg.subject, subject=msg.subject, error=str(error))
                return
            await self._dispatch(fact)

        return take

    async def call(self, effect: CallServices) -> None:
        """Call services; each that answers is heard."""
        for subject in effect.subjects:
            await self._bus.publish(subject, b"", reply=f"{self._inbox}.service")

    async def describe(self, effect: DescribeService) -> None:
        """Ask a service what it is, and the NATS servers where it is connected."""
        service = effect.service
        registration = None
        try:
            registration = await self._registration(service)
        except (NobodyThereError, TimeoutError):
            pass  # it has gone, or is met again
        except (UnreadableError, RegistryError) as error:
            self._refused(service, str(error))
        await self._dispatch(ServiceDescribed(monotonic(), service.id, registration))

    async def _registration(self, service: Service) -> RegisterRequested:
        protocol = self._adoption.protocol_of(service.name)
        assert protocol is not None, "others are not asked"
        looking = asyncio.ensure_future(self._connection(service))
        try:
            answer = await self._bus.request(service.subject("INFO"), b"", PATIENCE)
            told = foreign.description(answer.data, self._subjects.prefix)
            if (told.name, told.id) != (service.name, service.id):
                raise UnreadableError(f"it answers for {told.name!r} {told.id!r}")
            interval = await self._interval(told) if protocol == SYNADIA else None
            connection = await looking
        finally:
            looking.cancel()
        return foreign.adopted(told, protocol, interval, connection, monotonic(), _Outcome(self._refused, service))

    async def _interval(self, told: foreign.Description) -> float | None:
        """Return the seconds between a Synadia agent's heartbeats; None if it does not say."""
        subject = told.subjects().get("status")
        if subject is None:
            return None
        try:
            return foreign.interval((await self._bus.request(subject, b"", PATIENCE)).data)
        except (NobodyThereError, TimeoutError):
            return None

    async def _connection(self, service: Service) -> dict[str, Any] | None:
        """Return the NATS connection that a service listens on; None if the servers do not tell."""
        token = self._bus.new_inbox().rpartition(".")[2]
        found = self._lookups[token] = asyncio.get_running_loop().create_future()
        asked = orjson.dumps({"filter_subject": service.subject("PING"), "limit": 1})
        try:
            await self._bus.publish(CONNECTIONS, asked, reply=f"{self._inbox}.connection.{token}")
            return await asyncio.wait_for(found, CONNECTIONS_PATIENCE)
        except TimeoutError:
            return None
        finally:
            del self._lookups[token]

    async def _found(self, msg: Message) -> None:
        lookup = self._lookups.get(msg.subject.rpartition(".")[2])
        place = foreign.connection(msg.data)
        if lookup is not None and not lookup.done() and place is not None:
            lookup.set_result(place)

    async def measure(self, effect: MeasureService) -> None:
        """Ask a service how much it has done."""
        service = effect.service
        fact = ServiceMeasured(monotonic(), service.id, effect.incarnation)
        try:
            answer = await self._bus.request(service.subject("STATS"), b"", PATIENCE)
            fact.sample = foreign.sample(answer.data, monotonic())
        except NobodyThereError:
            fact.nobody = True
        except TimeoutError:
            pass  # a probe finds out what that means
        except UnreadableError as error:
            self._trouble.warning("service_unreadable", of=service.name, service=service.name, error=str(error))
        fact.at = monotonic()
        await self._dispatch(fact)

    async def share(self, effect: ShareVitals) -> None:
        """Tell every replica how a service does."""
        told = {
            "agent_id": effect.agent_id,
            "incarnation": effect.incarnation,
            "load_factor": effect.load_factor,
            "metrics": effect.metrics,
        }
        await self._bus.publish(self._subjects.vitals, orjson.dumps(told))

    async def _vitals(self, msg: Message) -> None:
        if self._verify_identity and REQUEST_INFO in (msg.headers or {}):
            self._trouble.warning("vitals_of_a_stranger", subject=msg.subject)
            return
        try:
            told = foreign.Vitals.model_validate_json(msg.data)
        except ValidationError as error:
            self._trouble.warning("vitals_unreadable", subject=msg.subject, error=str(error))
            return
        if told.agent_id in self._adoption.agents:
            fact = TelemetryReceived(
                monotonic(), None, None, told.agent_id, told.incarnation,
                load_factor=told.load_factor, metrics=told.metrics, ack=False,
            )  # fmt: skip
            await self._dispatch(fact)

    def _refused(self, service: Service, why: str) -> None:
        self._trouble.warning("service_not_adopted", of=service.name, service=service.name, id=service.id, why=why)


def unanswered(effect: DescribeService | MeasureService) -> Event:
    """Return the fact that a question to a service came to nothing."""
    service, at = effect.service, monotonic()
    if isinstance(effect, DescribeService):
        return ServiceDescribed(at, service.id, None)
    return ServiceMeasured(at, service.id, effect.incarnation)


class _Outcome:
    """Hears how a registration ended that nobody asked for."""

    def __init__(self, refused: Callable[[Service, str], None], service: Service) -> None:
        self._refused = refused
        self._service = service

    async def send(self, body: Body) -> None:
        """Tell the log of a refusal."""
        if isinstance(body, RefusedError):
            self._refused(self._service, body.message)
