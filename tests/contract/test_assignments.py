"""Assignments on the wire: who gets which slots, who may give them back, how they end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from nats.aio.client import Client

from agents_sdk.protocol.assignments import AssignmentListing
from registry.replica import Replica
from tests.conftest import Start, eventually
from tests.contract.wire import Answer, ask, assert_error, told

AGENT = {"agent_id": "worker-1", "agent_type": "worker", "capabilities": ["trading"], "max_concurrency": 2}
TRADING = {"capabilities": ["trading"]}


async def register(nc: Client, agent_id: str = "worker-1", **fields: Any) -> dict[str, Any]:
    return await told(nc, "registry.register", {**AGENT, "agent_id": agent_id, **fields})


async def assign(nc: Client, **fields: Any) -> dict[str, Any]:
    return await told(nc, "registry.assign", {**TRADING, **fields}, within=10.0)


async def live(nc: Client, **fields: Any) -> list[str]:
    listing = await told(nc, "registry.assignments", fields)
    return [each["assignment_id"] for each in listing["assignments"]]


async def test_slots_are_given_until_there_are_none(registry: Replica, nc: Client) -> None:
    await register(nc)
    first, second = await assign(nc), await assign(nc)
    assert first["agent"]["agent_id"] == second["agent"]["agent_id"] == "worker-1"
    assert second["fencing_token"] > first["fencing_token"]
    assert first["assignment_id"] != second["assignment_id"]
    nobody = await ask(nc, "registry.assign", TRADING)
    assert_error(nobody, "unavailable")
    assert "1 agent matches, 1 without a free slot" in nobody.body["error"]["message"]
    agent = await told(nc, "registry.get", {"agent_id": "worker-1"})
    assert (agent["reserved"], agent["load_factor"]) == (2, 0.0)
    assert (await told(nc, "registry.discover", TRADING))["total"] == 0, "it is as loaded as can be"
    assert await told(nc, "registry.release", {"assignment_id": first["assignment_id"]}) == {
        "assignment_id": first["assignment_id"], "released": True,
    }  # fmt: skip
    third = await assign(nc)
    assert third["fencing_token"] > second["fencing_token"]
    assert await live(nc) == [second["assignment_id"], third["assignment_id"]]


async def test_many_callers_at_once(registry: Replica, nc: Client) -> None:
    """Each slot has one winner."""
    for number in range(4):
        await register(nc, f"worker-{number}", max_concurrency=5)
    answers = await asyncio.gather(*(ask(nc, "registry.assign", TRADING, within=10.0) for _ in range(60)))
    won = [answer.body for answer in answers if answer.code is None]
    assert len(won) == 20
    assert len({each["fencing_token"] for each in won}) == 20
    agents = [each["agent"]["agent_id"] for each in won]
    assert all(agents.count(f"worker-{number}") == 5 for number in range(4))
    registry.state.validate()


async def test_who_waits_is_served_in_turn(registry: Replica, nc: Client) -> None:
    await register(nc, max_concurrency=1)
    taken = await assign(nc)
    served: list[int] = []

    async def wait(number: int) -> None:
        won = await assign(nc, wait=30.0)
        served.append(number)
        await told(nc, "registry.release", {"assignment_id": won["assignment_id"]})

    waiting = []
    for number in range(3):
        waiting.append(asyncio.ensure_future(wait(number)))
        await eventually(lambda number=number: len(registry.state.waiters) == number + 1)
    assert_error(await ask(nc, "registry.assign", TRADING), "unavailable")
    await told(nc, "registry.release", {"assignment_id": taken["assignment_id"]})
    await asyncio.gather(*waiting)
    assert served == [0, 1, 2]


async def test_who_waited_long_enough_is_told_why(registry: Replica, nc: Client) -> None:
    nobody = await ask(nc, "registry.assign", {**TRADING, "wait": 0.2})
    assert_error(nobody, "unavailable")
    assert "no agent matches" in nobody.body["error"]["message"]
    assert nobody.body["error"]["details"] == [{"field": "wait", "message": "nobody was free in 0.2 s"}]


async def test_a_new_agent_is_given_to_who_waits(registry: Replica, nc: Client) -> None:
    waiting = asyncio.ensure_future(assign(nc, wait=30.0))
    await eventually(lambda: len(registry.state.waiters) == 1)
    await register(nc)
    assert (await waiting)["agent"]["agent_id"] == "worker-1"


async def test_the_same_task_has_one_assignment(registry: Replica, nc: Client) -> None:
    await register(nc)
    first = await assign(nc, task_id="order 7", ttl=30.0)
    others = await asyncio.gather(*(assign(nc, task_id="order 7", slots=2, ttl=5.0) for _ in range(5)))
    for other in others:
        assert (other["assignment_id"], other["fencing_token"], other["expires_at"]) == (
            first["assignment_id"], first["fencing_token"], first["expires_at"],
        )  # fmt: skip
    await told(nc, "registry.release", {"assignment_id": first["assignment_id"]})
    again = await assign(nc, task_id="order 7")
    assert again["assignment_id"] != first["assignment_id"]
    assert again["fencing_token"] > first["fencing_token"]


async def test_a_renewal_is_durable(registry: Replica, nc: Client) -> None:
    await register(nc)
    first = await assign(nc, task_id="order 7", ttl=30.0)
    renewed = await assign(nc, task_id="order 7", ttl=300.0, renew=True)
    assert renewed["assignment_id"] == first["assignment_id"]
    assert renewed["fencing_token"] == first["fencing_token"]
    assert renewed["expires_at"] > first["expires_at"] + 200.0
    listing = await told(nc, "registry.assignments", {})
    assert [each["expires_at"] for each in listing["assignments"]] == [renewed["expires_at"]]
    assert_error(await ask(nc, "registry.assign", {"task_id": "none", "renew": True}), "not_found", "task_id")
    assert_error(await ask(nc, "registry.assign", {"renew": True}), "invalid_request", "task_id")


async def test_a_task_is_released(registry: Replica, nc: Client) -> None:
    await register(nc, max_concurrency=1)
    won = await assign(nc, task_id="one")
    waiting = asyncio.ensure_future(
        ask(nc, "registry.assign", {**TRADING, "task_id": "two", "wait": 30.0}, within=40.0)
    )
    await eventually(lambda: len(registry.state.waiters) == 1)
    released = await told(nc, "registry.release", {"task_id": "two"})
    assert released == {"assignment_id": None, "released": True}
    assert_error(await waiting, "unavailable")
    released = await told(nc, "registry.release", {"task_id": "one"})
    assert released == {"assignment_id": won["assignment_id"], "released": True}
    released = await told(nc, "registry.release", {"task_id": "one"})
    assert released == {"assignment_id": None, "released": False}
    for wrong in ({}, {"task_id": "one", "assignment_id": "two"}):
        assert_error(await ask(nc, "registry.release", wrong), "invalid_request", "assignment_id")


async def test_a_release_counts_once(registry: Replica, nc: Client) -> None:
    await register(nc)
    won = await assign(nc)
    asked = {"assignment_id": won["assignment_id"]}
    answers = await asyncio.gather(*(told(nc, "registry.release", asked) for _ in range(5)))
    assert [answer["released"] for answer in answers].count(True) == 1
    assert (await told(nc, "registry.release", asked))["released"] is False
    assert (await told(nc, "registry.release", {"assignment_id": "never"}))["released"] is False


async def test_an_agent_reports_that_its_own_work_is_done(registry: Replica, nc: Client) -> None:
    await register(nc)
    won = await assign(nc)
    asked = {"assignment_id": won["assignment_id"]}
    assert_error(await ask(nc, "registry.release.another", asked), "forbidden", "assignment_id")
    assert (await told(nc, "registry.release.worker-1", asked))["released"] is True


async def test_more_slots_than_any_agent_has(registry: Replica, nc: Client) -> None:
    await register(nc)
    await register(nc, "worker-2", max_concurrency=4)
    answer = await ask(nc, "registry.assign", {**TRADING, "slots": 5})
    assert_error(answer, "invalid_request", "slots")
    assert "at most 4" in answer.body["error"]["message"]
    assert (await assign(nc, slots=4))["agent"]["agent_id"] == "worker-2"


async def test_without_a_limit_there_is_none(registry: Replica, nc: Client) -> None:
    await register(nc, max_concurrency=None)
    won = [await assign(nc, slots=7) for _ in range(4)]
    assert len({each["assignment_id"] for each in won}) == 4
    assert (await told(nc, "registry.get", {"agent_id": "worker-1"}))["reserved"] == 28


async def test_what_the_query_says_holds(registry: Replica, nc: Client) -> None:
    await register(nc, "old", version="1.0.0", tags=["cpu"])
    await register(nc, "new", version="2.0.0", tags=["gpu"], metadata={"site": "x"})
    assert (await assign(nc, version=">=2"))["agent"]["agent_id"] == "new"
    assert (await assign(nc, metadata={"site": "x"}))["agent"]["agent_id"] == "new"
    assert (await assign(nc, prefer_tags=["gpu"]))["agent"]["agent_id"] == "old", "who is preferred is full"
    assert (await assign(nc, exclude=["new"], tags=["cpu"]))["agent"]["agent_id"] == "old"
    assert_error(await ask(nc, "registry.assign", {"capabilities": ["juggling"]}), "invalid_request", "capabilities")


async def losses(nc: Client) -> list[dict[str, Any]]:
    js, found = nc.jetstream(), []
    subscription = await js.subscribe("registry.events.assignment.>", ordered_consumer=True)
    info = await js.stream_info("REGISTRY_EVENTS", subjects_filter="registry.events.assignment.>")
    for _ in range(sum((info.state.subjects or {}).values())):
        msg = await subscription.next_msg(timeout=5.0)
        assert msg.headers["Nats-Msg-Id"] == json.loads(msg.data)["event_id"]
        found.append(json.loads(msg.data))
    await subscription.unsubscribe()
    return found


async def lost(nc: Client, count: int) -> list[dict[str, Any]]:
    async def there() -> bool:
        return len(await losses(nc)) >= count

    await eventually(there)
    return await losses(nc)


async def test_it_expires(registry: Replica, nc: Client) -> None:
    await register(nc)
    won = await assign(nc, ttl=1.0, task_id="slow")
    [event] = await lost(nc, 1)
    assert event["reason"] == "expired"
    assert event["what"] == "assignment_lost"
    for name in ("assignment_id", "task_id", "fencing_token", "slots"):
        assert event[name] == won[name]
    assert (event["agent_id"], event["incarnation"]) == ("worker-1", 1)
    assert event["at"] >= won["expires_at"]
    assert await live(nc) == []


async def test_it_ends_with_its_agent(registry: Replica, nc: Client) -> None:
    await register(nc)
    await register(nc, "worker-2", capabilities=["research"], heartbeat_interval=0.1, heartbeat_timeout=0.3)
    await assign(nc)
    await told(nc, "registry.assign", {"capabilities": ["research"]})
    [silent] = await lost(nc, 1)
    assert (silent["agent_id"], silent["reason"]) == ("worker-2", "heartbeat_timeout")
    await told(nc, "registry.deregister", {"agent_id": "worker-1"})
    [_, gone] = await lost(nc, 2)
    assert (gone["agent_id"], gone["reason"]) == ("worker-1", "deregistered")


async def test_it_ends_when_another_instance_takes_over(registry: Replica, nc: Client) -> None:
    await register(nc, instance_id="one")
    won = await assign(nc)
    await register(nc, instance_id="two", takeover=True)
    [event] = await lost(nc, 1)
    assert (event["assignment_id"], event["reason"], event["incarnation"]) == (won["assignment_id"], "takeover", 1)
    agent = await told(nc, "registry.get", {"agent_id": "worker-1"})
    assert (agent["incarnation"], agent["reserved"]) == (2, 0)


@pytest.mark.parametrize("verb", ["suspend", "drain"])
async def test_who_takes_no_new_work_keeps_what_it_has(registry: Replica, nc: Client, verb: str) -> None:
    await register(nc)
    won = await assign(nc)
    await told(nc, f"registry.{verb}", {"agent_id": "worker-1"})
    assert_error(await ask(nc, "registry.assign", TRADING), "unavailable")
    assert await live(nc) == [won["assignment_id"]]
    assert (await told(nc, "registry.release", {"assignment_id": won["assignment_id"]}))["released"] is True


async def test_a_report_after_the_release_is_not_needed(registry: Replica, nc: Client) -> None:
    """What was reported while a slot was reserved counts that slot; once it is free, so is the agent."""
    await register(nc, max_concurrency=1)
    won = await assign(nc)
    await told(nc, "registry.heartbeat", {"agent_id": "worker-1", "load_factor": 1.0})
    await told(nc, "registry.release", {"assignment_id": won["assignment_id"]})
    assert (await assign(nc))["agent"]["agent_id"] == "worker-1"


async def test_who_says_that_it_is_full_gets_nothing(registry: Replica, nc: Client) -> None:
    await register(nc)
    await told(nc, "registry.heartbeat", {"agent_id": "worker-1", "load_factor": 1.0})
    answer = await ask(nc, "registry.assign", TRADING)
    assert_error(answer, "unavailable")


async def test_listing(registry: Replica, nc: Client) -> None:
    await register(nc, max_concurrency=10)
    won = [await assign(nc, task_id=f"task-{number}") for number in range(3)]
    listing = AssignmentListing.model_validate(await told(nc, "registry.assignments", {"limit": 2}))
    assert (len(listing.assignments), listing.total) == (2, 3)
    assert await live(nc, task_id="task-1") == [won[1]["assignment_id"]]
    assert await live(nc, agent_id="nobody") == []


async def test_another_leader_knows_all(registry: Replica, start: Start, nc: Client) -> None:
    await register(nc)
    first = await assign(nc, task_id="one", ttl=6.0)
    second = await start()
    await registry.stop()
    await eventually(lambda: second.state.leading and second.state.sure)
    again = await assign(nc, task_id="one")
    assert (again["assignment_id"], again["fencing_token"]) == (first["assignment_id"], first["fencing_token"])
    other = await assign(nc, task_id="two")
    assert other["fencing_token"] > first["fencing_token"]
    assert_error(await ask(nc, "registry.assign", TRADING), "unavailable")
    [event] = await lost(nc, 1)
    assert (event["assignment_id"], event["reason"]) == (first["assignment_id"], "expired")


async def test_removed_by_hand(registry: Replica, nc: Client) -> None:
    await register(nc)
    won = await assign(nc)
    bucket = await nc.jetstream().key_value("registry_assignments")
    await bucket.delete(won["assignment_id"])
    await eventually(lambda: not registry.state.ledger.live)
    assert (await told(nc, "registry.get", {"agent_id": "worker-1"}))["reserved"] == 0
    answer: Answer = await ask(nc, "registry.assign", TRADING)
    assert answer.code is None, answer.body


async def test_a_bucket_that_was_lost(registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made anew, and what was in it is forgotten: the slots are free again."""
    monkeypatch.setattr("registry.shell.missing.PATIENCE", 0.5)
    await register(nc, max_concurrency=1)
    await assign(nc)
    await nc.jetstream().delete_stream("KV_registry_assignments")
    await eventually(lambda: not registry.state.ledger.live, within=20.0)
    again = await assign(nc, wait=20.0)
    assert again["fencing_token"] == 1
    registry.state.validate()


async def test_what_is_no_assignment_does_no_harm(registry: Replica, nc: Client) -> None:
    await register(nc)
    bucket = await nc.jetstream().key_value("registry_assignments")
    for number, value in enumerate((b"nonsense", b"[]", b'{"v": 1}', b'{"assignment_id": 7}')):
        await bucket.put(f"key-{number}", value)
    assert (await assign(nc))["agent"]["agent_id"] == "worker-1"
