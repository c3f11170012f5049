"""What each tool takes, and what it answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from nats.aio.client import Client as NatsClient

from agent_registry.mcp_server import history
from agent_registry.mcp_server.calling import CALL_AGENT
from agent_registry.mcp_server.looking import LOOKING, Discovery, PastEvents
from agent_registry.mcp_server.reach import Reach
from agent_registry.target import Target
from agents_sdk import Agent, InvalidRequestError, UnavailableError
from agents_sdk.protocol.discovery import ServiceQuery
from agents_sdk.protocol.subjects import EVENT_KINDS
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.contract import wire
from tests.contract.test_adoption import METADATA, serving, until_found
from tests.contract.test_agent_cards import CARD
from tests.contract.wire import TRADER
from tests.mcp_server.conftest import Connect, refused, told

TOOLS = [*LOOKING, CALL_AGENT]


@pytest.fixture
def settings() -> Settings:
    """No orders come in between."""
    return Settings(auto_scaling_enabled=False)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_explains_itself(tool: Any) -> None:
    """Every argument has a description, nothing is a reference, and the schema is one."""
    listed = tool.listed()
    schema = listed.input_schema
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert all(field["description"] and "\n" not in field["description"] for field in schema["properties"].values())
    assert not [word for word in ("$ref", "$defs", "anyOf", "null", '"title"') if word in json.dumps(schema)]
    assert listed.title
    assert len(listed.description) > 60


def test_the_annotations_say_who_acts() -> None:
    for tool in LOOKING:
        hints = tool.listed().annotations
        assert (hints.read_only_hint, hints.destructive_hint, hints.open_world_hint) == (True, False, False)
    hints = CALL_AGENT.listed().annotations
    assert (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint) == (False, True, False)
    assert hints.open_world_hint is True


def test_a_discovery_is_a_query() -> None:
    """With the same names, defaults and bounds, but for how many are returned."""
    query = ServiceQuery()
    for name, value in Discovery().__dict__.items():
        assert getattr(query, name) == value, name
    assert Discovery.model_fields["limit"].default == query.limit


def test_every_kind_of_event_can_be_asked_for() -> None:
    literal = get_args(PastEvents.model_fields["kind"].annotation)[0]
    assert set(get_args(literal)) == set(EVENT_KINDS)


async def test_list_capabilities(nc: NatsClient, here: Connect) -> None:
    await wire.told(nc, "registry.register", TRADER)
    async with here() as client:
        answer = await told(client, "list_capabilities")
    assert answer["agents_by_capability"]["trading"] == 1
    assert answer["agents_by_capability"]["backtesting"] == 0
    assert answer["others_allowed"] is False


async def test_discover_shows_what_an_agent_is_chosen_by(nc: NatsClient, here: Connect) -> None:
    registration = {**TRADER, "tags": ["eu"], "max_concurrency": 4, "metadata": {"a2a_card": CARD, "big": "x" * 999}}
    await wire.told(nc, "registry.register", registration)
    await wire.told(nc, "registry.performance.trader-1", {"metrics": {"success_rate": 0.9, "uptime": 99.0}})
    await wire.told(nc, "registry.health.trader-1", {"health_score": 0.7, "load_factor": 0.25})
    async with here() as client:
        answer = await told(client, "discover_agents", skills=["spot-quote"], capabilities=["TRADING"])
    (agent,) = answer["agents"]
    assert answer["total"] == 1
    assert agent.pop("seconds_since_load_was_reported") >= 0
    assert agent == {
        "agent_id": "trader-1", "agent_type": "trading_agent", "status": "degraded", "status_reason": "health",
        "capabilities": ["trading"], "skills": ["spot-quote", "Überblick 1"], "tags": ["eu"], "version": "1.0.0",
        "health_score": 0.7, "load_factor": 0.25, "success_rate": 0.9, "tasks_at_once": 4,
    }  # fmt: skip


async def test_discover_says_why_nobody_was_found(nc: NatsClient, here: Connect) -> None:
    for number in range(12):
        await wire.told(nc, "registry.register", {**TRADER, "agent_id": f"trader-{number:02}"})
    async with here() as client:
        answer = await told(client, "discover_agents", capabilities=["trading"], tags=["eu"])
        assert (answer["total"], answer["agents"]) == (0, [])
        assert len(answer["left_out"]) == 10
        assert answer["left_out"]["trader-00"] == "tags lack eu"
        found = await told(client, "discover_agents", capabilities=["trading"], limit=3, sort_by="random")
        assert (found["total"], len(found["agents"])) == (12, 3)
        assert "left_out" not in found


async def test_null_is_as_good_as_nothing(nc: NatsClient, here: Connect) -> None:
    """LLMs fill in what they do not need."""
    await wire.told(nc, "registry.register", TRADER)
    arguments = dict.fromkeys(Discovery.model_fields)
    async with here() as client:
        assert (await told(client, "discover_agents", **arguments))["total"] == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("discover_agents", {"capability": "trading"}, "capability: is not a field of this request; did you mean"),
        ("discover_agents", {"capabilities": "trading"}, "capabilities: must be an array"),
        ("discover_agents", {"limit": 51}, "limit: must be at most 50; got 51"),
        ("discover_agents", {"version": "newest"}, "version: must be a version specifier"),
        ("discover_agents", {"statuses": ["asleep"]}, "statuses[0]: must be 'registering', "),
        ("get_agent", {}, "agent_id: is required"),
        ("get_agent", {"agent_id": "a.b"}, "agent_id: must be 1 to 128 characters"),
        ("recent_events", {"kind": "weather"}, "kind: must be 'status', "),
        (
            "recent_events",
            {"kind": "registry", "agent_id": "a"},
            "kind: with this agent_id or capability there are only",
        ),
        ("registry_stats", {"verbose": True}, "verbose: is not a field of this request, which has none"),
        ("call_agent", {"capability": "trading"}, "topic: is required"),
        ("call_agent", {"capability": "trading", "topic": "a b"}, "topic: must be one or more tokens"),
        ("call_agent", {"capability": "trading", "topic": "drain"}, "topic: drain is how the registry"),
        ("call_agent", {"capability": "trading", "topic": "quote", "payload": []}, "payload: must be an object"),
        (
            "call_agent",
            {"capability": "trading", "topic": "quote", "timeout": 0},
            "timeout: must be at least 0.1; got 0",
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
async def test_wrong_arguments_are_told_field_by_field(
    here: Connect, tool: str, arguments: dict[str, Any], says: str
) -> None:
    async with here(allow_calls=True) as client:
        assert (await refused(client, tool, **arguments)).startswith(f"invalid_request: {says}")


async def test_the_registry_s_own_sentence(here: Connect) -> None:
    async with here() as client:
        assert (await refused(client, "get_agent", agent_id="nobody")).startswith(
            "not_found: agent_id: no agent 'nobody' is registered"
        )
        said = await refused(client, "scaling_report", capability="juggling")
        assert said.startswith("invalid_request: capability: ")


async def test_get_agent_shows_the_evidence_and_the_topics(registry: Replica, here: Connect, quoter_id: str) -> None:
    async with here() as client:
        agent = await told(client, "get_agent", agent_id=quoter_id)
    assert agent["metadata"]["a2a_card"]["name"] == "Quoter"
    assert agent["evidence"]["verdict"] == "alive"
    assert agent["topics"] == ["quote"]


class TestAdopted:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(adopt="micro", adopt_interval=0.3)

    async def test_an_adopted_service_is_called_by_the_topics_that_are_shown(
        self, nats_server: NatsServer, nc: NatsClient, here: Connect
    ) -> None:
        async with serving(nats_server.url, metadata=METADATA) as service, here(allow_calls=True) as client:
            await until_found(nc, service.id)
            (topic,) = (await told(client, "get_agent", agent_id=service.id))["topics"]
            assert await told(client, "call_agent", capability="trading", topic=topic) == {"answer": {"price": 42.0}}


@pytest.mark.parametrize(
    "answer",
    [None, b"hello", b"[]", b"{}", b'{"endpoints":[{}]}', b'{"endpoints":5}'],
    ids=["no one", "no JSON", "no object", "no endpoints", "no subject", "no array"],
)
async def test_who_does_not_tell_its_topics(nc: NatsClient, here: Connect, answer: bytes | None) -> None:
    """An agent without the SDK is shown all the same."""
    await wire.told(nc, "registry.register", {**TRADER, "instance_id": "run-1"})
    if answer is not None:
        async with wire.answering(nc, "$SRV.INFO.trading_agent.run-1", answer), here() as client:
            assert (await told(client, "get_agent", agent_id="trader-1"))["topics"] is None
        return
    async with here() as client:
        assert (await told(client, "get_agent", agent_id="trader-1"))["topics"] is None


async def test_statistics_and_scaling(nc: NatsClient, here: Connect) -> None:
    await wire.told(nc, "registry.register", TRADER)
    async with here() as client:
        statistics = await told(client, "registry_stats")
        assert statistics["registered_agents"] == 1
        assert statistics["leader"] is True
        (short,) = (await told(client, "scaling_report"))["capabilities"]
        assert set(short) == {
            "capability", "agents", "desired", "mean_load", "mean_health", "open_orders", "reason",
        }  # fmt: skip
        (long,) = (await told(client, "scaling_report", capability="trading"))["capabilities"]
        assert long["policy"]["min_agents"] == 2


async def test_recent_events(nc: NatsClient, here: Connect) -> None:
    """The newest ones, oldest first; narrowed down by kind, agent and capability."""
    await wire.told(nc, "registry.register", TRADER)
    await wire.told(nc, "registry.register", {**TRADER, "agent_id": "seer-1", "capabilities": ["research"]})
    await wire.told(nc, "registry.suspend.seer-1", {"reason": "lunch"})
    await wire.told(nc, "registry.resume.seer-1")
    await wire.stored_events(nc, 4)
    async with here() as client:

        async def seen(**arguments: Any) -> list[tuple[str, str]]:
            events = (await told(client, "recent_events", **arguments))["events"]
            return [(event["event"], event.get("agent_id") or event["what"]) for event in events]

        status = [("status", "trader-1"), *[("status", "seer-1")] * 3]
        assert await seen() == [("registry", "leader_changed"), *status]
        assert await seen(kind="status") == status
        assert await seen(limit=2) == status[-2:]
        assert await seen(agent_id="seer-1") == status[1:]
        assert await seen(capability="trading") == status[:1]
        assert await seen(capability="research", agent_id="trader-1") == []
        assert await seen(kind="assignment") == []
        suspended = (await told(client, "recent_events", agent_id="seer-1"))["events"][1]
    assert 0 <= suspended.pop("age") < 60
    assert suspended.pop("at") > 0
    assert suspended.pop("revision") > 0
    assert suspended == {
        "event": "status", "agent_id": "seer-1", "agent_type": "trading_agent", "capabilities": ["research"],
        "from": "active", "to": "suspended", "reason": "operator", "note": "lunch", "removed": False, "incarnation": 1,
    }  # fmt: skip


async def test_lost_assignments_are_events(nc: NatsClient, here: Connect) -> None:
    await wire.told(nc, "registry.register", TRADER)
    await wire.told(nc, "registry.assign", {"task_id": "order-7"})
    await wire.told(nc, "registry.deregister.trader-1")
    await wire.stored_events(nc, 1, "registry.events.assignment.>")
    await wire.stored_events(nc, 2)
    async with here() as client:
        (lost,) = (await told(client, "recent_events", kind="assignment", agent_id="trader-1"))["events"]
        assert lost["task_id"] == "order-7"
        events = (await told(client, "recent_events", agent_id="trader-1"))["events"]
    assert sorted(event["event"] for event in events) == ["assignment", "status", "status"]


async def test_conflicts_are_events_of_all_that_they_name(nc: NatsClient, here: Connect) -> None:
    await wire.told(nc, "registry.register", {**TRADER, "claims": ["account-7"]})
    await wire.told(nc, "registry.register", {**TRADER, "agent_id": "bystander"})
    assert (await wire.ask(nc, "registry.register", {**TRADER, "agent_id": "late", "claims": ["account-7"]})).code
    await wire.stored_events(nc, 1, "registry.events.conflict.>")
    async with here() as client:
        (conflict,) = (await told(client, "recent_events", kind="conflict"))["events"]
        assert (conflict["event"], conflict["claim"]) == ("conflict", "account-7")
        assert set(conflict["agents"]) == {"trader-1", "late"}
        for name, kinds in (("trader-1", ["status", "conflict"]), ("late", ["conflict"]), ("bystander", ["status"])):
            events = (await told(client, "recent_events", agent_id=name))["events"]
            assert [event["event"] for event in events] == kinds


async def test_what_is_no_event_is_passed_over(nc: NatsClient, here: Connect) -> None:
    """Who may write there may write anything."""
    await wire.stored_events(nc, 1, "registry.events.registry.>")
    js = nc.jetstream()
    for payload in (b"hello", b"[]", b'{"what":"something new"}'):
        await js.publish("registry.events.weather.rain", payload)
    async with here() as client:
        events = (await told(client, "recent_events"))["events"]
    assert [(event["event"], event["what"]) for event in events] == [
        ("registry", "leader_changed"), ("weather", "something new"),
    ]  # fmt: skip


class TestScaling:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(scaling_interval=0.1)

    async def test_orders_are_events_of_a_capability(self, nc: NatsClient, here: Connect) -> None:
        await wire.told(nc, "registry.register", TRADER)
        await wire.stored_events(nc, 1, "registry.events.scaling.>")
        async with here() as client:
            events = (await told(client, "recent_events", capability="trading"))["events"]
            assert await refused(client, "recent_events", capability="trading", kind="registry")
        assert [event["event"] for event in events] == ["status", "scaling"]
        assert events[1]["action"] == "scale_up"
        assert 0 <= events[1]["age"] < 60


async def test_only_the_newest_events_are_looked_through(
    nc: NatsClient, here: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, and in however many pieces they come."""
    monkeypatch.setattr(history, "MAX_READ", 7)
    monkeypatch.setattr(history, "BATCH", 3)
    for number in range(12):
        await wire.told(nc, "registry.register", {**TRADER, "agent_id": f"a-{number:02}"})
    await wire.stored_events(nc, 12)
    async with here() as client:
        events = (await told(client, "recent_events"))["events"]
        assert [event["agent_id"] for event in events] == [f"a-{number:02}" for number in range(5, 12)]
        assert (await told(client, "recent_events", agent_id="a-00"))["events"] == []


