"""Scaling orders are carried out: as far as it still has to be done, each once, and capacity never drops."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agents_sdk import (
    AgentStatus,
    LauncherFullError,
    LaunchError,
    Orchestrator,
    RegistryClient,
    ScalingAction,
    ScalingOrder,
    ServiceQuery,
    carrying,
    roster,
)
from agents_sdk.act import Act, Phase
from agents_sdk.cancelling import cancel
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually


@pytest.fixture
def settings() -> Settings:
    return Settings(health_check_interval=0.2, auto_scaling_enabled=False)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "SETTLE", 0.2)
    monkeypatch.setattr(carrying, "LOOK_INTERVAL", 0.1)


class Beginning:
    """A launcher whose agents register when the test says so."""

    def __init__(self, registry: RegistryClient) -> None:
        self.registry = registry
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.full_at = 100

    async def start(self, agent_id: str, capability: str) -> str:
        if len(self.up) >= self.full_at:
            raise LauncherFullError(f"{self.full_at} run")
        self.started.append(agent_id)
        return agent_id

    async def stop(self, agent_id: str) -> None:
        self.stopped.append(agent_id)

    async def running(self, capability: str) -> list[str]:
        return self.up

    @property
    def up(self) -> list[str]:
        return [agent_id for agent_id in self.started if agent_id not in self.stopped]

    async def register(self, *names: str, **fields: Any) -> None:
        for name in names:
            usual = {"agent_type": "t", "capabilities": ["trading"], "agent_id": name, "heartbeat_interval": 3600.0}
            await self.registry.register({**usual, **fields})


@pytest.fixture
def fleet(client: RegistryClient) -> Beginning:
    return Beginning(client)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def carrying_out(client: RegistryClient, fleet: Beginning, said: list[str]) -> Orchestrator:
    return Orchestrator(client, fleet, ["trading"], durable="test", say=said.append)


def order(action: ScalingAction, desired: int, *agents: str, **fields: Any) -> ScalingOrder:
    """Return an order; `life` is how many seconds it holds from now."""
    life = fields.pop("life", 60.0)
    observed = {"agents": 0, "pending": 0, "mean_load": None, "mean_health": None, "sample_age": None}
    usual = {"order_id": "o", "capability": "trading", "generation": 1, "attempt": 1, "epoch": 1, "delta": 0}
    times = {"issued_at": time.time(), "expires_at": time.time() + life, "reason": "r", "observed": observed}
    return ScalingOrder.model_validate(
        {**usual, **times, "action": action, "desired": desired, "agents": list(agents), **fields}
    )


async def publish(client: RegistryClient, each: ScalingOrder) -> None:
    subject = f"registry.events.scaling.{each.action}.{each.capability.replace(' ', '-')}"
    await client._connection.publish(subject, each.model_dump_json().encode())


async def goes_offline(client: RegistryClient, fleet: Beginning, name: str) -> None:
    await fleet.register(name, health_subject=f"agent.{name}.health_check")

    async def is_offline() -> bool:
        known = await client.get_agent_info(name)
        return known is not None and known.status == "offline"

    await eventually(is_offline, within=30.0)  # in turn, and with the grace of who was not told of


async def drained(client: RegistryClient) -> set[str]:
    query = ServiceQuery(statuses={AgentStatus.DEREGISTERING})
    return {agent.agent_id for agent in await client.discover_agents(query)}


async def test_as_many_are_started_as_are_missing_and_it_is_done_when_they_serve(
    fleet: Beginning, carrying_out: Orchestrator, said: list[str]
) -> None:
    await fleet.register("a")
    acting = asyncio.create_task(carrying_out.carry_out(order(ScalingAction.SCALE_UP, 3, generation=7)))
    await eventually(lambda: fleet.started == ["trading-7-0", "trading-7-1"])
    (act,) = carrying_out.acts
    assert (act.phase, act.outcome) == (Phase.STARTING, None)
    await fleet.register("trading-7-0", "trading-7-1")
    assert await acting is act
    assert (act.phase, act.outcome, act.started) == (Phase.OVER, "3 serve", fleet.started)
    assert said == ["starts trading-7-0, trading-7-1 for trading", "trading: 3 serve"]


async def test_the_same_order_again_starts_nobody_twice(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator, said: list[str]
) -> None:
    """As after a crash: some have been started, of whom the registry knows one, and the rest is still to be."""
    repeated = order(ScalingAction.SCALE_UP, 3, life=2.0)
    fleet.started += ["trading-1-0", "trading-1-1"]
    await fleet.register("trading-1-0")
    acting = asyncio.create_task(carrying_out.carry_out(repeated))
    await eventually(lambda: len(fleet.started) == 3)
    assert fleet.started[-1] == "trading-1-2"
    await fleet.register("trading-1-1", "trading-1-2")
    assert (await acting).outcome == "3 serve"
    again = Orchestrator(client, fleet, ["trading"], durable="test", say=said.append)
    assert (await again.carry_out(repeated)).started == []


async def test_no_more_are_drained_than_are_too_many_and_all_are_waited_for(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator
) -> None:
    await fleet.register("a", "b", "c")
    acting = asyncio.create_task(carrying_out.carry_out(order(ScalingAction.SCALE_DOWN, 2, "gone", "c", "b")))
    await eventually(lambda: [act.phase for act in carrying_out.acts] == [Phase.DRAINING])

    async def is_draining() -> bool:
        return await drained(client) == {"c"}

    await eventually(is_draining)
    assert fleet.stopped == [], "it has time to finish its work"
    await client.deregister_agent("c")
    act = await acting
    assert (fleet.stopped, act.outcome) == (["c"], "c left")


async def test_who_was_told_to_go_by_an_orchestrator_that_died_is_seen_off(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator
) -> None:
    """There are no more too many, but nobody has waited for it, nor stopped its process."""
    await fleet.register("a", "b")
    await client.drain_agent("b")
    acting = asyncio.create_task(carrying_out.carry_out(order(ScalingAction.SCALE_DOWN, 1, "b")))
    await eventually(lambda: [act.phase for act in carrying_out.acts] == [Phase.DRAINING])
    await client.deregister_agent("b")
    assert (await acting).outcome == "b left"
    assert fleet.stopped == ["b"]


async def test_who_does_not_leave_in_time_is_stopped(client: RegistryClient, fleet: Beginning, said: list[str]) -> None:
    await fleet.register("a", "b")
    hasty = Orchestrator(client, fleet, drain_timeout=0.3, say=said.append)
    await hasty.carry_out(order(ScalingAction.SCALE_DOWN, 1, "b"))
    assert fleet.stopped == ["b"]
    assert "b has not left within 0.3 s" in said


async def test_a_replacement_serves_before_the_named_one_is_drained(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator
) -> None:
    await fleet.register("a", "sick")
    acting = asyncio.create_task(carrying_out.carry_out(order(ScalingAction.REPLACE, 2, "sick")))
    await eventually(lambda: fleet.started == ["trading-1-0"])
    assert await drained(client) == set()
    await fleet.register("trading-1-0")

    async def is_draining() -> bool:
        return await drained(client) == {"sick"}

    await eventually(is_draining)
    await client.deregister_agent("sick")
    assert (await acting).outcome == "sick replaced"
    assert (fleet.started, fleet.stopped) == (["trading-1-0"], ["sick"])


async def test_without_a_replacement_the_named_one_stays(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator
) -> None:
    await fleet.register("a", "sick")
    act = await carrying_out.carry_out(order(ScalingAction.REPLACE, 2, "sick", life=0.5))
    assert act.outcome is not None
    assert act.outcome.startswith("sick not replaced: 1 of 2 serve; trading-1-0 runs, but nobody has registered")
    assert (await drained(client), fleet.stopped) == (set(), [])


async def test_who_went_meanwhile_needs_no_draining(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator, said: list[str]
) -> None:
    await fleet.register("a")
    await goes_offline(client, fleet, "crashed")
    await carrying_out.carry_out(order(ScalingAction.REPLACE, 1, "crashed", "never-there"))
    assert [words.partition(":")[0] for words in said] == ["need not drain crashed", "trading"]
    assert fleet.stopped == ["crashed"], "what is left of it is ended"


async def test_who_runs_but_stays_offline_is_stopped_and_another_one_started(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator, monkeypatch
) -> None:
    monkeypatch.setattr(carrying, "START_TIMEOUT", 0.3)
    fleet.started.append("hung")
    await goes_offline(client, fleet, "hung")
    acting = asyncio.create_task(carrying_out.carry_out(order(ScalingAction.SCALE_UP, 1)))
    await eventually(lambda: fleet.started == ["hung", "trading-1-0"])
    assert fleet.stopped == ["hung"]
    await fleet.register("trading-1-0")
    assert (await acting).outcome == "1 serve"


async def test_one_that_may_yet_come_back_is_not_stopped_however_soon_orders_expire(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator, monkeypatch
) -> None:
    """One that does not is stopped by whichever order holds then."""
    monkeypatch.setattr(carrying, "START_TIMEOUT", 1.3)
    fleet.started.append("hung")
    await goes_offline(client, fleet, "hung")
    act = await carrying_out.carry_out(order(ScalingAction.SCALE_UP, 1, life=1.0))
    assert (act.outcome, fleet.stopped) == ("0 of 1 serve", [])
    await carrying_out.carry_out(order(ScalingAction.SCALE_UP, 1, life=1.0, attempt=2, order_id="o2"))
    assert fleet.stopped == ["hung"]


async def test_when_no_more_may_run_that_is_said_once_and_the_order_over(
    fleet: Beginning, carrying_out: Orchestrator, said: list[str], monkeypatch
) -> None:
    """The registry issues it again and again: each time one start is tried."""
    begin, asked = fleet.start, Counter[str]()

    async def start(agent_id: str, capability: str) -> str:
        asked[agent_id] += 1
        return await begin(agent_id, capability)

    monkeypatch.setattr(fleet, "start", start)
    fleet.full_at = 0
    for attempt in (1, 2):
        act = await carrying_out.carry_out(order(ScalingAction.SCALE_UP, 2, attempt=attempt))
        assert act.outcome == "0 of 2 serve"
    assert said == ["starts no more for trading: 0 run", *["trading: 0 of 2 serve"] * 2]
    assert asked == {"trading-1-0": 2}


async def test_who_has_taken_on_something_else_stays(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator, said: list[str]
) -> None:
    fleet.started.append("b")
    await fleet.register("a")
    await fleet.register("b", capabilities=["research"])
    act = await carrying_out.carry_out(order(ScalingAction.SCALE_DOWN, 1, "b"))
    assert act.outcome == "nobody had to go"
    await carrying_out.carry_out(order(ScalingAction.REPLACE, 1, "b", generation=2, order_id="o2"))
    assert (fleet.stopped, await drained(client)) == ([], set())
    assert [act.spared for act in carrying_out.acts] == [["b"], ["b"]]
    assert said.count("b stays: it has research by now, and not trading") == 2


async def test_who_was_told_to_go_and_has_taken_on_something_else_finishes_its_work(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator, said: list[str]
) -> None:
    fleet.started.append("b")
    await fleet.register("a")
    await fleet.register("b", capabilities=["research"])
    await client.drain_agent("b")
    acting = asyncio.create_task(carrying_out.carry_out(order(ScalingAction.SCALE_DOWN, 1, "b")))
    await eventually(lambda: "drains b" in said)
    assert fleet.stopped == []
    await client.deregister_agent("b")
    assert (await acting).outcome == "b left"
    assert fleet.stopped == ["b"]


async def test_among_more_agents_than_it_can_see_it_starts_none(
    client: RegistryClient, fleet: Beginning, carrying_out: Orchestrator, monkeypatch
) -> None:
    """What one listing does not show is there all the same, and would be started again with each order."""
    monkeypatch.setattr(roster, "MAX_LIMIT", 2)
    await fleet.register("a", "b")
    for action in (ScalingAction.SCALE_UP, ScalingAction.REPLACE):
        act = await carrying_out.carry_out(order(action, 3, "a"))
        assert "there are more than the 2 agents that it can see" in str(act.outcome)
    assert (fleet.started, await drained(client)) == ([], set())


async def test_what_is_registered_without_the_capability_is_told(
    fleet: Beginning, carrying_out: Orchestrator, said: list[str]
) -> None:
    acting = asyncio.create_task(carrying_out.carry_out(order(ScalingAction.SCALE_UP, 1, life=1.0)))
    await eventually(lambda: bool(fleet.started))
    await fleet.register(*fleet.started, capabilities=["research"])
    await acting
    assert "trading-1-0 is registered without the capability trading: it has research" in said[-1]


async def test_a_launch_that_fails_is_tried_again(
    fleet: Beginning, carrying_out: Orchestrator, said: list[str], monkeypatch
) -> None:
    begin = fleet.start

    async def fail_once(agent_id: str, capability: str) -> str:
        monkeypatch.setattr(fleet, "start", begin)
        raise LaunchError("no memory")

    monkeypatch.setattr(fleet, "start", fail_once)
    acting = asyncio.create_task(carrying_out.carry_out(order(ScalingAction.SCALE_UP, 1)))
    await eventually(lambda: fleet.started == ["trading-1-0"])
    await fleet.register("trading-1-0")
    assert (await acting).outcome == "1 serve"
    assert said[0].startswith("cannot carry out scale_up of trading: no memory; tries again in ")


class Stream:
    """An orchestrator that reads orders, and handlers that a test lets go on."""

    def __init__(self, client: RegistryClient, **options: Any) -> None:
        self.client = client
        self.said: list[str] = []
        self.handled: list[ScalingOrder] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.cancelled: list[str] = []
        self.orchestrator = Orchestrator(client, durable="test", say=self.said.append, **options)
        self.orchestrator.on("scale_up")(self.handle)
        self.running = asyncio.create_task(self.orchestrator.run())

    async def handle(self, order: ScalingOrder) -> None:
        self.handled.append(order)
        try:
            await self.gates.setdefault(order.order_id, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(order.order_id)
            raise

    def let_go(self, order_id: str) -> None:
        self.gates.setdefault(order_id, asyncio.Event()).set()

    @property
    def outcomes(self) -> dict[str, str | None]:
        return {act.order.order_id: act.outcome for act in self.orchestrator.acts}

    async def publish(self, order_id: str, **fields: Any) -> None:
        await publish(self.client, order(ScalingAction.SCALE_UP, 2, **{"order_id": order_id, **fields}))

    async def pending(self) -> int:
        """Return how many orders the server has not been told to be done."""
        info = await self.client._connection.client.jetstream().consumer_info("REGISTRY_EVENTS", "test")
        return (info.num_ack_pending or 0) + (info.num_pending or 0)


@pytest.fixture
async def stream(client: RegistryClient) -> AsyncIterator[Stream]:
    stream = Stream(client)
    yield stream
    await cancel(stream.running)


async def test_an_order_is_acknowledged_when_it_is_done(stream: Stream) -> None:
    await stream.publish("o1")
    await eventually(lambda: len(stream.handled) == 1)
    assert await stream.pending() == 1
    stream.let_go("o1")
    await eventually(lambda: stream.outcomes == {"o1": "done"})
    assert await stream.pending() == 0


async def test_capabilities_do_not_wait_for_one_another(stream: Stream) -> None:
    await stream.publish("o1")
    await stream.publish("o2", capability="research")
    await eventually(lambda: len(stream.handled) == 2)
    stream.let_go("o2")
    await eventually(lambda: stream.outcomes == {"o1": None, "o2": "done"})


async def test_a_newer_order_of_the_capability_takes_the_place_of_one_that_is_carried_out(stream: Stream) -> None:
    await stream.publish("o1")
    await eventually(lambda: len(stream.handled) == 1)
    await stream.publish("o2", generation=2)
    await eventually(lambda: len(stream.handled) == 2)
    assert stream.cancelled == ["o1"]
    stream.let_go("o2")
    await eventually(lambda: stream.outcomes == {"o1": "superseded by a newer order", "o2": "done"})
    assert await stream.pending() == 0


async def test_a_proposal_stands_beside_the_order_to_start_others(stream: Stream) -> None:
    await stream.publish("o1")
    await eventually(lambda: len(stream.handled) == 1)
    await publish(stream.client, order(ScalingAction.REBALANCE, 2, "a", order_id="move", generation=2))
    await eventually(lambda: stream.outcomes.get("move") == "nothing done, rebalance has no handler")
    stream.let_go("o1")
    await eventually(lambda: stream.outcomes["o1"] == "done")


async def test_an_older_order_and_one_that_came_before_are_left_alone(stream: Stream) -> None:
    stream.let_go("o3")
    await stream.publish("o3", generation=3)
    await eventually(lambda: stream.outcomes == {"o3": "done"})
    await stream.publish("o2", generation=2)
    await stream.publish("o3", generation=3)
    await stream.publish("o0", generation=9, epoch=0)
    await stream.publish("other", capability="research")
    await eventually(lambda: len(stream.handled) == 2)
    assert [each.order_id for each in stream.handled] == ["o3", "other"]
    stream.let_go("other")
    await eventually(lambda: stream.outcomes == {"o3": "done", "other": "done"})


async def test_a_held_order_is_nobody_elses(client: RegistryClient, nc: Client, monkeypatch) -> None:
    monkeypatch.setattr("agents_sdk.client.HELD_ACK_WAIT", 0.3)
    words: list[bytes] = []

    async def hear(msg: Msg) -> None:
        words.append(msg.data)

    await nc.subscribe("$JS.ACK.REGISTRY_EVENTS.test.>", cb=hear)
    await nc.flush()
    one, other = Stream(client), Stream(client)
    await one.publish("o1")
    await eventually(lambda: words.count(b"+WPI") >= 9)  # each third of the time after which it would come again
    assert Counter(each.order_id for each in one.handled + other.handled) == {"o1": 1}
    for each in (one, other):
        each.let_go("o1")
    await eventually(lambda: {**one.outcomes, **other.outcomes} == {"o1": "done"})
    for each in (one, other):
        await cancel(each.running)


async def test_what_is_not_done_in_the_end_is_given_back_at_once(client: RegistryClient, stream: Stream) -> None:
    await stream.publish("o1")
    await eventually(lambda: len(stream.handled) == 1)
    await cancel(stream.running)
    assert stream.outcomes == {"o1": "given back"}
    following = Stream(client)
    await eventually(lambda: [each.order_id for each in following.handled] == ["o1"], within=5.0)
    await cancel(following.running)


async def test_expired_orders_are_told_of_in_one_line_and_not_carried_out(stream: Stream) -> None:
    for number in range(3):
        await stream.publish(f"o{number}", generation=number, life=-1.0)
    await eventually(lambda: len(stream.said) == 1)
    assert stream.said == ["3 orders had expired before anybody read: 3 of trading"]
    assert set(stream.outcomes.values()) == {"expired before it was read"}
    assert (stream.handled, await stream.pending()) == ([], 0)


async def test_a_handler_that_fails_is_called_again(client: RegistryClient, said: list[str], caplog) -> None:
    handlers_only = Orchestrator(client, durable="other", say=said.append)
    calls: list[ScalingOrder] = []

    @handlers_only.on("rebalance")
    async def rebalance(asked: ScalingOrder) -> None:
        calls.append(asked)
        if len(calls) < 2:
            raise KeyError("shard")

    act = await handlers_only.carry_out(order(ScalingAction.REBALANCE, 2))
    assert (act.outcome, len(calls)) == ("done", 2)
    assert "cannot carry out rebalance of trading: KeyError('shard'); tries again in" in said[0]
    assert "Traceback" in caplog.text
    act = await handlers_only.carry_out(order(ScalingAction.SCALE_UP, 2))
    assert act.outcome == "nothing done, scale_up has no handler"


async def test_who_is_told_and_fails_holds_up_nothing(client: RegistryClient, fleet: Beginning, caplog) -> None:
    def fail(_: object) -> None:
        raise BrokenPipeError

    await fleet.register("a")
    orchestrator = Orchestrator(client, fleet, say=fail, watch=fail)
    for generation in (1, 2):
        act = await asyncio.wait_for(orchestrator.carry_out(order(ScalingAction.SCALE_UP, 1, generation=generation)), 5)
        assert (act.phase, act.outcome) == (Phase.OVER, "1 serve")
    assert caplog.text.count("cannot tell of") == 2, "once for each of the two"


class Noted:
    """A held order that notes what becomes of it."""

    def __init__(self, event: ScalingOrder) -> None:
        self.event = event
        self.told: list[str] = []
        self.error: Exception | None = None

    async def acknowledge(self) -> None:
        self.told.append("acknowledged")
        if self.error is not None:
            raise self.error

    async def give_back(self) -> None:
        self.told.append("given back")


async def test_of_two_orders_that_are_there_at_once_each_is_acknowledged(client: RegistryClient) -> None:
    orchestrator = Orchestrator(client)
    both = [Noted(order(ScalingAction.SCALE_UP, 2, generation=number, order_id=f"o{number}")) for number in (1, 2)]
    for each in both:
        await orchestrator._take(each)  # type: ignore[arg-type]
    await eventually(lambda: all(act.phase is Phase.OVER for act in orchestrator.acts))
    assert [each.told for each in both] == [["acknowledged"]] * 2


async def test_an_act_ends_whatever_happens(client: RegistryClient) -> None:
    orchestrator = Orchestrator(client)
    lost = Noted(order(ScalingAction.SCALE_UP, 2))
    lost.error = KeyError()
    await orchestrator._take(lost)  # type: ignore[arg-type]
    (task,) = orchestrator._tasks
    with pytest.raises(KeyError):
        await task
    assert (lost.told, orchestrator.acts[0].outcome) == (["acknowledged", "given back"], "given back")
    following = orchestrator.carry_out(order(ScalingAction.SCALE_UP, 2, generation=2))
    assert (await asyncio.wait_for(following, 5)).outcome == "nothing done, scale_up has no handler"


def test_handlers_are_for_actions_that_there_are(nats_server: NatsServer) -> None:
    handlers_only = Orchestrator(RegistryClient(nats_server.url))
    with pytest.raises(ValueError, match="action: 'scaleup' is none of scale_up, scale_down, replace, rebalance"):
        handlers_only.on("scaleup")
    handlers_only.on("replace")(lambda _: asyncio.sleep(0))
    with pytest.raises(ValueError, match="has a handler already"):
        handlers_only.on("replace")
    with pytest.raises(ValueError, match="capabilities: must be several names"):
        Orchestrator(RegistryClient(nats_server.url), capabilities="trading")


async def test_a_newer_order_counts_who_is_being_started_for_an_older_one(
    client: RegistryClient, fleet: Beginning, said: list[str], monkeypatch
) -> None:
    begin, asked, gate = fleet.start, asyncio.Event(), asyncio.Event()

    async def start(agent_id: str, capability: str) -> str:
        asked.set()
        await gate.wait()
        return await begin(agent_id, capability)

    monkeypatch.setattr(fleet, "start", start)
    following = Orchestrator(client, fleet, say=said.append)
    older = asyncio.create_task(following.carry_out(order(ScalingAction.SCALE_UP, 1)))
    await asked.wait()
    newer = asyncio.create_task(following.carry_out(order(ScalingAction.SCALE_UP, 1, order_id="o2", generation=2)))
    await eventually(lambda: len(following.acts) == 2)
    gate.set()
    assert (await older).outcome == "superseded by a newer order"
    await fleet.register("trading-1-0")
    assert (await newer).outcome == "1 serve"
    assert fleet.started == ["trading-1-0"]


async def test_a_newer_order_begins_while_who_was_told_to_go_is_still_at_work(
    client: RegistryClient, fleet: Beginning, said: list[str]
) -> None:
    await fleet.register("a", "b")
    watched: list[Act] = []
    following = Orchestrator(client, fleet, durable="test", say=said.append, watch=watched.append)
    running = asyncio.create_task(following.run())
    await publish(client, order(ScalingAction.SCALE_DOWN, 1, "b"))
    await eventually(lambda: "drains b" in said)
    await publish(client, order(ScalingAction.SCALE_UP, 2, order_id="o2", generation=2))
    await eventually(lambda: fleet.started == ["trading-2-0"])
    await fleet.register("trading-2-0")
    await eventually(lambda: following.acts[1].outcome == "2 serve")
    assert following.acts[0].outcome is None
    await client.deregister_agent("b")
    await eventually(lambda: following.acts[0].outcome == "b left")
    assert fleet.stopped == ["b"]
    await cancel(running)
