"""Carries out the core's orders, and reports how each one ended as a new fact."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from agents_sdk.protocol.subjects import Subjects, agent_topic
from registry.core.effects import (
    Announce,
    AwaitRevision,
    CallServices,
    CommitAssignments,
    DescribeService,
    Effect,
    LearnAssignments,
    MeasureService,
    Probe,
    PublishConflict,
    PublishOrder,
    PutOrders,
    PutPolicy,
    PutRecord,
    PutRule,
    PutViolation,
    ReadPolicy,
    ReadRecord,
    RunCanary,
    SendReply,
    ShareVitals,
    SweepRemoval,
    TellAgent,
    TellLeader,
)
from registry.core.errors import RefusedError
from registry.core.events import (
    Event,
    Outcome,
    ProbeFinished,
    ReadFailed,
    RecordRead,
    RevisionAwaited,
    WriteCommitted,
    WriteRefused,
    WriteUncertain,
)
from registry.core.record import Record
from registry.shell import canary, probe, rule_keys
from registry.shell.acks import TOO_LARGE, Ack
from registry.shell.assignment_log import failed
from registry.shell.bus_nats import Bus
from registry.shell.clock import monotonic
from registry.shell.control_keys import ControlKeys
from registry.shell.jetstream_nats import NoLeaderError, StoreError, is_conflict
from registry.shell.logs import get_logger
from registry.shell.records import encoded, is_of_newer_form, leaves_no_room, record_in
from registry.shell.refusals import encode_refusal
from registry.shell.scaling_keys import ScalingKeys, unfinished
from registry.shell.services import unanswered
from registry.shell.store import Store
from registry.shell.trouble import Trouble

if TYPE_CHECKING:
    from registry.shell.assignment_log import AssignmentLog
    from registry.shell.bucket_log import BucketLog
    from registry.shell.projector import Projector
    from registry.shell.services import Services

log = get_logger(__name__)

LOG_WAIT = 5.0
"""Seconds to wait for the log to show a revision; it lags by milliseconds, or until it is followed anew."""

STOP_WAIT = 3.0
"""Seconds for which a stop waits for what is under way; what then is not done, is left undone."""

FAILED = "the registry failed; its log says more"
"""What is told of a defect to whoever waits."""

READ_ATTEMPTS = 4
"""Refusals after which a read is given up."""

READ_PATIENCE = 10.0
"""Seconds after which a read that finds no leader is given up; JetStream chooses a new one in 4 to 9."""

READ_WAIT = 0.25
"""Seconds before a read is repeated, half as much more or less; ADR-22 suggests this for changes of leader."""


class Effector:
    """Performs effects.

    Args:
        bus: The connection.
        store: What is durable.
        subjects: Names.
        dispatch: Takes the facts that come back.
        bucket_log: Takes every record that was committed.
        assignment_log: Writes assignments.
        projector: Publishes scaling orders, and knows whether the events of what is swept are in the stream.
        services: Asks services.
    """

    def __init__(
        self,
        bus: Bus,
        store: Store,
        subjects: Subjects,
        dispatch: Callable[[Event], Awaitable[None]],
        bucket_log: BucketLog,
        assignment_log: AssignmentLog,
        projector: Projector,
        services: Services,
    ) -> None:
        self._trouble = Trouble(log)
        self._bus = bus
        self._store = store
        self._subjects = subjects
        self._dispatch = dispatch
        self._bucket_log = bucket_log
        self._projector = projector
        self._tasks: set[asyncio.Task[None]] = set()
        keys = ControlKeys(bus, store)
        scaling, rules = ScalingKeys(keys, dispatch), rule_keys.RuleKeys(keys, dispatch)
        self._performers: dict[type, Callable[[Any], Awaitable[None]]] = {
            SendReply: self._send_reply,
            PutRecord: self._put,
            ReadRecord: self._spawned(self._read),
            AwaitRevision: self._spawned(self._await),
            SweepRemoval: self._sweep,
            Probe: self._spawned(self._probe),
            RunCanary: self._spawned(self._run_canary),
            CallServices: services.call,
            DescribeService: self._spawned(services.describe),
            MeasureService: self._spawned(services.measure),
            ShareVitals: services.share,
            TellAgent: self._tell,
            PublishOrder: self._spawned(self._publish_order),
            Announce: self._announce,
            CommitAssignments: assignment_log.commit,
            LearnAssignments: self._spawned(assignment_log.learn),
            PutOrders: self._spawned(scaling.put_orders),
            PutPolicy: self._spawned(scaling.put_policy),
            ReadPolicy: self._spawned(scaling.read_policy),
            PutRule: self._spawned(rules.put_rule),
            PutViolation: self._spawned(rules.put_violation),
            PublishConflict: self._publish_conflict,
            TellLeader: self._tell_leader,
        }

    async def perform(self, effects: Iterable[Effect]) -> None:
        """Start every effect, in order; none of them is waited for."""
        for effect in effects:
            try:
                await self._performers[type(effect)](effect)
            except Exception as error:
                await self._give_up(effect, error)

    async def _give_up(self, effect: Effect, error: Exception) -> None:
        """Tell of a defect, and end the effect that failed for whoever waits for its end."""
        kind = type(effect).__name__
        self._trouble.defect("effect_failed", of=kind, error=error, effect=kind)
        try:
            await self._end(effect)
        except Exception as another:
            self._trouble.defect("effect_not_ended", of=kind, error=another, effect=kind)

    async def _end(self, effect: Effect) -> None:
        at = monotonic()
        match effect:
            case PutRecord(record):
                self._spawn(self._dispatch_later(WriteUncertain(at, record.agent_id, record.write_id)))
            case ReadRecord(agent_id):
                await self._dispatch(ReadFailed(at, agent_id, FAILED))
            case AwaitRevision(agent_id, revision):
                await self._dispatch(RevisionAwaited(at, agent_id, revision, False))
            case Probe(agent_id, incarnation, subject, purpose):
                await self._dispatch(ProbeFinished(at, agent_id, incarnation, purpose, Outcome.TIMEOUT, subject))
            case CommitAssignments() | LearnAssignments():
                self._spawn(self._dispatch_later(failed(effect)))
            case SendReply(to, body) if not isinstance(body, RefusedError):
                await to.send(RefusedError("internal", f"{FAILED}; whether the change took place is unknown"))
            case _:
                fact = _failure(effect)
                if fact is not None:
                    await self._dispatch(fact)

    async def stop(self) -> None:
        """Wait for what is under way, but not for who takes his time to answer a probe."""
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_WAIT)
            for task in list(self._tasks):
                task.cancel()

    def _spawned(self, perform: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def whole(effect: Any) -> None:
            try:
                await perform(effect)
            except Exception as error:
                await self._give_up(effect, error)

        async def spawn(effect: Any) -> None:
            self._spawn(whole(effect))

        return spawn

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("effect_not_ended", exc_info=task.exception())

    async def _send_reply(self, effect: SendReply) -> None:
        await effect.to.send(effect.body)

    async def _put(self, effect: PutRecord) -> None:
        record = effect.record
        value = encoded(record, effect.removed, self._bus.max_payload)
        if leaves_no_room(record, value, self._bus.max_payload):
            await self._refuse(record, len(value))
            return

        async def ended(ack: Ack) -> None:
            at = monotonic()
            if ack.seq:
                self._trouble.over("write_uncertain")
                fact = WriteCommitted(at, record.agent_id, record.write_id, ack.seq)
                await self._bucket_log.committed(record, fact)
                return
            uncertain = WriteUncertain(at, record.agent_id, record.write_id)
            if ack.err_code == TOO_LARGE:
                await self._refuse(record, len(value))
            elif is_conflict(ack):
                await self._dispatch(uncertain)
            else:
                code = ack.err_code
                self._trouble.warning("write_uncertain", of=code, agent_id=record.agent_id, err_code=code)
                self._spawn(self._dispatch_later(uncertain))

        await self._store.put(record.agent_id, value, effect.expected, effect.removed, ended)

    async def _refuse(self, record: Record, size: int) -> None:
        self._trouble.warning("record_too_large", agent_id=record.agent_id, bytes=size)
        why = f"the agent's record would have {size} bytes, too many for this NATS server or its bucket"
        await self._dispatch(WriteRefused(monotonic(), record.agent_id, record.write_id, why))

    async def _dispatch_later(self, event: Event) -> None:
        """Hand a fact to the core when a while has passed: what it will try again would fail again at once."""
        await asyncio.sleep(random.uniform(0.5, 1.5) * READ_WAIT)
        await self._dispatch(event)

    async def _sweep(self, effect: SweepRemoval) -> None:
        async def ended(ack: Ack) -> None:
            if ack.seq:
                self._trouble.over("sweep_uncertain")
            elif not is_conflict(ack):
                code = ack.err_code
                self._trouble.warning("sweep_uncertain", of=code, agent_id=effect.agent_id, err_code=code)

        if self._store.can_sweep and self._projector.published_up_to >= effect.revision:
            await self._store.sweep(effect.agent_id, effect.revision, ended)

    async def _read(self, effect: ReadRecord) -> None:
        failed = ReadFailed(0.0, effect.agent_id)
        refusals, deadline = 0, monotonic() + READ_PATIENCE
        while self._bus.connected:
            try:
                entry = await self._store.read(effect.agent_id)
            except StoreError as error:
                refusals += not isinstance(error, NoLeaderError)
                if refusals == READ_ATTEMPTS or monotonic() > deadline:
                    self._trouble.warning("read_failed", agent_id=effect.agent_id, error=str(error))
                    break
                await asyncio.sleep(random.uniform(0.5, 1.5) * READ_WAIT)
                continue
            self._trouble.over("read_failed")
            record = None if entry is None else record_in(entry)
            if entry is not None and record is None and is_of_newer_form(entry):
                failed.why = "the agent's record is of a newer version of the registry"
                break
            revision, readable = (0, True) if entry is None else (entry.revision, record is not None or not entry.value)
            await self._dispatch(RecordRead(monotonic(), effect.agent_id, record, revision, readable))
            return
        failed.at = monotonic()
        await self._dispatch(failed)

    async def _await(self, effect: AwaitRevision) -> None:
        reached = await self._bucket_log.reached(effect.revision, LOG_WAIT)
        await self._dispatch(RevisionAwaited(monotonic(), effect.agent_id, effect.revision, reached))

    async def _probe(self, effect: Probe) -> None:
        await self._dispatch(await probe.run(self._bus, effect))

    async def _run_canary(self, effect: RunCanary) -> None:
        await self._dispatch(await canary.run(self._bus, effect))

    async def _tell(self, effect: TellAgent) -> None:
        await self._bus.publish(agent_topic(effect.agent_id, effect.topic), orjson.dumps(effect.body))

    async def _publish_order(self, effect: PublishOrder) -> None:
        if not (effect.perhaps_again and await self._is_published(effect.order)):
            await self._projector.publish_order(effect.order)

    async def _is_published(self, order: Mapping[str, Any]) -> bool:
        """Return whether the stream has an order; the newest of its kind is the one that is open."""
        try:
            newest = await self._store.newest_event(self._subjects.scaling_event(order["action"], order["capability"]))
        except StoreError as error:  # orders have ids: one that comes twice is better than one that never comes
            self._trouble.warning("order_unknown", order_id=order["order_id"], error=str(error))
            return False
        return newest == str(order["order_id"])

    async def _announce(self, effect: Announce) -> None:
        await self._projector.publish_state(effect.what, effect.epoch, effect.number, effect.details)

    async def _publish_conflict(self, effect: PublishConflict) -> None:
        await self._projector.publish_conflict(effect.event)

    async def _tell_leader(self, effect: TellLeader) -> None:
        await self._bus.publish(self._subjects.refusals, encode_refusal(effect.clash))


def _failure(effect: Effect) -> Event | None:
    """Return the fact that a part of the shell has failed with an effect; None if nobody waits for its end."""
    match effect:
        case RunCanary():
            return canary.ended(effect, None, FAILED)
        case DescribeService() | MeasureService():
            return unanswered(effect)
        case PutOrders() | PutPolicy() | ReadPolicy():
            return unfinished(effect, FAILED)
        case PutRule() | PutViolation():
            return rule_keys.unfinished(effect, FAILED)
        case _:
            return None
