"""The registry's events, live and resumed."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agents_sdk import InvalidRequestError, RegistryClient, RegistryEvent, StatusEvent, UnavailableError, consumers
from agents_sdk import feed as feed_module
from agents_sdk.cancelling import cancel
from agents_sdk.connection import Connection
from agents_sdk.dial import Address
from agents_sdk.feed import Feed
from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.subjects import Subjects
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.sdk.outage import Server

TRADER = {"agent_type": "t", "capabilities": ["trading"], "instance_id": "i", "heartbeat_interval": 3600.0}


async def read(events: AsyncGenerator[Any, None], count: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(events) for _ in range(count)]


def said(events: list[Any]) -> list[tuple[str, str]]:
    return [(event.agent_id, event.reason) for event in events]


class Tail:
    """Reads events in the background, so that a test knows that reading has begun."""

    def __init__(self, events: AsyncGenerator[Any, None]) -> None:
        self.events: list[Any] = []
        self._task = asyncio.create_task(self._read(events))

    async def _read(self, events: AsyncGenerator[Any, None]) -> None:
        async with aclosing(events):
            async for event in events:
                self.events.append(event)

    async def has(self, count: int, within: float = 20.0) -> None:
        await eventually(lambda: len(self.events) >= count, within)

    async def end(self) -> None:
        await cancel(self._task)


async def begun(client: RegistryClient, tail: Tail, name: str = "probe") -> None:
    """Make events until the tail hears one: from there on it reads."""

    async def heard() -> bool:
        await client.register({**TRADER, "agent_id": name})
        await client.deregister_agent(name)
        return bool(tail.events)

    await eventually(heard)
    # Whatever is still on its way is behind the mark.
    await client.register({**TRADER, "agent_id": "mark"})
    await eventually(lambda: any(event.agent_id == "mark" for event in tail.events))
    tail.events.clear()


async def test_a_durable_reads_all_that_is_kept_and_resumes_where_it_stopped(client: RegistryClient) -> None:
    await client.register({**TRADER, "agent_id": "a"})
    async with aclosing(client.events("status", durable="orchestrator")) as events:
        [first] = await read(events, 1)
        assert isinstance(first, StatusEvent)
        await client.register({**TRADER, "agent_id": "b"})
        await client.register({**TRADER, "agent_id": "c"})
        assert said(await read(events, 1)) == [("b", "registered")]
    await client.deregister_agent("a")
    async with aclosing(client.events("status", durable="orchestrator")) as events:
        # b was not finished: nobody asked for the next one. It comes again once its time to be acknowledged is over.
        assert said(await read(events, 2)) == [("c", "registered"), ("a", "deregistered")]


async def test_kinds_are_told_apart(client: RegistryClient) -> None:
    async with aclosing(client.events("registry", durable="ops")) as events:
        [event] = await read(events, 1)
        assert isinstance(event, RegistryEvent)
        assert event.what == "leader_changed"


async def test_there_is_no_such_kind(client: RegistryClient) -> None:
    with pytest.raises(InvalidRequestError, match="kinds: 'state' is none of status, scaling"):
        client.events("state")


async def test_from_now_on_nothing_old_comes(client: RegistryClient) -> None:
    await client.register({**TRADER, "agent_id": "old"})
    tail = Tail(client.events("status"))
    await begun(client, tail)
    await client.register({**TRADER, "agent_id": "new"})
    await client.deregister_agent("new")
    await tail.has(2)
    assert said(tail.events) == [("new", "registered"), ("new", "deregistered")]
    await tail.end()


async def test_an_outage_delays_events_and_loses_none(server: Server, monkeypatch) -> None:
    """What is published while a reader has no connection is in the stream, and the reader goes on behind its last."""
    monkeypatch.setattr(consumers, "FETCH", 0.5)
    await server.start()
    registry = Replica(Settings(), server.url)
    await registry.start()
    async with RegistryClient(server.url) as writer, RegistryClient(server.url) as client:
        tail = Tail(client.events("status"))
        await begun(writer, tail)
        await client._connection.client.force_reconnect()
        for n in range(20):
            await writer.register({**TRADER, "agent_id": f"a{n}"})
        await tail.has(20)
        await server.kill()
        await server.start()
        await writer.register({**TRADER, "agent_id": "after"})
        await tail.has(21)
        assert [event.agent_id for event in tail.events] == [*(f"a{n}" for n in range(20)), "after"]
        await tail.end()
    await registry.stop()


@pytest.mark.parametrize("durable", ["d", None])
async def test_a_reader_that_stops_during_an_outage_leaves_nothing_behind(server: Server, durable: str | None) -> None:
    """What stays subscribed in the client is subscribed to again with each reconnect, and fills up unread."""
    await server.start()
    registry = Replica(Settings(), server.url)
    await registry.start()
    async with RegistryClient(server.url) as client:
        await client.capabilities()  # replies have a subscription of their own
        nats_py = client._connection.client
        before = set(nats_py._subs)
        tail = Tail(client.events("status", durable=durable))
        await eventually(lambda: len(nats_py._subs) > len(before))
        await server.kill()
        await eventually(lambda: not client._connection.is_connected)
        await tail.end()
        assert set(nats_py._subs) == before
        await server.start()
        await eventually(lambda: client._connection.is_connected)
        assert client._connection.client is nats_py
        assert set(nats_py._subs) == before
    await registry.stop()


async def test_where_there_is_no_jetstream_events_are_read_live(server: Server, caplog, monkeypatch) -> None:
    """An account that imports only the events hears them as plain messages."""
    caplog.set_level("INFO")
    monkeypatch.setattr(feed_module, "JETSTREAM_TIMEOUT", 0.3)
    await server.start("accounts { A { users: [ { user: a, password: a } ] } }\nno_auth_user: a")
    connection = Connection(Address((server.url,)))
    await connection.open()
    tail = Tail(Feed(connection, Subjects(), []).from_now_on())
    await eventually(lambda: "as they happen" in caplog.text)
    event = {
        "event_id": "1", "agent_id": "a", "agent_type": "t", "capabilities": [], "from": "active", "to": "active",
        "reason": "updated", "removed": False, "incarnation": 1, "revision": 1, "previous_revision": 0, "at": 0.0,
    }  # fmt: skip

    async def heard() -> bool:
        await connection.publish("registry.events.status.active.a", b"not json")
        await connection.publish("registry.events.status.active.a", encode(event))
        return bool(tail.events)

    await eventually(heard)
    assert isinstance(tail.events[0], StatusEvent)
    assert "carries no event" in caplog.text
    tail.events.clear()

    async def heard_other() -> bool:
        await connection.publish("registry.events.weather.x", encode({"what": "rain"}))
        return {"what": "rain"} in tail.events

    await eventually(heard_other)
    await tail.end()
    with pytest.raises(UnavailableError, match="REGISTRY_EVENTS cannot be read"):
        await anext(Feed(connection, Subjects(), []).durable("x"))
    await connection.close()


async def test_who_may_not_ask_jetstream_is_not_kept_waiting(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(feed_module, "JETSTREAM_TIMEOUT", 0.3)
    await server.start(
        'accounts { A { jetstream: enabled, users: [ { user: a, password: a, permissions: { publish: "x" } } ] } }\n'
        "no_auth_user: a"
    )
    connection = Connection(Address((server.url,)))
    await connection.open()
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="cannot be read"):
        await anext(Feed(connection, Subjects(), []).durable("x"))
    assert time.monotonic() - started < feed_module.FIRST_ATTACH
    await connection.close()


async def test_a_jetstream_that_is_slow_at_first_is_waited_for(client: RegistryClient, monkeypatch) -> None:
    attach, attempts = consumers.Durable.attach, []

    async def slow(consumer: Any, jetstream: Any) -> Any:
        attempts.append(1)
        if len(attempts) < 3:
            raise TimeoutError
        return await attach(consumer, jetstream)

    monkeypatch.setattr(consumers.Durable, "attach", slow)
    await client.register({**TRADER, "agent_id": "a"})
    async with aclosing(client.events("status", durable="d")) as events:
        assert said(await read(events, 1)) == [("a", "registered")]
    assert len(attempts) == 3


async def test_a_message_that_is_no_event_does_not_come_again(client: RegistryClient) -> None:
    await client._connection.publish("registry.events.status.active.x", b"{}")
    await client.register({**TRADER, "agent_id": "a"})
    async with aclosing(client.events("status", durable="d")) as events:
        assert said(await read(events, 1)) == [("a", "registered")]


async def test_a_prefix_of_several_tokens_is_read_right(server: Server) -> None:
    await server.start()
    connection = Connection(Address((server.url,)))
    await connection.open()
    subjects = Subjects("a.b.c")
    js = connection.client.jetstream()
    await js.add_stream(name=subjects.events_stream, subjects=[subjects.all_events])
    await js.publish(
        "a.b.c.events.registry.leader_changed",
        encode({"event_id": "1", "what": "leader_changed", "replica": "r", "epoch": 1, "at": 0.0}),
    )
    async with aclosing(Feed(connection, subjects, ["registry"]).durable("d")) as events:
        assert isinstance((await read(events, 1))[0], RegistryEvent)
    await connection.close()


async def test_a_reader_at_work_does_not_notice_that_the_client_is_replaced(client: RegistryClient, caplog) -> None:
    """A server that ends a connection for good, because its credentials expired, has a new client made."""
    caplog.set_level("INFO")
    for durable in ("d", None):
        at_work, go, seen = asyncio.Event(), asyncio.Event(), []

        async def work(durable: str | None, at_work: asyncio.Event, go: asyncio.Event, seen: list[str]) -> None:
            async with aclosing(client.events("status", durable=durable)) as events:
                async for event in events:
                    seen.append(event.agent_id)
                    at_work.set()
                    await go.wait()

        working = asyncio.create_task(work(durable, at_work, go, seen))

        async def heard(durable: str | None, at_work: asyncio.Event) -> bool:
            await client.register({**TRADER, "agent_id": f"first-{durable}"})
            await client.deregister_agent(f"first-{durable}")
            return at_work.is_set()

        await eventually(lambda durable=durable, at_work=at_work: heard(durable, at_work))
        rebuilds = client._connection.counters.rebuilds
        await client._connection.client._process_err("'user authentication expired'")
        await eventually(lambda rebuilds=rebuilds: client._connection.counters.rebuilds > rebuilds)
        go.set()
        await client.register({**TRADER, "agent_id": f"last-{durable}"})
        await eventually(lambda durable=durable, seen=seen: f"last-{durable}" in seen, within=20)
        await cancel(working)
    assert "is not acknowledged and comes again" in caplog.text


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("durable", ["d", None])
async def test_events_end_with_their_client(
    nats_server: NatsServer, registry: Replica, whose: str, durable: str | None
) -> None:
    theirs = await nats.connect(nats_server.url)
    client = RegistryClient(nats_server.url if whose == "ours" else theirs)
    await client.connect()
    nats_py = client._connection.client
    reading = asyncio.create_task(read(client.events("status", durable=durable), 10**6))
    await eventually(lambda: len(nats_py._subs) > 1)  # one is for replies
    await (client.close() if whose == "ours" else theirs.close())
    with pytest.raises(UnavailableError, match="is closed"):
        await reading
    await client.close()
    await theirs.close()


async def test_events_that_are_read_live_end_with_their_client(server: Server) -> None:
    await server.start("accounts { A { users: [ { user: a, password: a } ] } }\nno_auth_user: a")
    connection = Connection(Address((server.url,)))
    await connection.open()
    reading = asyncio.create_task(read(Feed(connection, Subjects(), ["status"]).from_now_on(), 1))
    await eventually(lambda: bool(connection._subscriptions))
    await connection.close()
    with pytest.raises(UnavailableError, match="is closed"):
        await reading


async def test_a_stream_that_was_made_anew_is_read_from_its_beginning(server: Server, tmp_path: Path) -> None:
    """It counts from 1 again, far below what was read of the one before."""
    await server.start()
    registry = Replica(Settings(), server.url)
    await registry.start()
    async with RegistryClient(server.url, timeout=10.0) as client:
        for n in range(20):
            await client.register({**TRADER, "agent_id": f"old-{n}"})
        tail = Tail(client.events("status"))
        await begun(client, tail)
        await registry.stop()
        await server.kill()
        shutil.rmtree(tmp_path / "jetstream")
        await server.start()
        registry = Replica(Settings(), server.url)
        await registry.start()
        for n in range(3):
            await client.register({**TRADER, "agent_id": f"new-{n}"})
        await tail.has(3)
        assert [event.agent_id for event in tail.events] == ["new-0", "new-1", "new-2"]
        await tail.end()
    await registry.stop()


async def test_a_durable_reads_what_it_was_made_for(client: RegistryClient) -> None:
    await client.register({**TRADER, "agent_id": "a"})
    async with aclosing(client.events("status", durable="d")) as events:
        await read(events, 1)
    for kinds in (("registry",), ("status", "registry")):
        with pytest.raises(
            InvalidRequestError, match=r"'d' exists and reads registry\.events\.status\.>, not .*registry\.>"
        ):
            await anext(client.events(*kinds, durable="d"))
    js = client._connection.client.jetstream()
    for name, subjects in (("everything", None), ("some", "registry.events.status.active.>")):
        await js.add_consumer("REGISTRY_EVENTS", durable_name=name, ack_policy="explicit", filter_subject=subjects)
    with pytest.raises(InvalidRequestError, match="nats consumer rm REGISTRY_EVENTS everything"):
        await anext(client.events("status", durable="everything"))
    for durable, kinds in (("everything", ()), ("some", ("status",))):
        async with aclosing(client.events(*kinds, durable=durable)) as events:
            await read(events, 1)


async def test_an_event_that_is_worked_on_is_given_to_nobody_else(client: RegistryClient, nc: Client) -> None:
    """However long that takes: its reader says so, well within the time after which it would come again."""
    js, signs = nc.jetstream(), []
    await js.add_consumer(
        "REGISTRY_EVENTS",
        durable_name="d",
        ack_policy="explicit",
        ack_wait=0.6,
        filter_subject="registry.events.status.>",
    )

    async def hear(msg: Msg) -> None:
        signs.append(msg.data)

    await nc.subscribe("$JS.ACK.REGISTRY_EVENTS.d.>", cb=hear)
    await nc.flush()
    await client.register({**TRADER, "agent_id": "a"})
    async with aclosing(client.events("status", durable="d")) as events:
        await read(events, 1)
        other = Tail(client.events("status", durable="d"))
        await eventually(lambda: signs == [b"+WPI"] * 6)
        assert other.events == []
        await other.end()
        await events.aclose()
    info = await js.consumer_info("REGISTRY_EVENTS", "d")
    assert (info.num_ack_pending, info.num_redelivered) == (1, 0)


async def test_an_event_with_a_word_of_a_later_version_is_delivered_as_it_came(client: RegistryClient) -> None:
    event = {
        "event_id": "1", "agent_id": "a", "agent_type": "t", "capabilities": [], "from": "active", "to": "paused",
        "reason": "rest", "removed": False, "incarnation": 1, "revision": 1, "previous_revision": 0, "at": 0.0,
    }  # fmt: skip
    await client._connection.publish("registry.events.status.paused.a", encode(event))
    await client._connection.publish("registry.events.status.paused.a", encode({**event, "revision": "x"}))
    await client.register({**TRADER, "agent_id": "b"})
    async with aclosing(client.events("status", durable="d")) as events:
        paused, registered = await read(events, 2)
        assert paused == event
        assert registered.agent_id == "b"