async def test_without_the_stream_recent_events_says_so(nc: NatsClient, here: Connect) -> None:
    await nc.jetstream().delete_stream("REGISTRY_EVENTS")
    async with here() as client:
        said = await refused(client, "recent_events")
    assert said.startswith("unavailable: the stream REGISTRY_EVENTS cannot be read: ")


async def test_those_who_wait_for_nats_wait_together() -> None:
    """A server that does not answer costs calls that come at the same time no more than one of them."""
    tried: list[asyncio.Task[None] | None] = []
    all_wait = asyncio.Event()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append(asyncio.current_task())
        await all_wait.wait()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reach = Reach(Target.resolve(f"nats://127.0.0.1:{port}", None, None, "registry"))
        for attempt in (1, 2):
            all_wait.clear()
            calls = [asyncio.ensure_future(reach.open()) for _ in range(4)]
            await eventually(lambda attempt=attempt: len(tried) == attempt)
            all_wait.set()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 4
            assert len(tried) == attempt
        all_wait.clear()
        opening = asyncio.create_task(reach.open())
        await eventually(lambda: len(tried) == 3)
        await reach.close()
        with pytest.raises(asyncio.CancelledError):
            await opening
        all_wait.set()
        await asyncio.gather(*filter(None, tried), return_exceptions=True)


