"""A2A agent cards: what is accepted, what is said of what is not, and finding agents by their skills."""

from __future__ import annotations

import asyncio
import builtins
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from a2a.types.a2a_pb2 import AgentCard
from google.protobuf.json_format import ParseDict
from nats.aio.client import Client

from agents_sdk import RegistryClient, ServiceQuery
from agents_sdk.protocol.fields import MAX_METADATA_BYTES
from registry import AgentRegistry, CommunicationBus
from registry.replica import Replica
from registry.shell import agent_card
from registry.shell.agent_card import AgentCards
from registry.shell.embedded import NatsServer
from tests.contract.wire import TRADER, Answer, agent, ask, assert_error, everything, found, stored_events, told

CARD: dict[str, Any] = {
    "name": "Quoter",
    "description": "Quotes prices.",
    "version": "1.0.0",
    "supportedInterfaces": [{"url": "https://q.example.com", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
    "capabilities": {"extensions": [{"uri": "https://example.com/x", "params": {"any": ["thing", {"at": 1}]}}]},
    "securitySchemes": {"key": {"apiKeySecurityScheme": {"location": "header", "name": "X-Key"}}},
    "defaultInputModes": ["application/json"],
    "defaultOutputModes": ["application/json"],
    "skills": [
        {"id": "spot-quote", "name": "Spot", "description": "The price now.", "tags": ["prices"]},
        {"id": "Überblick 1", "name": "Overview", "description": "All prices.", "tags": ["prices", "all"]},
    ],
}  # fmt: skip
LEGACY: dict[str, Any] = {
    "name": "Quoter",
    "description": "Quotes prices.",
    "version": "1.0.0",
    "protocolVersion": "0.3.0",
    "url": "https://quoter.example.com",
    "capabilities": {},
    "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
    "security": [{"key": []}],
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [{"id": "legacy-quote", "name": "Spot", "description": "The price now.", "tags": []}],
}


def registration(card: Any, **changed: Any) -> dict[str, Any]:
    return {**TRADER, "metadata": {"a2a_card": card, "exchange": "x"}, **changed}


async def register(nc: Client, card: Any, **changed: Any) -> Answer:
    return await ask(nc, "registry.register", registration(card, **changed))


@pytest.mark.parametrize(
    "card",
    [CARD, LEGACY, {**LEGACY, **CARD}, {**CARD, "notYetInvented": {"a": 1}}, {**CARD, "documentationUrl": None}],
    ids=["1.x", "0.3", "both at once, as the SDK's servers publish it", "a field of a later version", "null"],
)
async def test_a_card_comes_back_as_it_was_given(registry: Replica, nc: Client, card: dict[str, Any]) -> None:
    await told(nc, "registry.register", registration(card))
    assert (await agent(nc))["metadata"] == {"a2a_card": card, "exchange": "x"}
    skills = [skill["id"] for skill in card["skills"]]
    assert await found(nc, skills=skills) == ["trader-1"]


async def test_what_is_got_is_a_card_to_the_official_sdk(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", registration(CARD))
    card = ParseDict((await agent(nc))["metadata"]["a2a_card"], AgentCard())
    assert [skill.id for skill in card.skills] == ["spot-quote", "Überblick 1"]


def _without(field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda card: card.pop(field)


def _with(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda card: card.update(fields)


def _skill(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda card: card["skills"][0].update(fields)


WRONG: list[tuple[Callable[[dict[str, Any]], Any], str, str]] = [
    (_without("name"), "name", "is required"),
    (_without("capabilities"), "capabilities", "is required"),
    (_without("supportedInterfaces"), "supportedInterfaces", "is required, and must not be empty"),
    (_without("defaultInputModes"), "defaultInputModes", "is required, and must not be empty"),
    (_with(skills=[]), "skills", "is required, and must not be empty"),
    (_with(skills="spot-quote"), "skills", "must be an array; got 'spot-quote'"),
    (_with(skills=["spot-quote"]), "skills[0]", "must be an object; got 'spot-quote'"),
    (_with(name=5), "name", "must be a string; got 5"),
    (_with(capabilities=[]), "capabilities", "must be an object; got []"),
    (_with(capabilities={"streaming": "yes"}), "capabilities.streaming", "must be true or false; got 'yes'"),
    (_skill(id=5), "skills[0].id", "must be a string; got 5"),
    (_skill(id=""), "skills[0].id", "is required, and must not be empty"),
    (_skill(tags=["prices", 7]), "skills[0].tags[1]", "must be a string; got 7"),
    (_skill(inputModes="text/plain"), "skills[0].inputModes", "must be an array; got 'text/plain'"),
    (_with(securitySchemes={"my_key": {"apiKeySecurityScheme": {"location": "header"}}}),
     "securitySchemes.my_key.apiKeySecurityScheme.name", "is required"),
    (_with(securitySchemes={"key": []}), "securitySchemes.key", "must be an object; got []"),
    (_with(securitySchemes=[]), "securitySchemes", "must be an object; got []"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "field", "says"), WRONG, ids=[f"{field}: {says}" for _, field, says in WRONG])
async def test_a_card_that_is_none_is_refused(change: Callable[[dict[str, Any]], Any], field: str, says: str) -> None:
    """With the field, and what would be right."""
    card = copy.deepcopy(CARD)
    change(card)
    with pytest.raises(agent_card.InvalidRequestError) as refused:
        await AgentCards().check({"a2a_card": card})
    (detail,) = refused.value.details
    assert detail.field == f"metadata.a2a_card.{field}"
    assert detail.message.startswith(says)
    assert refused.value.message == f"{detail.field}: {detail.message}"


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        (_without("url"), "url", "is required"),
        (_skill(id=5), "skills[0].id", "must be a string; got 5"),
        (_with(skills=5), "skills", "must be an array; got 5"),
    ],
)
async def test_a_card_of_0_3_that_is_none_is_refused(
    change: Callable[[dict[str, Any]], Any], field: str, says: str
) -> None:
    card = copy.deepcopy(LEGACY)
    change(card)
    with pytest.raises(agent_card.InvalidRequestError) as refused:
        await AgentCards().check({"a2a_card": card})
    (detail,) = refused.value.details
    assert (detail.field, detail.message) == (f"metadata.a2a_card.{field}", says)


@pytest.mark.parametrize("card", [5, None, "card", [], {}, {"skills": [{"id": "spot-quote"}]}], ids=str)
async def test_a_refused_card_changes_nothing(registry: Replica, nc: Client, card: Any) -> None:
    await told(nc, "registry.register", registration(CARD, instance_id="run-1"))
    before = await everything(nc)
    answer = await register(nc, card, instance_id="run-1")
    assert_error(answer, "invalid_request")
    assert all(field.startswith("metadata.a2a_card") for field in answer.fields)
    assert "metadata.a2a_card" in answer.body["error"]["message"]
    assert await everything(nc) == before
    assert await found(nc, skills=["spot-quote"]) == ["trader-1"]


async def test_what_the_form_does_not_tell_is_said_in_the_sdk_s_words(registry: Replica, nc: Client) -> None:
    """Of a security scheme there is exactly one kind."""
    two = {"key": {"apiKeySecurityScheme": {"location": "header", "name": "X"}, "mtlsSecurityScheme": {}}}
    answer = await register(nc, {**CARD, "securitySchemes": two})
    assert_error(answer, "invalid_request", "metadata.a2a_card")
    assert "must be an agent card of A2A: " in answer.body["error"]["message"]
    assert "securitySchemes" in answer.body["error"]["message"]


async def test_every_fault_is_told(registry: Replica, nc: Client) -> None:
    answer = await register(nc, {})
    assert_error(answer, "invalid_request", "metadata.a2a_card.name")
    assert len(answer.fields) == 8
    assert answer.body["error"]["message"].endswith("; and 5 more")


async def test_without_the_sdk_a_card_is_refused_and_nothing_else(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds an agent by a skill relies on its card; so none is kept that could not be checked."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "a2a":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    answer = await register(nc, CARD)
    assert_error(answer, "invalid_request", "metadata.a2a_card")
    assert "install agent-registry[a2a]" in answer.body["error"]["message"]
    await told(nc, "registry.register", TRADER)
    monkeypatch.undo()
    await told(nc, "registry.register", registration(CARD, agent_id="trader-2"))


async def test_registrations_keep_their_order_while_the_sdk_is_loaded(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first card takes a while; who registers after it comes after it, and others are answered meanwhile."""
    loading, go_on, load = asyncio.Event(), asyncio.Event(), agent_card._load
    loop = asyncio.get_running_loop()

    def slowly() -> Any:
        loop.call_soon_threadsafe(loading.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        return load()

    monkeypatch.setattr(agent_card, "_load", slowly)
    first = asyncio.ensure_future(told(nc, "registry.register", registration(CARD, instance_id="run-1")))
    await loading.wait()
    second = asyncio.ensure_future(told(nc, "registry.register", {**TRADER, "instance_id": "run-1"}))
    assert await found(nc) == []
    go_on.set()
    await asyncio.gather(first, second)
    assert (await agent(nc))["metadata"] == {}


async def test_discover_by_skill(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", registration(CARD, agent_id="both"))
    one = {**CARD, "skills": CARD["skills"][:1]}
    await told(nc, "registry.register", registration(one, agent_id="one", capabilities=["research"]))
    await told(nc, "registry.register", {**TRADER, "agent_id": "none"})
    assert await found(nc, skills=["spot-quote"]) == ["both", "one"]
    assert await found(nc, skills=["spot-quote", "Überblick 1"]) == ["both"]
    assert await found(nc, skills=["spot-quote"], capabilities=["research"]) == ["one"]
    assert await found(nc, skills=[]) == ["both", "none", "one"]
    for not_an_id in ("SPOT-QUOTE", "Spot", "prices", "spot"):
        assert await found(nc, skills=[not_an_id]) == [], "by ids alone, letter by letter"
    assert_error(await ask(nc, "registry.discover", {"skills": ["x" * 257]}), "invalid_request", "skills[0]")
    assert_error(await ask(nc, "registry.discover", {"skills": "spot-quote"}), "invalid_request", "skills")


async def test_near_misses_say_which_skill_is_missing(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", registration(CARD))
    listing = await told(nc, "registry.discover", {"skills": ["spot-quote", "hedge"], "explain": True})
    assert listing["near_misses"] == [{"agent_id": "trader-1", "reasons": ["skills lack hedge"]}]


async def test_skills_follow_the_registration(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", registration(CARD, instance_id="run-1"))
    await told(nc, "registry.register", registration(LEGACY, instance_id="run-1"))
    assert await found(nc, skills=["spot-quote"]) == []
    assert await found(nc, skills=["legacy-quote"]) == ["trader-1"]
    await told(nc, "registry.register", {**TRADER, "instance_id": "run-1"})
    assert await found(nc, skills=["legacy-quote"]) == []


async def test_skills_survive_a_restart(nats_server: NatsServer, nc: Client, start: Callable[..., Any]) -> None:
    """They are read from the bucket, also where the SDK was never loaded."""
    first = await start()
    await told(nc, "registry.register", registration(CARD))
    await first.stop()
    await start()
    assert await found(nc, skills=["Überblick 1"]) == ["trader-1"]


async def test_assign_by_skill(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", {**TRADER, "agent_id": "none"})
    await told(nc, "registry.register", registration(CARD))
    for _ in range(8):  # of the two, one would be chosen by chance with 2**-8
        grant = await told(nc, "registry.assign", {"skills": ["spot-quote"]})
        assert grant["agent"]["agent_id"] == "trader-1"
    assert_error(await ask(nc, "registry.assign", {"skills": ["hedge"]}), "unavailable")


async def test_a_card_of_16_kib_is_taken(registry: Replica, nc: Client) -> None:
    skill = {"id": "s", "name": "n", "description": "x" * 60, "tags": ["t"]}
    skills = [{**skill, "id": f"skill-{n}"} for n in range(120)]
    assert 14_000 < len(json.dumps({**CARD, "skills": skills})) < MAX_METADATA_BYTES
    await told(nc, "registry.register", registration({**CARD, "skills": skills}))
    assert await found(nc, skills=[f"skill-{n}" for n in range(60)]) == ["trader-1"]


async def test_another_card_is_an_update(registry: Replica, nc: Client) -> None:
    """And the same one again is none."""
    for card in (CARD, CARD, LEGACY):
        await told(nc, "registry.register", registration(card, instance_id="run-1"))
    events = await stored_events(nc, 2)
    assert [json.loads(msg.data)["reason"] for msg in events] == ["registered", "updated"]


async def test_with_the_sdk_and_in_process(nats_server: NatsServer) -> None:
    """Both check cards as the wire does, and know `skills`."""
    bus = CommunicationBus(nats_server.url)
    await bus.start()
    local = AgentRegistry(bus)
    await local.start()
    async with RegistryClient(nats_server.url) as client:
        for registry in (local, client):
            await registry.register_agent(registration(CARD))
            with pytest.raises(ValueError, match=r"metadata.a2a_card.skills: is required"):
                await registry.register_agent(registration({**CARD, "skills": []}))
            (trader,) = await registry.discover_agents(ServiceQuery(skills={"spot-quote"}))
            assert trader.skills == {"spot-quote", "Überblick 1"}
            assert await registry.discover_agents(ServiceQuery(skills={"hedge"})) == []
            assert await registry.deregister_agent("trader-1")
    await local.stop()
    await bus.stop()
