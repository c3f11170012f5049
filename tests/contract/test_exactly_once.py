"""Each durable change is one event in the stream, in order for each agent, whatever is lost and whoever dies."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors
import orjson
import pytest
from nats.aio.client import Client

from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.cli.running import Running, command, environment
from tests.conftest import eventually
from tests.contract.proxy import Proxy, once
from tests.contract.wire import TRADER, ask, is_served, listening, payloads, stats, stored_events, told

Start = Callable[..., Awaitable[Replica]]

EVENT = "registry.events.status.active.trader-{}"
BUCKET = "registry_agents"


@pytest.fixture
def settings() -> Settings:
    return Settings(auto_scaling_enabled=False)


@pytest.fixture
async def start(nats_server: NatsServer, settings: Settings, proxy: Proxy) -> AsyncIterator[Start]:
    """Starts replicas, straight to NATS or by the proxy; what still runs is stopped at the end."""
    running: list[Replica] = []
    url = await proxy.start(int(nats_server.url.rpartition(":")[2]))

    async def begin(by_proxy: bool = False, **changed: Any) -> Replica:
        replica = Replica(settings.model_copy(update=changed), url if by_proxy else nats_server.url)
        running.append(replica)
        await replica.start()
        return replica

    yield begin
    proxy.loses = None
    await proxy.mend()
    await eventually(lambda: all(replica.bus.connected or replica.bus.client.is_closed for replica in running))
    for replica in running:
        await replica.stop()
        replica.state.validate()


async def register(nc: Client, number: int, by: Replica | None = None) -> int:
    """Register a trader; return the revision."""
    subject = "registry.register" if by is None else by.subjects.operation("register", None, by.replica_id)
    return int((await told(nc, subject, {**TRADER, "agent_id": f"trader-{number}"}))["revision"])


async def toggle(nc: Client, times: int, by: Replica | None = None) -> None:
    """Suspend and resume trader-1, again and again."""
    for verb in ("suspend", "resume") * times:
        subject = f"registry.{verb}" if by is None else by.subjects.operation(verb, None, by.replica_id)
        await told(nc, subject, {"agent_id": "trader-1"})


async def _written_by_nobody(nc: Client, number: int) -> None:
    """Change the bucket as a replica does that dies before it can tell."""
    bucket = await nc.jetstream().key_value(BUCKET)
    record = orjson.loads((await bucket.get("trader-1")).value or b"")
    record["agent_id"], record["write_id"] = f"trader-{number}", f"nobody-{number}"
    await bucket.put(f"trader-{number}", orjson.dumps(record))


async def told_once(nc: Client, count: int) -> list[dict[str, Any]]:
    """The events in the stream: so many, none twice, those of each agent in order and without a gap."""
    events = payloads(await stored_events(nc, count))
    assert len(events) == count, Counter(event["revision"] for event in events)
    last: dict[str, int] = {}
    for event in events:
        known = last.get(event["agent_id"], 0)
        assert event["previous_revision"] == known, f"{event['agent_id']}: {event['revision']} comes after {known}"
        last[event["agent_id"]] = 0 if event["removed"] else event["revision"]
    return events


# An event is lost on its way.


async def test_the_next_event_of_an_agent_waits_for_the_one_before(start: Start, proxy: Proxy, nc: Client) -> None:
    leader = await start(by_proxy=True)
    proxy.loses = once(EVENT.format(1))
    await register(nc, 1)
    await toggle(nc, 1)
    await told_once(nc, 3)
    assert proxy.lost
    await eventually(lambda: leader.projector.settled)


async def test_a_loss_shows_by_the_next_event_of_anybody(start: Start, proxy: Proxy, nc: Client) -> None:
    """There is no need to wait for a time-out."""
    await start(by_proxy=True)
    proxy.loses = once(EVENT.format(1))
    for number in range(1, 6):
        await register(nc, number)
    await asyncio.wait_for(told_once(nc, 5), 3.0)
    assert proxy.lost


async def test_what_a_leader_lost_is_told_by_the_next(start: Start, proxy: Proxy, nc: Client) -> None:
    """The leader dies before it notices; later events may be there already."""
    await start(by_proxy=True)
    successor = await start()
    proxy.loses = once(EVENT.format(1))
    for number in range(1, 6):
        await register(nc, number, successor)
    await eventually(lambda: bool(proxy.lost))
    proxy.cut()
    await eventually(lambda: successor.state.leading)
    await told_once(nc, 5)
    await eventually(lambda: successor.projector.settled)


async def test_a_loss_while_a_new_leader_catches_up_is_made_good(start: Start, proxy: Proxy, nc: Client) -> None:
    first = await start(by_proxy=True)
    proxy.loses = lambda subject: subject.startswith("registry.events.status.")
    for number in range(1, 6):
        await register(nc, number)
    await eventually(lambda: bool(proxy.lost))
    await first.stop()
    proxy.loses = once(EVENT.format(3))
    leader = await start(by_proxy=True)
    await told_once(nc, 5)
    await eventually(lambda: leader.projector.settled)
    assert EVENT.format(3) in proxy.lost
    await toggle(nc, 1)
    await told_once(nc, 7)


@pytest.mark.parametrize("window", [None, 0.5])
async def test_copies_that_come_late_are_not_taken(
    start: Start, proxy: Proxy, nc: Client, monkeypatch: pytest.MonkeyPatch, window: float | None
) -> None:
    """What a leader sent before it was cut off arrives when another one has told it, even after the stream has
    forgotten the ids."""
    if window is not None:
        monkeypatch.setattr("registry.shell.store.DUPLICATE_WINDOW", window)
    first = await start(by_proxy=True, leader_lease=1.0)
    successor = await start(leader_lease=1.0)
    await register(nc, 1, successor)
    await told_once(nc, 1)
    proxy.hold()
    for number in range(2, 12):
        await register(nc, number, successor)
    await toggle(nc, 1, successor)
    await eventually(lambda: successor.state.leading)
    await told_once(nc, 13)
    await asyncio.sleep(2 * (window or 0.1))  # until the ids are forgotten
    await proxy.mend()
    await eventually(lambda: not first.state.leading)
    await toggle(nc, 1, successor)
    await told_once(nc, 15)


async def test_no_more_than_a_window_of_events_is_on_its_way(start: Start, proxy: Proxy, nc: Client) -> None:
    """A leader that finds much to tell does not send all of it before the first is confirmed."""
    first = await start()
    await nc.jetstream().delete_stream("REGISTRY_EVENTS")
    await asyncio.gather(*[register(nc, number) for number in range(2500)])
    await first.stop()
    proxy.loses = lambda subject: subject.startswith("registry.events.status.")
    leader = await start(by_proxy=True)
    await eventually(lambda: len(leader.bus._acks) >= 2000)
    for _ in range(50):  # it had time to send more
        await told(nc, "registry.stats")
    assert len(leader.bus._acks) < 2100
    proxy.loses = None
    await eventually(lambda: leader.projector.settled, within=15.0)
    await told_once(nc, 2500)


# Somebody else publishes.


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        (b"hello", {}),
        (b"", {}),
        (b"[]", {}),
        (b'{"revision":1000000}', {}),
        (b'{"revision":1000000}', {"Nats-Msg-Id": "registry_agents:1000000"}),
        (b'{"revision":"many"}', {"Nats-Msg-Id": "registry_agents:many"}),
    ],
)
async def test_what_others_publish_silences_no_leader(
    start: Start, nc: Client, payload: bytes, headers: dict[str, str]
) -> None:
    first = await start()
    await register(nc, 1)
    await told_once(nc, 1)
    await nc.publish("registry.events.status.test", payload, headers=headers)
    await first.stop()
    await _written_by_nobody(nc, 2)
    leader = await start()
    await register(nc, 3)
    await eventually(lambda: leader.projector.settled)
    messages = await stored_events(nc, 4)
    told_of = [msg for msg in messages if msg.subject != "registry.events.status.test"]
    assert [event["agent_id"] for event in payloads(told_of)] == ["trader-1", "trader-2", "trader-3"]


async def test_what_others_publish_meanwhile_changes_neither_number_nor_order(start: Start, nc: Client) -> None:
    leader = await start()
    stop = asyncio.Event()

    async def disturb() -> None:
        while not stop.is_set():
            await nc.publish("registry.events.conflict.test", b"hello")
            await asyncio.sleep(0.01)

    disturbing = asyncio.ensure_future(disturb())
    await asyncio.gather(*[register(nc, number) for number in range(200)])
    await toggle(nc, 20)
    await told_once(nc, 240)
    stop.set()
    await disturbing
    await eventually(lambda: leader.projector.settled)


@pytest.mark.parametrize(
    "oddity",
    [
        {"change": {"from": "active", "reason": "operator", "at": "soon", "previous_revision": 0}},
        {"change": {"from": "active", "reason": "operator", "at": 1e300, "previous_revision": 0}},
        {"agent_id": "no good\r\nid"},
        {"agent_id": None},
    ],
)
async def test_an_odd_record_stops_no_event_but_its_own(start: Start, nc: Client, oddity: dict[str, Any]) -> None:
    """Written by hand, heard live and found by the next leader."""
    first = await start()
    await register(nc, 1)
    bucket = await nc.jetstream().key_value(BUCKET)
    record = {**orjson.loads((await bucket.get("trader-1")).value or b""), "agent_id": "trader-9", **oddity}
    await bucket.put("trader-9", orjson.dumps(record))
    await register(nc, 2)
    await told_once(nc, 2)
    await first.stop()
    await bucket.put("trader-9", orjson.dumps(record))
    leader = await start()
    await register(nc, 3)
    await told_once(nc, 3)
    await eventually(lambda: leader.projector.settled)


# Where the next leader goes on.


async def test_a_new_leader_with_nothing_to_tell_is_settled(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the last entry of the log has ended by its own time."""
    monkeypatch.setattr("registry.core.state.REMOVAL_KEPT", 0.1)
    monkeypatch.setattr("registry.shell.store.MARKER_SECONDS", 1)
    first = await start()
    await register(nc, 1)
    await told(nc, "registry.deregister.trader-1")

    async def empty() -> bool:
        return (await nc.jetstream().stream_info(f"KV_{BUCKET}")).state.messages == 0

    await eventually(empty)
    await first.stop()
    leader = await start()
    await eventually(lambda: leader.projector.settled, within=3.0)