async def test_what_an_agent_refuses_is_told(registry: Replica, nats_server: NatsServer, here: Connect) -> None:
    agent = Agent("seer", ["research"], agent_id="seer-1", nats=nats_server.url)

    @agent.handle("see")
    async def see(request: dict[str, Any]) -> dict[str, Any]:
        if "what" not in request:
            raise InvalidRequestError("what: is required")
        return {"seen": request["what"]}

    async with agent, here(allow_calls=True) as client:
        await eventually(lambda: "seer-1" in registry.state.agents)
        call = {"capability": "research", "topic": "see"}
        assert await told(client, "call_agent", **call, payload={"what": 5}) == {"answer": {"seen": 5}}
        assert await refused(client, "call_agent", **call) == "seer-1 answered invalid_request (400): what: is required"
        said = await refused(client, "call_agent", **call, tags=["eu"], timeout=0.2)
        assert said.startswith("unavailable: no agent found for research within 0.2 s")


async def test_a_call_is_made_once(nc: NatsClient, here: Connect) -> None:
    """An agent that does not answer may have begun: no other one is asked."""
    for name in ("one", "two"):
        await wire.told(nc, "registry.register", {**TRADER, "agent_id": name})
    async with (
        wire.listening(nc, "agent.*.quote") as heard,
        here(allow_calls=True) as client,
    ):
        said = await refused(client, "call_agent", capability="trading", topic="quote", timeout=0.4)
        assert said.endswith("; it may have begun")
        await heard.next()
        assert heard.empty()
