"""The heart: a thread that registers, beats and answers health checks, whatever the work loop does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from agents_sdk import lease, lease_facts
from agents_sdk.condition import Condition
from agents_sdk.connection import Connection
from agents_sdk.dial import Address
from agents_sdk.ears import Ears
from agents_sdk.loop_thread import LoopThread
from agents_sdk.micro import MicroService
from agents_sdk.presence import Presence
from agents_sdk.protocol.errors import InternalError, NotFoundError, RegistryError, StaleIncarnationError
from agents_sdk.protocol.registration import Receipt
from agents_sdk.protocol.subjects import DEREGISTER, DRAIN, GET, HEARTBEAT, REGISTER, Subjects
from agents_sdk.pulse import Pulse
from agents_sdk.quiet import QuietLog
from agents_sdk.reach import Reach
from agents_sdk.requester import REGISTER_TIMEOUT, Requester
from agents_sdk.retry import Backoff
from agents_sdk.vitals import Reading

BEAT_TIMEOUT = 2.0
"""Seconds to wait for the answer to a beat."""

SETTLE_TIMEOUT = 3.0
"""Seconds that an agent which leaves waits to hear whether it has been registered."""

KNOCK_INTERVAL = 0.5
"""Seconds between two looks at the work loop."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registered:
    """The registration is durable; health checks are answered."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class DrainOrdered:
    """The registry wants the agent to finish and leave."""

    reason: str
    deadline: float | None
    """Unix time by which it should be gone."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The agent must not serve (any more)."""

    error: Exception


Signal = Registered | DrainOrdered | Ended