async def test_what_was_left_is_told_though_the_stream_is_empty(start: Start, nc: Client) -> None:
    """Events end by their age, or somebody purges the stream; how far they were told is known all the same."""
    first = await start()
    await register(nc, 1)
    await told_once(nc, 1)
    control = await nc.jetstream().key_value("registry_control")

    async def marked() -> bool:
        try:
            return bool(orjson.loads((await control.get("events")).value or b"")["revision"] == 1)
        except nats.js.errors.KeyNotFoundError:
            return False

    await eventually(marked)
    await first.stop()
    await nc.jetstream().purge_stream("REGISTRY_EVENTS")
    await _written_by_nobody(nc, 2)
    await start()
    (event,) = payloads(await stored_events(nc, 1))
    assert event["agent_id"] == "trader-2"


@pytest.mark.parametrize(
    "value", [b"", b"nonsense", b"[]", b'{"revision":1000000,"sequence":1000000}', b'{"revision":-1}']
)
async def test_a_mark_that_cannot_be_right_is_not_believed(start: Start, nc: Client, value: bytes) -> None:
    first = await start()
    await register(nc, 1)
    await told_once(nc, 1)
    await first.stop()
    await _written_by_nobody(nc, 2)
    await (await nc.jetstream().key_value("registry_control")).put("events", value)
    await start()
    assert {event["agent_id"] for event in payloads(await stored_events(nc, 2))} == {"trader-1", "trader-2"}
    assert len(await stored_events(nc, 2)) == 2


