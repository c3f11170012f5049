"""What was acknowledged outlives servers and replicas; replicas agree; nothing is said twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.js.api import StreamConfig

from agents_sdk import RegistryClient
from registry.core.effects import SweepRemoval
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.acks import Ack, OnAck
from registry.shell.bucket_log import BucketLog
from registry.shell.effector import READ_ATTEMPTS
from registry.shell.embedded import NatsServer
from registry.shell.entry import Entry
from registry.shell.jetstream_nats import NoLeaderError
from registry.shell.store import Store
from tests.conftest import Start, eventually
from tests.contract.wire import (
    AGENTS_STREAM,
    TRADER,
    agent,
    answering,
    ask,
    decoded,
    encoded,
    everything,
    found,
    listening,
    moves,
    payloads,
    stats,
    stored_events,
    told,
)
from tests.sdk.outage import Server


@pytest.fixture
def settings() -> Settings:
    return Settings(scaling_interval=0.1)


async def answered(nc: Client) -> None:
    """Wait until requests are answered."""

    async def answers() -> bool:
        try:
            await told(nc, "registry.stats", within=1.0)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError, nats.errors.ConnectionClosedError):
            return False
        return True

    await eventually(answers)


def by_agent(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Events of each agent, in the order in which they came."""
    sorted_out: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        sorted_out.setdefault(event["agent_id"], []).append(event)
    return sorted_out


# The server.


async def test_a_killed_server_comes_back_with_everything(
    registry: Replica, nats_server: NatsServer, nc: Client
) -> None:
    for number in range(20):
        await told(nc, f"registry.register.trader-{number}", {**TRADER, "agent_id": f"trader-{number}"})
    await told(nc, "registry.suspend.trader-3")
    await told(nc, "registry.deregister.trader-4")
    before, events = await everything(nc), await stored_events(nc, 22)
    log_name = await registry.store.log_name()
    pid = nats_server.pid
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: nats_server.pid != pid and registry.bus.connected and nc.is_connected)
    await answered(nc)
    assert await everything(nc) == before
    assert await registry.store.log_name() == log_name, "or a new leader would tell everything again"
    assert [msg.data for msg in await stored_events(nc, 22)] == [msg.data for msg in events]
    receipt = await told(nc, "registry.register.trader-20", {**TRADER, "agent_id": "trader-20"})
    assert (await told(nc, "registry.discover", {"min_revision": receipt["revision"]}))["total"] == 19
    await stored_events(nc, 23)
    async with listening(nc, "registry.events.status.>") as live:
        await told(nc, "registry.resume.trader-3")
        assert moves([await live.next()]) == [("suspended", "active", "operator")]
    assert (await stats(nc))["nats"]["reconnects"] >= 1


async def test_what_was_acknowledged_while_the_server_was_killed_is_there(
    registry: Replica, nats_server: NatsServer, nc: Client
) -> None:
    """Registrations in flight at the kill end in an answer or in none; what was answered must have lasted."""
    acknowledged: list[str] = []

    async def register(number: int) -> None:
        try:
            request = {**TRADER, "agent_id": f"trader-{number}"}
            answer = await ask(nc, "registry.register", request, within=2.0)
        except (nats.errors.Error, TimeoutError):
            return
        if answer.code is None:
            acknowledged.append(answer.body["agent_id"])

    asking = [asyncio.ensure_future(register(number)) for number in range(300)]
    await eventually(lambda: len(acknowledged) >= 20)
    os.kill(nats_server.pid, signal.SIGKILL)
    await asyncio.gather(*asking)
    await answered(nc)
    assert set(acknowledged) <= set(await found(nc, limit=1000))


