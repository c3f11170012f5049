"""One holder for each id, one holder for each claim: who comes second is judged by evidence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client

from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.contract.wire import (
    TRADER,
    Answer,
    agent,
    answering,
    ask,
    assert_error,
    listening,
    moves,
    stats,
    stored_events,
    told,
)

FIRST = {**TRADER, "instance_id": "run-1", "health_subject": "agent.trader-1.health_check"}
SECOND = {**FIRST, "instance_id": "run-2"}
ANY = {"agent_type": "trading_agent", "capabilities": ["trading"]}


@pytest.fixture
def settings() -> Settings:
    return Settings(probe_timeout=0.2, reconnect_grace=0.0)


async def test_the_same_instance_registers_as_often_as_it_likes(registry: Replica, nc: Client) -> None:
    receipt = await told(nc, "registry.register", FIRST)
    assert await told(nc, "registry.register", FIRST) == receipt
    changed = await told(nc, "registry.register", {**FIRST, "version": "1.1.0"})
    assert changed["incarnation"] == 1
    assert changed["revision"] > receipt["revision"]
    assert changed["registered_at"] == receipt["registered_at"]
    assert moves(await stored_events(nc, 2))[1:] == [("active", "active", "updated")]


async def test_a_change_of_registration_keeps_status_and_vitals(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", FIRST)
    await told(nc, "registry.suspend.trader-1")
    await told(nc, "registry.heartbeat.trader-1", {"load_factor": 0.4})
    receipt = await told(nc, "registry.register", {**FIRST, "tags": ["eu"]})
    assert receipt["status"] == "suspended"
    seen = await agent(nc)
    assert (seen["status_reason"], seen["load_factor"], seen["tags"]) == ("operator", 0.4, ["eu"])


async def test_without_an_instance_id_the_second_is_another(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    assert_error(await ask(nc, "registry.register", TRADER), "already_registered", "agent_id")


async def test_a_holder_that_answers_keeps_the_id(registry: Replica, nc: Client) -> None:
    async with answering(nc, "agent.trader-1.health_check", {}) as probes:
        await told(nc, "registry.register", FIRST)
        assert_error(await ask(nc, "registry.register", SECOND), "already_registered", "agent_id")
        assert not probes.empty()
    assert (await agent(nc))["instance_id"] == "run-1"


async def test_a_holder_that_hangs_keeps_the_id(registry: Replica, nc: Client) -> None:
    """It may come back; only what is provably gone is replaced."""
    async with listening(nc, "agent.trader-1.health_check"):
        await told(nc, "registry.register", FIRST)
        assert_error(await ask(nc, "registry.register", SECOND), "already_registered", "agent_id")


async def test_a_holder_that_is_gone_is_replaced_at_once(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", FIRST)
    await told(nc, "registry.heartbeat.trader-1", {"load_factor": 0.7, "health_score": 0.9, "seq": 7})
    receipt = await told(nc, "registry.register", SECOND)
    assert (receipt["status"], receipt["incarnation"]) == ("active", 2)
    seen = await agent(nc)
    assert seen["instance_id"] == "run-2"
    assert (seen["health_score"], seen["load_factor"], seen["load_age"]) == (1.0, 0.0, None)
    assert moves(await stored_events(nc, 2))[-1] == ("active", "active", "takeover")
    await told(nc, "registry.heartbeat.trader-1", {"incarnation": 2, "seq": 1, "load_factor": 0.1})
    assert (await agent(nc))["load_factor"] == 0.1, "the new one counts its beats from the start"


async def test_takeover_fences_the_old_one(registry: Replica, nc: Client) -> None:
    async with answering(nc, "agent.trader-1.health_check", {}) as probes:
        await told(nc, "registry.register", FIRST)
        receipt = await told(nc, "registry.register", {**SECOND, "takeover": True})
        assert receipt["incarnation"] == 2
        assert probes.empty(), "nobody is asked"
    for operation, more in (("heartbeat", {}), ("health", {"health_score": 0.1}), ("performance", {"metrics": {}})):
        answer = await ask(nc, f"registry.{operation}.trader-1", {"incarnation": 1, **more})
        assert_error(answer, "stale_incarnation", "incarnation")
    assert (await agent(nc))["health_score"] == 1.0
    assert (await stats(nc))["heartbeats_dropped"] == 3


async def test_takeover_of_nobody_is_a_registration(registry: Replica, nc: Client) -> None:
    assert (await told(nc, "registry.register", {**SECOND, "takeover": True}))["incarnation"] == 1


async def test_an_operator_s_suspend_outlives_a_takeover(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", FIRST)
    await told(nc, "registry.suspend.trader-1", {"reason": "lunch"})
    receipt = await told(nc, "registry.register", {**SECOND, "takeover": True})
    assert receipt["status"] == "suspended"
    seen = await agent(nc)
    assert (seen["status_reason"], seen["status_note"]) == ("operator", "lunch")


async def test_of_many_at_once_one_wins(registry: Replica, nc: Client) -> None:
    asked = [ask(nc, "registry.register", {**TRADER, "instance_id": f"run-{number}"}) for number in range(20)]
    answers: list[Answer] = await asyncio.gather(*asked)
    assert sorted(str(answer.code) for answer in answers) == ["None", *["already_registered"] * 19]
    (winner,) = [f"run-{number}" for number, answer in enumerate(answers) if answer.code is None]
    assert (await agent(nc))["instance_id"] == winner
    assert len(await stored_events(nc, 1)) == 1


async def test_a_claim_has_one_holder_until_it_is_given_up(registry: Replica, nc: Client) -> None:
    def wants(number: int, *claims: str) -> dict[str, Any]:
        return {**TRADER, "agent_id": f"trader-{number}", "instance_id": f"run-{number}", "claims": list(claims)}

    asked = [ask(nc, "registry.register", wants(number, "account-7")) for number in range(10)]
    answers = await asyncio.gather(*asked)
    assert sorted(str(answer.code) for answer in answers) == ["None", *["conflict"] * 9]
    (holder,) = [number for number, answer in enumerate(answers) if answer.code is None]
    other = (holder + 1) % 10
    assert_error(await ask(nc, "registry.register", wants(other, "account-7")), "conflict", "claims")
    await told(nc, "registry.register", wants(holder))  # registers again, without it
    await told(nc, "registry.register", wants(other, "account-7"))
    assert_error(await ask(nc, "registry.register", wants(holder, "account-7")), "conflict", "claims")
    await told(nc, f"registry.deregister.trader-{other}")
    await told(nc, "registry.register", wants(holder, "account-7"))
    assert (await agent(nc, f"trader-{holder}"))["claims"] == ["account-7"]


async def test_after_a_removal_an_old_instance_cannot_speak_for_the_new_one(registry: Replica, nc: Client) -> None:
    """An operator removes a live agent, another instance takes the id: the first one's beats are not the second's."""
    old = await told(nc, "registry.register", FIRST)
    await told(nc, "registry.deregister.trader-1")
    await told(nc, "registry.register", SECOND)
    answer = await ask(nc, "registry.heartbeat.trader-1", {"incarnation": old["incarnation"], "health_score": 0.6})
    assert_error(answer, "stale_incarnation", "incarnation")


async def test_two_replicas_grant_a_claim_once(nats_server: NatsServer, registry: Replica, nc: Client) -> None:
    """However close together it is asked for; who is refused is not registered."""
    other = Replica(Settings(), nats_server.url)
    await other.start()
    try:
        for number in range(20):
            asked = [
                ask(nc, f"registry.replica.{replica.replica_id}.register", {**ANY, "agent_id": name, "claims": ["db"]})
                for replica, name in ((registry, f"a-{number}"), (other, f"b-{number}"))
            ]
            answers = await asyncio.gather(*asked)
            assert sorted(str(answer.code) for answer in answers) == ["None", "conflict"]
            (holder,) = [answer.body["agent_id"] for answer in answers if answer.code is None]
            listing = await told(
                nc, "registry.discover", {"min_revision": (await told(nc, "registry.stats"))["revision"]}
            )
            assert [agent["agent_id"] for agent in listing["agents"]] == [holder]
            gone = await told(nc, f"registry.deregister.{holder}")
            await eventually(lambda gone=gone: registry.log.revision == other.log.revision >= gone["revision"])
    finally:
        await other.stop()
