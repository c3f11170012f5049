"""Carries out the core's orders, and reports how each one ended as a new fact."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson

from agents_sdk.protocol.subjects import Subjects, agent_topic
from registry.core.effects import (
    Effect,
    Probe,
    PublishOrder,
    PutPolicy,
    PutRecord,
    ReadRecord,
    SendReply,
    SweepRemoval,
    TellAgent,
)
from registry.core.errors import RefusedError
from registry.core.events import (
    Event,
    Outcome,
    PolicyChanged,
    ProbeFinished,
    ReadFailed,
    RecordRead,
    WriteCommitted,
    WriteUncertain,
)
from registry.shell.bus_nats import Ack, Bus, NobodyThereError
from registry.shell.clock import monotonic
from registry.shell.logs import get_logger
from registry.shell.records import is_of_newer_form, record_in
from registry.shell.store_nats import Store, StoreError, is_conflict

if TYPE_CHECKING:
    from registry.shell.bucket_log import BucketLog
    from registry.shell.projector import Projector

log = get_logger(__name__)

READ_ATTEMPTS = 4
READ_WAIT = 0.25
"""Seconds before a read is repeated, doubling; ADR-22 suggests this for JetStream's changes of leader."""


class Effector:
    """Performs effects.

    Args:
        bus: The connection.
        store: What is durable.
        subjects: Names.
        probe_timeout: Seconds an agent may take to answer a probe.
        dispatch: Takes the facts that come back.
        bucket_log: Takes every record that was committed.
        projector: Publishes scaling orders, and knows whether the events of what is swept are in the stream.
    """

    def __init__(
        self,
        bus: Bus,
        store: Store,
        subjects: Subjects,
        probe_timeout: float,
        dispatch: Callable[[Event], Awaitable[None]],
        bucket_log: BucketLog,
        projector: Projector,
    ) -> None:
        self._bus = bus
        self._store = store
        self._subjects = subjects
        self._probe_timeout = probe_timeout
        self._dispatch = dispatch
        self._bucket_log = bucket_log
        self._projector = projector
        self._tasks: set[asyncio.Task[None]] = set()
        self._performers: dict[type, Callable[[Any], Awaitable[None]]] = {
            SendReply: self._send_reply,
            PutRecord: self._put,
            ReadRecord: self._spawned(self._read),
            SweepRemoval: self._sweep,
            Probe: self._spawned(self._probe),
            TellAgent: self._tell,
            PublishOrder: self._publish_order,
            PutPolicy: self._spawned(self._put_policy),
        }

    async def perform(self, effects: Iterable[Effect]) -> None:
        """Start every effect, in order; none of them is waited for."""
        for effect in effects:
            await self._performers[type(effect)](effect)

    async def stop(self) -> None:
        """Wait for what is under way; probes and reads end by their own time-outs."""
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=self._probe_timeout + 1.0)
            for task in list(self._tasks):
                task.cancel()

    def _spawned(self, perform: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def spawn(effect: Any) -> None:
            task = asyncio.ensure_future(perform(effect))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

        return spawn

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("effect_failed", exc_info=task.exception())

    async def _send_reply(self, effect: SendReply) -> None:
        await effect.to.send(effect.body)

    async def _put(self, effect: PutRecord) -> None:
        record = effect.record

        async def ended(ack: Ack) -> None:
            at = monotonic()
            if ack.seq:
                fact = WriteCommitted(at, record.agent_id, record.write_id, ack.seq)
                await self._bucket_log.committed(record, fact)
                return
            if not is_conflict(ack):
                log.warning("write_uncertain", agent_id=record.agent_id, err_code=ack.err_code)
            await self._dispatch(WriteUncertain(at, record.agent_id, record.write_id))

        value = orjson.dumps(record.to_json())
        await self._store.put(record.agent_id, value, effect.expected, effect.removed, ended)

    async def _sweep(self, effect: SweepRemoval) -> None:
        async def ended(ack: Ack) -> None:
            if not ack.seq and not is_conflict(ack):
                log.warning("sweep_uncertain", agent_id=effect.agent_id, err_code=ack.err_code)

        if self._projector.published_up_to >= effect.revision:
            await self._store.sweep(effect.agent_id, effect.revision, ended)

    async def _read(self, effect: ReadRecord) -> None:
        wait, failed = READ_WAIT, ReadFailed(0.0, effect.agent_id)
        for attempt in range(READ_ATTEMPTS):
            if attempt:
                await asyncio.sleep(random.uniform(0.5, 1.5) * wait)
                wait *= 2
            if not self._bus.connected:
                break
            try:
                entry = await self._store.read(effect.agent_id)
            except StoreError as error:
                log.warning("read_failed", agent_id=effect.agent_id, error=str(error))
                continue
            record = None if entry is None else record_in(entry)
            if entry is not None and record is None and is_of_newer_form(entry):
                failed.why = "the agent's record is of a newer version of the registry"
                continue
            revision = 0 if entry is None else entry.revision
            await self._dispatch(RecordRead(monotonic(), effect.agent_id, record, revision))
            return
        failed.at = monotonic()
        await self._dispatch(failed)

    async def _probe(self, effect: Probe) -> None:
        if effect.delay:
            await asyncio.sleep(effect.delay)
        health = load = None
        try:
            answer = await self._bus.request(effect.subject, b"", self._probe_timeout)
            outcome = Outcome.ANSWERED
            health, load = _vitals(answer.data)
        except NobodyThereError:
            outcome = Outcome.NO_RESPONDERS
        except TimeoutError:
            outcome = Outcome.TIMEOUT
        finished = ProbeFinished(
            monotonic(), effect.agent_id, effect.incarnation, effect.purpose, outcome, health, load
        )
        await self._dispatch(finished)

    async def _tell(self, effect: TellAgent) -> None:
        await self._bus.publish(agent_topic(effect.agent_id, effect.topic), orjson.dumps(effect.body))

    async def _publish_order(self, effect: PublishOrder) -> None:
        await self._projector.publish_order(effect.order)

    async def _put_policy(self, effect: PutPolicy) -> None:
        try:
            await self._store.put_control(f"policy.{effect.capability}", effect.policy)
        except StoreError as error:
            await effect.reply.send(RefusedError("unavailable", f"the policy was perhaps not stored: {error}"))
            return
        await self._dispatch(PolicyChanged(monotonic(), effect.capability, effect.policy, effect.reply))


def _vitals(payload: bytes) -> tuple[float | None, float | None]:
    """Return health and load from a health check's answer, as far as it has them; any answer is a sign of life."""
    try:
        answer = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None, None
    if not isinstance(answer, dict):
        return None, None
    return _score(answer.get("health_score")), _score(answer.get("load_factor"))


def _score(value: Any) -> float | None:
    is_score = isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0
    return float(value) if is_score else None