class Heart:
    """Keeps one agent's lease from a thread, a loop and a connection of its own.

    Args:
        registration: What to register, `agent_id` and `instance_id` included.
        address: Where NATS is.
        subjects: Subjects of the registry.
        condition: How the agent is doing.
        pulse: How late its work loop is.
        reach: Whether requests reach it; is told of the heart's own connection.
        service: Its face as a NATS micro service.
        presence: Its face as an agent of the Synadia Agent Protocol, None if it has none.
        tell: Called with each signal, in the heart's thread.
    """

    def __init__(
        self,
        registration: Mapping[str, Any],
        address: Address,
        subjects: Subjects,
        condition: Condition,
        pulse: Pulse,
        reach: Reach,
        service: MicroService,
        presence: Presence | None,
        tell: Callable[[Signal], None],
    ) -> None:
        self._agent_id = str(registration["agent_id"])
        self._presence = presence
        self._registration = registration
        self._condition = condition
        self._pulse = pulse
        self._reach = reach
        self._tell = tell
        self._ears = Ears(
            self._agent_id,
            registration.get("instance_id"),
            subjects,
            condition,
            service,
            lambda reason, deadline: tell(DrainOrdered(reason, deadline)),
            lambda: self._mailbox.put_nowait(lease_facts.Doubted()),
        )
        self._lease = lease.Lease(random.random)
        self._connection = Connection(address)
        self._requester = Requester(self._connection, subjects, BEAT_TIMEOUT)
        self._mailbox: asyncio.Queue[lease_facts.Fact] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        """Set while no registration is on its way."""
        self._settled.set()
        self._unheard_since: float | None = None
        self._quiet = QuietLog(logger)
        self._thread = LoopThread(f"heart:{self._agent_id}", self._live, lambda error: tell(Ended(error)))

    def start(self) -> None:
        """Begin; signals tell how it goes."""
        self._thread.start()

    def note(self, fact: lease_facts.Fact) -> None:
        """Tell the lease something, from any thread."""
        self._thread.post(self._mailbox.put_nowait, fact)

    async def appear(self) -> None:
        """Show the agent to clients of the Synadia Agent Protocol, if it speaks that; from then on it takes prompts.

        Raises:
            UnavailableError: If NATS is away.
        """
        if self._presence is not None:
            await self._thread.run(self._presence.open(self._connection))

    async def leave(self, *, announce: bool) -> None:
        """Say that the agent finishes its work; it is not registered again if it is forgotten meanwhile.

        Args:
            announce: Tell the registry, so that nobody sends new work.
        """
        await self._thread.run(self._leave(announce=announce))

    async def release(self, reason: str) -> None:
        """Deregister; what goes wrong is logged, since the registry finds out by itself."""
        await self._thread.run(self._release(reason))

    async def stop(self) -> None:
        """End the thread."""
        await self._thread.stop()

    async def _live(self) -> None:
        try:
            await self._connection.open(math.inf)
            self._connection.listen(self._on_link)
            self._on_link(True)
            self._spawn(self._watch_work())
            while True:
                for order in self._lease.handle(await self._next(), time.monotonic()):
                    self._carry_out(order)
                if self._lease.state is lease.State.REGISTERING:
                    self._settled.clear()
                else:
                    self._settled.set()
        except (RegistryError, OSError, ValueError) as error:
            self._tell(Ended(error))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._vanish()
            await self._connection.close()

    async def _next(self) -> lease_facts.Fact:
        due = self._lease.due
        try:
            async with asyncio.timeout(None if due == math.inf else max(0.0, due - time.monotonic())):
                return await self._mailbox.get()
        except TimeoutError:
            return lease_facts.Tick()

    def _carry_out(self, order: lease_facts.Order) -> None:
        match order:
            case lease_facts.Register():
                self._spawn(self._register())
            case lease_facts.Beat():
                self._spawn(self._beat(order))
            case lease_facts.Drain():
                self._tell(DrainOrdered(DRAIN, None))
            case lease_facts.End():
                self._spawn(self._vanish())
                self._tell(Ended(order.error))

    async def _register(self) -> None:
        try:
            # Once it was ours, the id is not taken from anybody any more: whoever has it now took it from us.
            takeover = bool(self._registration.get("takeover")) and not self._lease.grant
            # Health checks are answered on this connection: its end is worth asking after.
            fields = {**self._registration, "takeover": takeover, "connection": self._connection.place}
            answer = await self._requester.ask(REGISTER, fields, within=REGISTER_TIMEOUT, repeat=False)
            receipt = Receipt.model_validate(answer)
        except RegistryError as error:
            if isinstance(error, lease.WEATHER):  # what is final is told once, by whoever started the agent
                self._quiet.warning("%s is not registered yet: %s", self._agent_id, error.message)
            self._mailbox.put_nowait(lease_facts.Refused(error))
            return
        except Exception as error:
            logger.exception("registering %s failed", self._agent_id)
            self._mailbox.put_nowait(lease_facts.Refused(InternalError(repr(error))))
            return
        self._ears.incarnation = receipt.incarnation
        self._mailbox.put_nowait(lease_facts.Granted(receipt.incarnation, receipt.heartbeat_interval))
        await self._listen()
        self._tell(Registered(receipt))

    async def _listen(self) -> None:
        """Hear the registry, but not before the id is ours: to answer for its holder would hide that holder's death."""
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                await self._ears.open(self._connection)
            except Exception as error:  # whatever it is: to give up would leave it registered and deaf
                self._quiet.warning("%s does not hear the registry yet: %r", self._agent_id, error)
                await asyncio.sleep(backoff.next())
            else:
                return

    async def _beat(self, beat: lease_facts.Beat) -> None:
        fact: lease_facts.Fact
        try:
            reading, answer = await self._send(beat)
        except StaleIncarnationError as error:
            fact = await self._judge(beat, error)
        except RegistryError as error:
            self._unheard(error)
            fact = lease_facts.Failed(beat.grant, error)
        except Exception as error:
            logger.exception("a heartbeat of %s failed", self._agent_id)
            fact = lease_facts.Failed(beat.grant, InternalError(repr(error)))
        else:
            self._heard()
            self._condition.taken(reading)
            fact = lease_facts.Answered(beat.grant, str(answer.get("status")), int(answer.get("reserved", 0)))
        self._mailbox.put_nowait(fact)

    async def _send(self, beat: lease_facts.Beat) -> tuple[Reading, dict[str, Any]]:
        reading, fields = await self._condition.beat(self._lease.uptime(time.monotonic()))
        fields |= {"agent_id": self._agent_id, "incarnation": beat.incarnation, "seq": beat.seq}
        return reading, await self._requester.ask(HEARTBEAT, fields)

    async def _judge(self, beat: lease_facts.Beat, stale: StaleIncarnationError) -> lease_facts.Fact:
        """Find out whether the newer instance, for which a beat was refused, is this one itself."""
        try:
            holder = await self._requester.ask(GET, {"agent_id": self._agent_id})
        except lease.WEATHER as error:  # to end is for good: the next beat asks again
            self._unheard(error)
            return lease_facts.Failed(beat.grant, error)
        except RegistryError as error:
            logger.info("whose the newer incarnation of %s is cannot be seen: %s", self._agent_id, error.message)
            return lease_facts.Failed(beat.grant, stale)
        except Exception:
            logger.exception("asking for the holder of %s failed", self._agent_id)
            return lease_facts.Failed(beat.grant, stale)
        instance, incarnation = holder.get("instance_id"), holder.get("incarnation")
        # A replica that lags shows us as we were before we were replaced.
        is_newer = isinstance(incarnation, int) and incarnation > beat.incarnation
        if instance is None or instance != self._registration.get("instance_id") or not is_newer:
            return lease_facts.Failed(beat.grant, stale)
        what = "%s is known as incarnation %d of this same instance: the registry has an older bucket again"
        logger.warning(what, self._agent_id, incarnation)
        return lease_facts.Mistaken(beat.grant, stale)

    async def _leave(self, *, announce: bool) -> None:
        self._ears.is_leaving = True
        self._mailbox.put_nowait(lease_facts.Leaving())
        await self._vanish()
        if not announce or self._lease.state is not lease.State.HELD:
            return
        try:
            await self._command(DRAIN, "the agent is stopping")
        except RegistryError as error:
            logger.info("the registry does not know that %s is leaving: %s", self._agent_id, error.message)

    async def _vanish(self) -> None:
        """Have nobody discover the agent who would prompt it in vain."""
        if self._presence is not None:
            await self._presence.close()

    async def _release(self, reason: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_TIMEOUT):
                await self._settled.wait()  # a registration on its way would leave a ghost behind
        if self._lease.state is not lease.State.HELD:
            return
        try:
            await self._command(DEREGISTER, reason)
            logger.info("%s deregistered", self._agent_id)
        except (NotFoundError, StaleIncarnationError) as error:
            logger.info("%s was not registered any more: %s", self._agent_id, error.message)
        except RegistryError as error:
            logger.warning("%s could not deregister: %s; the registry will notice", self._agent_id, error.message)
        self._mailbox.put_nowait(lease_facts.Released())

    async def _command(self, operation: str, reason: str) -> None:
        # Names the incarnation: should another instance have the id by now, that one is not meant.
        fields = {"agent_id": self._agent_id, "incarnation": self._lease.incarnation, "reason": reason}
        await self._requester.ask(operation, fields)

    async def _watch_work(self) -> None:
        """Have the registry know soon when the agent can begin nothing any more, or can again."""
        blocked = False
        while True:
            self._pulse.knock()
            await asyncio.sleep(KNOCK_INTERVAL)
            if self._condition.is_blocked is not blocked:
                blocked = not blocked
                if blocked:
                    logger.warning("the work loop of %s is blocked; it counts as fully loaded", self._agent_id)
            if self._condition.is_news:
                self._mailbox.put_nowait(lease_facts.Moved())

    def _on_link(self, connected: bool) -> None:
        self._reach.note(connected)
        self._mailbox.put_nowait(lease_facts.Connected() if connected else lease_facts.Disconnected())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unheard(self, error: RegistryError) -> None:
        if self._unheard_since is None:
            self._unheard_since = time.monotonic()
        self._quiet.warning("a heartbeat of %s was not taken: %s", self._agent_id, error.message)

    def _heard(self) -> None:
        if self._unheard_since is not None:
            logger.info("%s is heard again after %.1f s", self._agent_id, time.monotonic() - self._unheard_since)
            self._unheard_since = None