async def test_a_stream_made_anew_is_gone_on_with(start: Start, nc: Client) -> None:
    leader = await start()
    await register(nc, 1)
    await toggle(nc, 5)
    await told_once(nc, 11)
    await nc.jetstream().delete_stream("REGISTRY_EVENTS")
    await register(nc, 2)
    await leader.store.open()
    assert [event["agent_id"] for event in payloads(await stored_events(nc, 1))] == ["trader-2"]
    await eventually(lambda: leader.projector.settled)


async def test_more_than_is_remembered_is_read_from_the_log(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is away while much happens."""
    monkeypatch.setattr("registry.shell.projector.MAX_BACKLOG", 50)
    monkeypatch.setattr("registry.shell.outbox.WINDOW", 20)
    leader = await start()
    await nc.jetstream().delete_stream("REGISTRY_EVENTS")
    await asyncio.gather(*[register(nc, number) for number in range(200)])
    await leader.store.open()
    await asyncio.gather(*[register(nc, number) for number in range(200, 300)])
    await told_once(nc, 300)
    await eventually(lambda: leader.projector.settled)


async def test_changes_while_nobody_leads_are_all_told(start: Start, proxy: Proxy, nc: Client) -> None:
    """The bucket has the last eight of an agent; who leads next remembers the others."""
    await start(by_proxy=True)
    successor = await start()
    await register(nc, 1, successor)
    await told_once(nc, 1)
    proxy.cut()
    await toggle(nc, 10, successor)
    await told_once(nc, 21)
    assert successor.state.leading


# Two that believe to lead.


async def test_a_leader_that_was_away_tells_nothing_before_its_lease_is_renewed(
    start: Start, proxy: Proxy, nc: Client
) -> None:
    one = await start(by_proxy=True)
    two = await start()
    async with listening(nc, "registry.events.status.>") as live:
        await register(nc, 1)
        proxy.cut()
        await eventually(lambda: two.state.leading)
        await toggle(nc, 10)
        await proxy.mend()
        await eventually(lambda: one.bus.connected)
        await eventually(lambda: not one.state.leading, within=1.0)
        await toggle(nc, 5)
        heard = payloads(await live.take(31))
        await told_once(nc, 31)
        assert live.empty()
    assert len({event["event_id"] for event in heard}) == 31, "none was said twice"


async def test_a_leader_that_was_away_for_a_moment_goes_on(start: Start, proxy: Proxy, nc: Client) -> None:
    leader = await start(by_proxy=True)
    await register(nc, 1)
    proxy.cut()
    await eventually(lambda: not leader.bus.connected)
    await _written_by_nobody(nc, 2)
    await proxy.mend()
    await eventually(lambda: leader.bus.connected)
    await eventually(lambda: is_served(nc, "registry.register"))
    await register(nc, 3)
    await told_once(nc, 3)
    assert (leader.state.leading, leader.state.epoch) == (True, 1)
    assert (await stats(nc))["leader_epoch"] == 1


class Fleet:
    """Replicas in processes of their own."""

    def __init__(self, url: str, folder: Path, stack: ExitStack) -> None:
        env = environment(AGENT_REGISTRY_LEADER_LEASE="1", AGENT_REGISTRY_AUTO_SCALING_ENABLED="false")
        self.ready = [folder / f"ready-{number}" for number in range(3)]
        self.processes = [
            stack.enter_context(
                Running(command("serve", "--nats", url, "--ready-file", ready), folder / f"of-{ready.name}", env)
            )
            for ready in self.ready
        ]

    async def started(self) -> None:
        await eventually(lambda: all(ready.exists() for ready in self.ready), within=30.0)

    async def leader(self, nc: Client) -> Running:
        """The process that leads; its log names it."""
        lease = orjson.loads((await (await nc.jetstream().key_value("registry_control")).get("leader")).value or b"")
        (process,) = [one for one in self.processes if lease["replica"] in one.stderr]
        return process


async def test_leaders_that_are_killed_or_stand_still_lose_nothing_and_double_nothing(
    nats_server: NatsServer, nc: Client, tmp_path: Path
) -> None:
    """One in the midst of its work, one for longer than its lease."""
    acknowledged: set[tuple[str, int]] = set()
    stop = asyncio.Event()

    async def work(number: int) -> None:
        agent_id, verb = f"trader-{number}", "register"
        while not stop.is_set():
            try:
                request = {**TRADER, "agent_id": agent_id} if verb == "register" else {"agent_id": agent_id}
                answer = await ask(nc, f"registry.{verb}", request, within=1.0)
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            if "revision" in answer.body:
                acknowledged.add((agent_id, answer.body["revision"]))
            verb = {"register": "suspend", "suspend": "resume", "resume": "suspend"}[verb]

    async def goes_on(changes: int) -> None:
        wanted = len(acknowledged) + changes
        await eventually(lambda: len(acknowledged) > wanted, within=20.0)

    async def led_by_another(process: Running) -> bool:
        return await fleet.leader(nc) is not process

    async def told_of_all() -> bool:
        known = {(event["agent_id"], event["revision"]) for event in payloads(await stored_events(nc, 1))}
        return acknowledged <= known

    with ExitStack() as stack:
        fleet = Fleet(nats_server.url, tmp_path, stack)
        await fleet.started()
        working = [asyncio.ensure_future(work(number)) for number in range(8)]
        await goes_on(200)
        killed = await fleet.leader(nc)
        killed.process.kill()
        await goes_on(200)
        await eventually(lambda: led_by_another(killed))
        still = await fleet.leader(nc)
        still.process.send_signal(signal.SIGSTOP)
        await goes_on(40)
        still.process.send_signal(signal.SIGCONT)
        await goes_on(200)
        stop.set()
        await asyncio.gather(*working)
        await eventually(told_of_all)
        await told_once(nc, len(await stored_events(nc, 1)))