async def test_nobody_is_given_up_because_the_server_was_away(
    registry: Replica, nats_server: NatsServer, nc: Client
) -> None:
    """Leases shorter than the outage get their full time again once the registry can hear."""
    quick = {**TRADER, "heartbeat_interval": 0.2, "heartbeat_timeout": 0.4}
    stop = asyncio.Event()

    async def beat() -> None:
        while not stop.is_set():
            if nc.is_connected:
                await nc.publish("registry.heartbeat.trader-1", b"")
            try:
                await asyncio.wait_for(stop.wait(), 0.1)
            except TimeoutError:
                continue

    await told(nc, "registry.register", quick)
    beating = asyncio.ensure_future(beat())
    pid = nats_server.pid
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: nats_server.pid != pid and registry.bus.connected and nc.is_connected)
    await answered(nc)
    heard = registry.state.statistics.heartbeats
    await eventually(lambda: registry.state.statistics.heartbeats >= heard + 10)
    stop.set()
    await beating
    assert moves(await stored_events(nc, 1)) == [("registering", "active", "registered")]


# Replicas.


async def test_a_replica_has_started_only_when_the_server_knows_what_it_serves(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else the first request finds no responders on a busy machine."""
    written: list[bytes] = []
    write, writelines = TcpTransport.write, TcpTransport.writelines

    def noted(self: TcpTransport, payload: bytes) -> None:
        written.append(payload)
        write(self, payload)

    def all_noted(self: TcpTransport, payload: list[bytes]) -> None:
        written.extend(payload)
        writelines(self, payload)

    monkeypatch.setattr(TcpTransport, "write", noted)
    monkeypatch.setattr(TcpTransport, "writelines", all_noted)
    await start()
    protocol = b"".join(written)
    assert protocol.rindex(b"PING\r\n") > protocol.rindex(b"SUB $SRV."), "the ping asks for nothing"


async def test_a_replica_started_again_has_everything(start: Start, nc: Client) -> None:
    first = await start()
    await told(nc, "registry.register", {**TRADER, "instance_id": "run-1", "metadata": {"a": 1}, "claims": ["x"]})
    await told(nc, "registry.register", {**TRADER, "instance_id": "run-2", "takeover": True, "claims": ["x"]})
    await told(nc, "registry.register.trader-2", {**TRADER, "agent_id": "trader-2"})
    await told(nc, "registry.suspend.trader-2")
    await told(nc, "registry.scaling.set", {"capability": "trading", "max_agents": 4})
    before, events = await everything(nc), await stored_events(nc, 4)
    await first.stop()
    second = await start()
    assert await everything(nc) == before
    assert (await agent(nc))["incarnation"] == 2
    policy = (await told(nc, "registry.scaling.get", {"capability": "trading"}))["capabilities"][0]["policy"]
    assert policy["max_agents"] == 4
    assert [msg.data for msg in await stored_events(nc, 4)] == [msg.data for msg in events]
    assert (await stats(nc))["leader_epoch"] == 2
    # Goes on beating without anything, and the chain of events goes on.
    await told(nc, "registry.heartbeat.trader-1", {"incarnation": 2, "seq": 100})
    await told(nc, "registry.drain.trader-1")
    chain = by_agent(payloads(await stored_events(nc, 5)))["trader-1"]
    assert chain[-1]["previous_revision"] == chain[-2]["revision"]
    assert second.state.leading


async def test_vitals_come_back_as_they_were_saved(start: Start, nc: Client) -> None:
    first = await start(checkpoint_interval=0.05)
    await told(nc, "registry.register", TRADER)
    await told(nc, "registry.heartbeat.trader-1", {"load_factor": 0.6, "metrics": {"success_rate": 0.9}})
    bucket = await nc.jetstream().key_value("registry_agents")

    async def saved() -> bool:
        return bool(decoded((await bucket.get("trader-1")).value)["load_factor"] == 0.6)

    await eventually(saved)
    age = (await agent(nc))["load_age"]
    await first.stop()
    await start()
    seen = await agent(nc)
    assert (seen["load_factor"], seen["performance_metrics"]) == (0.6, {"success_rate": 0.9})
    assert seen["load_age"] >= age


async def test_two_replicas_see_the_same(start: Start, nc: Client) -> None:
    one, two = await start(), await start()
    receipts = [await told(nc, f"registry.register.t-{n}", {**TRADER, "agent_id": f"t-{n}"}) for n in range(30)]
    await told(nc, "registry.suspend.t-3")
    gone = await told(nc, "registry.deregister.t-4")
    await eventually(lambda: one.log.revision == two.log.revision == gone["revision"])
    assert set(one.state.agents) == set(two.state.agents) == {r["agent_id"] for r in receipts} - {"t-4"}
    for agent_id, known in one.state.agents.items():
        assert two.state.agents[agent_id].record == known.record
    served = [replica.state.statistics.registrations for replica in (one, two)]
    assert sum(served) == 30, "each request is served by one of them"
    assert min(served) > 0, "and both serve"
    events = payloads(await stored_events(nc, 32))
    assert len(events) == 32, "and each change is told once"
    assert len({event["event_id"] for event in events}) == 32


async def test_beats_reach_every_replica_and_the_leader_answers(start: Start, nc: Client) -> None:
    one, two = await start(), await start()
    assert (one.state.leading, two.state.leading) == (True, False)
    await told(nc, "registry.register", TRADER)
    await eventually(lambda: "trader-1" in one.state.agents and "trader-1" in two.state.agents)
    inbox = nc.new_inbox()
    async with listening(nc, inbox) as answers:
        for number in range(5):
            await nc.publish("registry.heartbeat.trader-1", encoded({"seq": number, "load_factor": 0.5}), reply=inbox)
        await nc.publish("registry.heartbeat.nobody", b"", reply=inbox)
        await answers.take(6)
        await eventually(lambda: two.state.agents["trader-1"].load == 0.5)
        await eventually(lambda: two.state.statistics.heartbeats == 6)
        assert answers.empty(), "one answer each"


async def test_an_acknowledged_deregistration_is_not_seen_by_who_asks_for_its_revision(
    start: Start, nc: Client
) -> None:
    await start()
    await start()
    for _ in range(20):
        await told(nc, "registry.register", TRADER)
        gone = await told(nc, "registry.deregister.trader-1")
        assert (await told(nc, "registry.discover", {"min_revision": gone["revision"]}))["agents"] == []


@pytest.mark.parametrize(
    ("operation", "said"), [("deregister", ("deregistered", True)), ("suspend", ("status", "suspended"))]
)
async def test_a_replica_that_lags_does_not_deny_what_was_acknowledged(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch, operation: str, said: tuple[str, Any]
) -> None:
    """Whoever registers an agent through one replica can command it through another at once: the bucket decides."""
    await start()
    heard, catch_up = BucketLog._heard, asyncio.Event()

    async def late(self: BucketLog, entry: Entry) -> None:
        await catch_up.wait()
        await heard(self, entry)

    with monkeypatch.context() as lagging:
        lagging.setattr(BucketLog, "_heard", late)
        await start()
    for number in range(24):  # a quarter of them come to the late one and were registered through the other one
        await told(nc, f"registry.register.t-{number}", {**TRADER, "agent_id": f"t-{number}"})
    answers = [await ask(nc, f"registry.{operation}.t-{number}") for number in range(24)]
    catch_up.set()
    field, value = said
    assert [answer.body.get(field, answer.code) for answer in answers] == [value] * 24


async def test_a_client_reads_what_it_wrote(start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through whichever replica: one that lags is waited for."""
    heard = BucketLog._heard

    async def late(self: BucketLog, entry: Entry) -> None:
        await asyncio.sleep(0.01)
        await heard(self, entry)

    with monkeypatch.context() as lagging:
        lagging.setattr(BucketLog, "_heard", late)
        await start()
        await start()
    async with RegistryClient(nc) as client:
        for number in range(12):
            agent_id = await client.register_agent({**TRADER, "agent_id": f"t-{number}"})
            assert await client.get_agent_info(agent_id) is not None
            assert (await client.discover()).total == number + 1
        for number in range(12):
            assert await client.deregister_agent(f"t-{number}")
            assert (await client.discover()).total == 11 - number


async def test_commands_for_one_agent_through_two_replicas_all_take_place(start: Start, nc: Client) -> None:
    """Each is a compare-and-set; who loses reads and decides anew."""
    await start()
    await start()
    await told(nc, "registry.register", {**TRADER, "instance_id": "run-1"})
    asked = [
        ask(nc, "registry.register", {**TRADER, "instance_id": "run-1", "metadata": {"n": number}})
        for number in range(20)
    ]
    answers = await asyncio.gather(*asked)
    assert {answer.code for answer in answers} <= {None, "unavailable"}
    taken = [answer.body["revision"] for answer in answers if answer.code is None]
    assert len(taken) >= 15
    chain = payloads(await stored_events(nc, len(taken) + 1))
    for before, after in pairwise(chain):
        assert after["previous_revision"] == before["revision"]


async def test_any_replica_shows_scaling(start: Start, nc: Client) -> None:
    """The leader alone decides; whoever is asked must not tell another story."""
    await start()
    await start()
    await told(nc, "registry.register", TRADER)

    async def report() -> dict[str, Any]:
        answer = await told(nc, "registry.scaling.get", {"capability": "trading"})
        found: dict[str, Any] = answer["capabilities"][0]
        return found

    async def agreed() -> bool:
        reports = [await report() for _ in range(20)]
        return all(one["desired"] == 2 and one["orders"] for one in reports)

    await eventually(agreed, within=2.0)


async def test_a_leader_that_stops_hands_over(start: Start, nc: Client) -> None:
    async with listening(nc, "registry.events.registry.leader_changed") as changes:
        one, two = await start(), await start()
        await one.stop()
        _, change = payloads(await changes.take(2))
    assert (change["replica"], change["epoch"]) == (two.replica_id, 2)
    assert two.state.leading
    await told(nc, "registry.register", {**TRADER, "heartbeat_interval": 0.1, "heartbeat_timeout": 0.2})
    async with listening(nc, "registry.events.status.offline.>") as live:
        assert moves([await live.next()]) == [("active", "offline", "heartbeat_timeout")]


async def test_a_leader_that_cannot_renew_for_a_while_goes_on(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while JetStream chooses a leader: it tries again well within its lease."""
    put, refused = Store.put_control, 0

    async def refuse(self: Store, key: str, value: Any, *rest: Any) -> int | None:
        nonlocal refused
        if key != "leader" or refused == 3:
            return await put(self, key, value, *rest)
        refused += 1
        raise NoLeaderError("leader cannot be written")

    leader = await start(leader_lease=1.0)
    follower = await start(leader_lease=1.0)
    monkeypatch.setattr(Store, "put_control", refuse)
    await eventually(lambda: refused == 3)
    before = leader.election._revision
    await eventually(lambda: leader.election._revision > before)
    assert (leader.state.leading, leader.state.epoch, follower.state.leading) == (True, 1, False)


async def test_a_write_of_unknown_outcome_waits_for_a_leader_that_can_tell(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JetStream takes longer to choose one than a read takes; then the answer is what took place."""
    read, asked = Store.read, 0

    async def nobody(self: Store, key: str) -> Entry | None:
        nonlocal asked
        asked += 1
        if asked < 2 * READ_ATTEMPTS:
            raise NoLeaderError("there is no leader")
        return await read(self, key)

    async def unheard(self: Store, key: str, value: bytes, expected: int, removed: bool, on_ack: OnAck) -> None:
        await on_ack(Ack())

    monkeypatch.setattr(Store, "read", nobody)
    with monkeypatch.context() as away:
        away.setattr(Store, "put", unheard)
        registering = asyncio.ensure_future(told(nc, "registry.register", TRADER, within=10.0))
        await eventually(lambda: asked > 0)
    assert (await registering)["incarnation"] == 1
    assert asked == 2 * READ_ATTEMPTS


@pytest.mark.parametrize("look", ["events_after", "last_revision"])
async def test_what_happens_while_a_leader_looks_where_its_predecessor_stopped_is_told(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """The very first leader finds no events, and an empty bucket; both answers are old when they come."""
    looked, go_on = asyncio.Event(), asyncio.Event()
    question = getattr(Store, look)

    async def slow(self: Store, *arguments: Any) -> Any:
        answer = await question(self, *arguments)
        looked.set()
        await go_on.wait()
        return answer

    monkeypatch.setattr(Store, look, slow)
    await start()
    await looked.wait()
    await told(nc, "registry.register", TRADER)
    async with listening(nc, "registry.events.status.>") as live:
        go_on.set()
        assert moves([await live.next(within=3.0)]) == [("registering", "active", "registered")]


async def test_a_change_of_leader_loses_no_event_and_doubles_none(start: Start, nc: Client) -> None:
    """Agents come and go while leaders do: every revision that is a change is told once, in order for each agent."""
    leader = await start()
    acknowledged: list[tuple[str, int]] = []
    stop = asyncio.Event()

    async def work(number: int) -> None:
        agent_id = f"trader-{number}"
        while not stop.is_set():
            for operation in ("register", "suspend", "deregister"):
                try:
                    request = {**TRADER, "agent_id": agent_id} if operation == "register" else {"agent_id": agent_id}
                    answer = await ask(nc, f"registry.{operation}", request)
                except (nats.errors.Error, TimeoutError):
                    continue
                if answer.code is None and "revision" in answer.body:
                    acknowledged.append((agent_id, answer.body["revision"]))

    working = [asyncio.ensure_future(work(number)) for number in range(4)]
    for _ in range(3):
        successor = await start()
        count = len(acknowledged)
        await eventually(lambda count=count: len(acknowledged) > count + 100)  # type: ignore[misc]
        await leader.stop()
        await eventually(lambda successor=successor: successor.state.leading)  # type: ignore[misc]
        leader = successor
    stop.set()
    await asyncio.gather(*working)
    last = max(revision for _, revision in acknowledged)

    async def told_of_all() -> bool:
        return any(event["revision"] >= last for event in payloads(await stored_events(nc, 1)))

    await eventually(told_of_all)
    events = payloads(await stored_events(nc, 1))
    revisions = [event["revision"] for event in events]
    assert sorted(revisions) == sorted(set(revisions)), "none is doubled"
    assert {(event["agent_id"], event["revision"]) for event in events} >= set(acknowledged), "none is lost"
    for chain in by_agent(events).values():
        for before, after in pairwise(chain):
            assert after["previous_revision"] == (0 if before["removed"] else before["revision"])


async def test_a_bucket_that_is_made_anew_tells_of_all_its_changes(start: Start, nc: Client) -> None:
    """Its revisions are those of the bucket before, whose events are in the stream already; they are other changes."""
    first = await start()
    for number in range(5):
        await told(nc, f"registry.register.old-{number}", {**TRADER, "agent_id": f"old-{number}"})
    await stored_events(nc, 5)
    await first.stop()
    assert await nc.jetstream().delete_stream(AGENTS_STREAM)
    second = await start()
    for number in range(3):
        await told(nc, f"registry.register.new-{number}", {**TRADER, "agent_id": f"new-{number}"})
    await stored_events(nc, 8)
    await second.stop()
    await start()  # it finds out how far the new log was told of, and tells nothing twice
    await told(nc, "registry.suspend.new-0")
    events = payloads(await stored_events(nc, 9))
    assert [(event["agent_id"], event["revision"]) for event in events[5:]] == [
        ("new-0", 1), ("new-1", 2), ("new-2", 3), ("new-0", 4),
    ]  # fmt: skip
    assert len({event["event_id"] for event in events}) == 9


async def test_running_replicas_begin_anew_with_a_bucket_that_is_made_anew(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the loss of NATS' store: what is not in the new bucket is not there any more, for anybody."""
    monkeypatch.setattr("registry.shell.tail.WATCH_INTERVAL", 0.2)
    running = [await start(leader_lease=1.0), await start(leader_lease=1.0)]
    for number in range(5):
        await told(nc, f"registry.register.old-{number}", {**TRADER, "agent_id": f"old-{number}"})
    await told(nc, "registry.deregister.old-4")
    await told(nc, "registry.scaling.set", {"capability": "trading", "max_agents": 7})
    await stored_events(nc, 6)
    js = nc.jetstream()
    assert await js.delete_stream(AGENTS_STREAM)
    assert await js.delete_stream("KV_registry_control")
    await running[0].store.open()
    await eventually(lambda: not any(replica.state.agents or replica.log.revision for replica in running))
    await eventually(lambda: not any(replica.state.scaler.policies.own for replica in running))
    # An epoch that came again would have orders of the new leader ignored.
    await eventually(lambda: any(replica.state.leading and replica.state.epoch == 2 for replica in running))
    for replica in running:
        replica.state.validate()
    for number in range(3, 6):
        receipt = await told(nc, f"registry.register.old-{number}", {**TRADER, "agent_id": f"old-{number}"})
        assert (receipt["incarnation"], receipt["revision"]) == (1, number - 2)
    await eventually(lambda: all(set(r.state.agents) == {"old-3", "old-4", "old-5"} for r in running))
    events = payloads(await stored_events(nc, 9))
    assert [(event["agent_id"], event["revision"]) for event in events[6:]] == [
        ("old-3", 1),
        ("old-4", 2),
        ("old-5", 3),
    ]


async def test_a_bucket_that_is_missing_is_waited_for(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Agents are found meanwhile; the log is not followed at the old position once there is a bucket again."""
    monkeypatch.setattr("registry.shell.tail.WATCH_INTERVAL", 0.2)
    await told(nc, "registry.register", TRADER)
    assert await nc.jetstream().delete_stream(AGENTS_STREAM)
    await eventually(lambda: "missing" in caplog.text)
    assert await found(nc) == ["trader-1"]
    await registry.store.open()
    for number in range(4):
        await (await nc.jetstream().key_value("registry_agents")).put(f"trader-{number}", b"not a record")
    await eventually(lambda: registry.log.revision == 4)
    assert await found(nc) == []


@pytest.mark.parametrize("value", [b"not a record", b'{"v":1,"agent_id":"trader-9","status":"asleep"}'])
async def test_an_unreadable_record_does_not_silence_a_new_leader(start: Start, nc: Client, value: bytes) -> None:
    """Somebody wrote into the bucket; the new leader passes that by when it looks what is left to tell."""
    first = await start()
    await told(nc, "registry.register", TRADER)
    await stored_events(nc, 1)
    await (await nc.jetstream().key_value("registry_agents")).put("trader-9", value)
    await first.stop()
    await start()
    await told(nc, "registry.suspend.trader-1")
    assert moves(await stored_events(nc, 2))[1:] == [("active", "suspended", "operator")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"agent_id": "somebody-else"},
        {"health_score": 5},
        {"heartbeat_timeout": "90s"},
        {"capabilities": "trading"},
        {"performance_metrics": {"success_rate": "high"}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_a_record_with_a_wrong_value_harms_no_other(start: Start, nc: Client, wrong: dict[str, Any]) -> None:
    """It is left out by a replica that runs, by one that starts and finds it newest, and of every answer."""
    first = await start()
    await told(nc, "registry.register", TRADER)
    bucket = await nc.jetstream().key_value("registry_agents")
    record = {**decoded((await bucket.get("trader-1")).value), "agent_id": "trader-4", "write_id": "by-hand", **wrong}
    revision = await bucket.put("trader-4", encoded(record))
    assert await first.log.reached(revision, 5.0)
    assert await found(nc) == ["trader-1"]
    assert (await ask(nc, "registry.get.somebody-else")).code == "not_found"
    await first.stop()
    await asyncio.wait_for(start(), 10.0)
    assert await found(nc) == ["trader-1"]
    assert (await told(nc, "registry.register.trader-4", {**TRADER, "agent_id": "trader-4"}))["incarnation"] == 1


NONSENSE = pytest.mark.parametrize(
    ("key", "value"),
    [
        ("policy.trading", b"not JSON"),
        ("policy.trading", b"[]"),
        ("policy.trading", b'{"max_agents":"many"}'),
        ("policy.trading", b'{"of_a_newer_version":4}'),
        ("leader", b"not JSON"),
    ],
)


async def _works(nc: Client) -> None:
    """Leases end, and policies can be set."""
    async with listening(nc, "registry.events.status.offline.>") as live:
        await told(nc, "registry.register", {**TRADER, "heartbeat_interval": 0.1, "heartbeat_timeout": 0.2})
        assert moves([await live.next(within=5.0)]) == [("active", "offline", "heartbeat_timeout")]
    await told(nc, "registry.scaling.set", {"capability": "trading", "max_agents": 5})


@NONSENSE
async def test_nonsense_in_the_control_bucket_stops_nobody(start: Start, nc: Client, key: str, value: bytes) -> None:
    await start(leader_lease=0.3, reconnect_grace=0.0)
    await (await nc.jetstream().key_value("registry_control")).put(key, value)
    await _works(nc)


@NONSENSE
async def test_nonsense_in_the_control_bucket_keeps_nobody_from_starting(
    start: Start, nc: Client, key: str, value: bytes
) -> None:
    first = await start(leader_lease=0.3, reconnect_grace=0.0)
    await first.stop()
    await (await nc.jetstream().key_value("registry_control")).put(key, value)
    await asyncio.wait_for(start(leader_lease=0.3, reconnect_grace=0.0), 5.0)
    await _works(nc)


async def test_after_a_change_of_leader_leases_run_anew(start: Start, nc: Client) -> None:
    """The new leader has not heard what the old one heard; probes go on and the agent is still there."""
    one = await start()
    two = await start(health_check_interval=0.1)
    async with answering(nc, "agent.trader-1.health_check", {}) as probes:
        await told(nc, "registry.register", {**TRADER, "health_subject": "agent.trader-1.health_check"})
        await one.stop()
        await eventually(lambda: two.state.leading)
        await probes.take(3)
        assert (await agent(nc))["status"] == "active"


async def test_a_stream_removed_by_hand_does_not_stop_the_registry(registry: Replica, nc: Client) -> None:
    """Events have nowhere to go; agents are still registered and found."""
    await nc.jetstream().delete_stream("REGISTRY_EVENTS")
    await told(nc, "registry.register", TRADER)
    assert await found(nc) == ["trader-1"]
    assert json.loads(json.dumps(await stats(nc)))["registered_agents"] == 1


async def test_removals_do_not_stay_in_the_bucket(start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its events are in the stream, a removal's history is swept; what is left of it ends by itself."""
    monkeypatch.setattr("registry.core.state.REMOVAL_KEPT", 0.3)
    monkeypatch.setattr("registry.shell.store.MARKER_SECONDS", 1)
    leader = await start()
    other = await start()
    await told(nc, "registry.register", TRADER)
    await told(nc, "registry.suspend.trader-1")
    await told(nc, "registry.deregister.trader-1")

    async def left() -> int:
        return int((await nc.jetstream().stream_info(f"KV_{leader.subjects.agents_bucket}")).state.messages)

    async def swept() -> bool:
        return await left() == 1

    async def gone() -> bool:
        return await left() == 0

    await eventually(swept)
    told_of = payloads(await stored_events(nc, 3, "registry.events.status.>"))
    assert [event["to"] for event in told_of] == ["active", "suspended", "suspended"]
    assert told_of[-1]["removed"] is True
    await eventually(gone)
    assert (await told(nc, "registry.register", TRADER))["incarnation"] == 1
    await eventually(lambda: "trader-1" in leader.state.agents and "trader-1" in other.state.agents)


async def test_a_bucket_that_cannot_be_swept_is_told_of_once(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody made it by hand, or a version of long ago; once its settings are right, it is swept."""
    monkeypatch.setattr("registry.core.state.REMOVAL_KEPT", 0.1)
    monkeypatch.setattr("registry.core.upkeep.SWEEP_RETRY", 0.1)
    monkeypatch.setattr("registry.shell.tail.WATCH_INTERVAL", 0.1)
    js = nc.jetstream()
    stream = StreamConfig(
        name="KV_registry_agents", subjects=["$KV.registry_agents.>"], allow_rollup_hdrs=True, max_msgs_per_subject=8
    )
    await js.add_stream(stream)
    replica = await start()
    await told(nc, "registry.register", TRADER)
    await told(nc, "registry.deregister.trader-1")
    ordered = 0
    sweep = replica.effector._performers[SweepRemoval]

    async def noted(effect: SweepRemoval) -> None:
        nonlocal ordered
        ordered += 1
        await sweep(effect)

    monkeypatch.setitem(replica.effector._performers, SweepRemoval, noted)
    await eventually(lambda: ordered >= 5)
    lines = [record.getMessage() for record in caplog.records if "swe" in record.getMessage()]
    assert len(lines) == 1
    assert "KV_registry_agents" in lines[0]
    assert "allow_msg_ttl" in lines[0]
    stream.allow_msg_ttl = True
    await js.update_stream(stream)

    async def swept() -> bool:
        return (await js.stream_info("KV_registry_agents")).state.messages == 1

    await eventually(swept)


@pytest.mark.parametrize("bucket", ["agents", "control"])
async def test_a_log_that_falls_silent_is_followed_anew(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    """Even when nats-py does not notice that its consumer is lost."""
    monkeypatch.setattr("registry.shell.tail.WATCH_INTERVAL", 0.2)
    leader = await start()
    other = await start()
    tail = other.log._tail if bucket == "agents" else other._control
    await told(nc, "registry.register", TRADER)
    await eventually(lambda: "trader-1" in other.state.agents)
    tail._subscription._sub._jsi._hbtask.cancel()
    consumer = (await tail._subscription.consumer_info()).name
    name = other.store.bucket if bucket == "agents" else other.subjects.control_bucket
    assert await nc.jetstream().delete_consumer(f"KV_{name}", consumer)
    if bucket == "agents":
        await nc.publish("registry.heartbeat.trader-1", encoded({"health_score": 0.1}))  # the leader writes
        await eventually(lambda: other.state.agents["trader-1"].status == "suspended")
        assert other.log.revision == leader.log.revision
    else:
        await told(nc, "registry.scaling.set", {"capability": "trading", "max_agents": 7})
        await eventually(lambda: other.state.scaler.policies.of("trading").max_agents == 7)
    assert tail.resyncs >= 1
    resyncs = tail.resyncs
    await told(nc, "registry.register", {**TRADER, "agent_id": "trader-2"})
    await eventually(lambda: "trader-2" in other.state.agents)
    assert tail.resyncs == resyncs


async def test_it_answers_soon_after_the_return_of_nats(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However long NATS was away: attempts to reconnect do not become rarer. The log does not drown in them."""
    server = Server(tmp_path)
    await server.start()
    replica = Replica(Settings(), server.url)
    await replica.start()
    client = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.01)

    async def suspended() -> bool:
        try:
            return (await ask(client, "registry.suspend.trader-1", within=0.5)).code is None
        except (nats.errors.Error, TimeoutError):
            return False

    try:
        await told(client, "registry.register", TRADER)
        await server.kill()
        await eventually(lambda: replica.bus.errors > 20)
        await server.start()
        await eventually(suspended, within=3.0)
        assert 0 < len([record for record in caplog.records if "nats_error" in record.getMessage()]) < 12
    finally:
        await client.close()
        await replica.stop()
        await server.kill()


@pytest.mark.parametrize("value", [b"nonsense", b"[]", b'{"v":1,"agent_id":"trader-1","capabilities":7}'])
async def test_nonsense_in_an_agents_place_is_written_over(start: Start, nc: Client, value: bytes) -> None:
    """Somebody put it there by hand: it says nothing of the agent."""
    replica = await start()
    await told(nc, "registry.register", {**TRADER, "claims": ["db"]})
    await (await nc.jetstream().key_value("registry_agents")).put("trader-1", value)
    assert (await told(nc, "registry.suspend.trader-1"))["status"] == "suspended"
    other = await start()
    await replica.stop()
    assert other.state.get("trader-1").status == "suspended"
    assert other.state.catalog.claims.holders() == {"db": "trader-1"}
    assert moves(await stored_events(nc, 2)) == [
        ("registering", "active", "registered"),
        ("active", "suspended", "operator"),
    ]
