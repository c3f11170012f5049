"""Defects: what fails here is told to the log with its traceback, and whatever waited for it comes to an end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from registry.core.effects import AwaitRevision, Probe, ReadRecord, SendReply
from registry.core.events import Event, WriteCommitted
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.acks import Ack, OnAck
from registry.shell.bus_nats import Bus
from registry.shell.projector import Projector
from registry.shell.store import Store
from registry.shell.tail import Tail
from tests.conftest import Start, eventually
from tests.contract.wire import TRADER, ask, assert_error, listening, settle, stored_events, told
from tests.sdk.outage import Server


@pytest.fixture
def settings() -> Settings:
    return Settings(leader_lease=1.0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A nats-server that the test takes down; not started."""
    server = Server(tmp_path)
    yield server
    await server.kill()


def failing(times: int, otherwise: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Fail so often, then do what was done before."""
    left = times

    async def call(*args: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise ZeroDivisionError("a defect")
        return await otherwise(*args, **named)

    return call


async def nothing(*_: Any) -> None: ...


def assert_told(caplog: pytest.LogCaptureFixture, event: str) -> None:
    """The log says what failed, and where."""
    told = [record for record in caplog.records if f"'{event}'" in record.getMessage()]
    assert told, f"no {event}"
    assert all("exc_info" in record.getMessage() or record.exc_info for record in told), "with a traceback"


@pytest.mark.parametrize("times", [1, 100])
async def test_a_write_that_cannot_be_ordered_is_answered(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, times: int
) -> None:
    """And the next command for the same agent does not wait for it."""
    monkeypatch.setattr("registry.shell.effector.READ_WAIT", 0.01)
    monkeypatch.setattr(Store, "put", failing(times, Store.put))
    answer = await ask(nc, "registry.register", TRADER)
    assert answer.code == (None if times == 1 else "unavailable")
    assert not registry.state.writes
    assert_told(caplog, "effect_failed")


async def test_an_acknowledgement_that_fails_is_answered(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The write took place; the bucket is read, or its log, and says so."""
    decide, failed = registry.log._decide, False

    def decided(event: Event) -> Any:
        nonlocal failed
        if isinstance(event, WriteCommitted) and not failed:
            failed = True
            raise ZeroDivisionError("a defect")
        return decide(event)

    monkeypatch.setattr(registry.log, "_decide", decided)
    assert (await told(nc, "registry.register", TRADER))["incarnation"] == 1
    assert not registry.state.writes
    assert_told(caplog, "ack_failed")


async def test_an_event_that_cannot_be_published_keeps_nobody_waiting(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Projector, "pump", failing(1, Projector.pump))
    await told(nc, "registry.register", TRADER)
    await told(nc, "registry.suspend.trader-1")
    await stored_events(nc, 2)
    assert_told(caplog, "ack_failed")


async def test_an_effect_that_fails_keeps_none_of_the_others(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A drained agent is told so after the answer was sent; here the answer fails."""
    await told(nc, "registry.register", TRADER)
    send = registry.effector._performers[SendReply]
    monkeypatch.setitem(registry.effector._performers, SendReply, failing(1, send))
    async with listening(nc, "agent.trader-1.drain") as orders:
        assert_error(await ask(nc, "registry.drain.trader-1"), "internal")
        await orders.next()
    assert_told(caplog, "effect_failed")


async def test_an_effect_that_cannot_even_be_given_up_keeps_none_of_the_others(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await told(nc, "registry.register", TRADER)
    monkeypatch.setitem(registry.effector._performers, SendReply, failing(1, nothing))
    monkeypatch.setattr("registry.shell.replies.NatsReply.send", failing(1, nothing))
    async with listening(nc, "agent.trader-1.drain") as orders:
        await nc.publish("registry.drain.trader-1", b"")
        await orders.next()
    assert_told(caplog, "effect_not_ended")


async def test_what_takes_a_while_and_fails_is_answered(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reading, the wait for the log, the question to an id's holder, a policy."""
    effector = registry.effector

    async def broken(_: Any) -> None:
        raise ZeroDivisionError("a defect")

    for effect in (ReadRecord, AwaitRevision, Probe):
        monkeypatch.setitem(effector._performers, effect, effector._spawned(broken))
    assert_error(await ask(nc, "registry.suspend.nobody"), "unavailable")
    assert_error(await ask(nc, "registry.register", {**TRADER, "claims": ["desk"]}), "unavailable")
    holder = {**TRADER, "agent_id": "a", "instance_id": "1", "health_subject": "agent.a.health_check"}
    await told(nc, "registry.register", holder)
    answer = await ask(nc, "registry.register", {**holder, "instance_id": "2"})
    assert answer.code in ("already_registered", "unavailable")
    put = Store.put_control

    async def put_control(self: Store, key: str, *args: Any) -> Any:
        if key.startswith("policy."):
            raise ZeroDivisionError("a defect")
        return await put(self, key, *args)

    monkeypatch.setattr(Store, "put_control", put_control)
    assert_error(await ask(nc, "registry.scaling.set", {"capability": "trading", "max_agents": 5}), "unavailable")
    assert not registry.state.writes
    assert not registry.state.probing
    assert_told(caplog, "effect_failed")


async def test_a_write_that_is_refused_is_not_tried_again_at_once(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: reading succeeds, and the next attempt would be refused like the one before."""
    await told(nc, "registry.register", TRADER)
    waits: list[Event] = []

    async def put(self: Store, key: str, value: bytes, expected: int, removed: bool, on_ack: OnAck) -> None:
        await on_ack(Ack(err_code=10047))

    async def later(event: Event) -> None:
        waits.append(event)

    monkeypatch.setattr(Store, "put", put)
    monkeypatch.setattr(registry.effector, "_dispatch_later", later)
    await nc.publish("registry.heartbeat.trader-1", b'{"health_score": 0.1}')
    await eventually(lambda: len(waits) == 1)
    assert registry.state.statistics.write_conflicts == 0


async def test_an_acknowledgement_that_nobody_understands_is_none(
    bus: Bus, nc: Client, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Ack] = []

    async def on_ack(ack: Ack) -> None:
        heard.append(ack)

    async def nonsense(msg: Msg) -> None:
        await nc.publish(msg.reply, msg.data)

    await nc.subscribe("stream", cb=nonsense)
    await settle(nc)
    for answer in (b"not JSON", b"[]", b'{"stream":"x"}', b'{"error":"no"}', b"7"):
        await bus.publish_acked("stream", answer, {"a": "b"}, on_ack)
    await eventually(lambda: len(heard) == 5)
    assert not any(ack.seq or ack.err_code for ack in heard)
    assert_told(caplog, "ack_unreadable")


async def test_a_message_whose_handler_fails_is_told_of(bus: Bus, nc: Client, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []

    async def hear(msg: Msg) -> None:
        if msg.data == b"bad":
            raise ZeroDivisionError("a defect")
        heard.append(msg.data)

    await bus.subscribe("a", hear)
    await settle(bus.client)
    await nc.publish("a", b"bad")
    await nc.publish("a", b"good")
    await eventually(lambda: heard == [b"good"])
    assert_told(caplog, "message_not_handled")


async def test_the_election_goes_on(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replica = await start()
    monkeypatch.setattr(Store, "put_control", failing(3, Store.put_control))
    replica.election.doubt()
    await eventually(lambda: not replica.election.holds())
    await eventually(replica.election.holds)
    assert_told(caplog, "election_failed")


async def test_a_log_is_watched_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = 0
    tail = Tail(store, store.bucket, nothing, nothing)
    await tail.start()
    fail = failing(1, Store.extent)

    async def extent(self: Store, bucket: str) -> Any:
        nonlocal looks
        looks += 1
        return await fail(self, bucket)

    monkeypatch.setattr("registry.shell.tail.WATCH_INTERVAL", 0.05)
    monkeypatch.setattr(Store, "extent", extent)
    await eventually(lambda: looks >= 3)
    await tail.stop()
    assert_told(caplog, "log_watch_failed")


async def test_the_connection_comes_back_whatever_is_made_of_its_loss(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    await server.start()
    bus = Bus(server.url, "test")
    await bus.connect()
    calls: list[str] = []

    async def lost() -> None:
        calls.append("lost")
        raise ZeroDivisionError("a defect")

    async def back() -> None:
        calls.append("back")
        raise ZeroDivisionError("a defect")

    bus.on_disconnected, bus.on_connected = lost, back
    for times in (1, 2):
        await server.kill()
        await eventually(lambda: not bus.connected)
        await server.start()
        await eventually(lambda times=times: calls == ["lost", "back"] * times)  # type: ignore[misc]
    await bus.close()
    assert_told(caplog, "connection_not_told_of")
