"""Canaries, with agents that have no SDK: what is sent, what counts as a fail, and what becomes of who fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agents_sdk.protocol.errors import InternalError, InvalidRequestError, OverloadedError
from registry.core.effects import RunCanary
from registry.core.events import CanaryFinished
from registry.replica import Replica
from registry.settings import Settings
from registry.shell import canary
from registry.shell.bus_nats import Bus
from tests.conftest import Start, eventually
from tests.contract.wire import (
    TRADER,
    agent,
    answering,
    ask,
    listening,
    moves,
    settle,
    stats,
    stored_events,
    told,
    until_status,
)

CANARY = {"topic": "quote", "payload": {"symbol": "BTC"}, "expect": {"ok": True}, "timeout": 0.5, "period": 1.0}
CHECKED = {**TRADER, "heartbeat_interval": 600.0, "canaries": {"trading": CANARY}}

GOOD = {"ok": True, "price": 42.0}


@pytest.fixture
def settings() -> Settings:
    return Settings(reconnect_grace=0.0, health_check_interval=0.2)


@asynccontextmanager
async def replying(
    nc: Client, subject: str, payload: bytes, headers: dict[str, str] | None = None
) -> AsyncIterator[None]:
    """Answer every request on a subject alike."""

    async def respond(msg: Msg) -> None:
        await nc.publish(msg.reply, payload, headers=headers)

    subscription = await nc.subscribe(subject, cb=respond)
    await settle(nc)
    yield
    await subscription.unsubscribe()


async def test_what_is_sent_and_shown(registry: Replica, nc: Client) -> None:
    """The declared payload, with a header that tells it from real work; the agent is shown with its canaries."""
    async with listening(nc, "agent.trader-1.quote") as sent:
        await told(nc, "registry.register", {**CHECKED, "canaries": {"TRADING": {"topic": "quote", "period": 1}}})
        msg = await sent.next()
    assert msg.headers == {"Registry-Canary": "1"}
    assert orjson.loads(msg.data) == {}
    declared = {"topic": "quote", "payload": {}, "expect": {}, "timeout": 2.0, "period": 1.0}
    assert (await agent(nc))["canaries"] == {"trading": declared}
    [found] = (await told(nc, "registry.discover"))["agents"]
    assert found["canaries"] == {"trading": declared}


async def test_who_beats_but_does_not_work_is_degraded_until_he_does(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", CHECKED)
    async with answering(nc, "agent.trader-1.quote", {"ok": False}):
        seen = await until_status(nc, "degraded")
        assert seen["status_reason"] == "canary"
        [failure] = registry.state.canaries.failing("trader-1").values()
        assert failure.why == '"ok" is false, not true'
        assert seen["evidence"]["verdict"] == "alive"
        assert seen["evidence"]["failing_canaries"] == {"trading": {"since": failure.since, "why": failure.why}}
        assert (await told(nc, "registry.discover"))["total"] == 1, "it is found still"
    async with answering(nc, "agent.trader-1.quote", GOOD):
        assert (await until_status(nc, "active"))["status_reason"] == "recovered"
    assert moves(await stored_events(nc, 3)) == [
        ("registering", "active", "registered"),
        ("active", "degraded", "canary"),
        ("degraded", "active", "recovered"),
    ]
    counts = await stats(nc)
    assert counts["canaries_run"] > counts["canaries_failed"] >= 2
    assert counts["requests_refused"] == {}


async def test_every_kind_of_fail(registry: Replica, nc: Client) -> None:
    """Nobody listening, while health checks are answered, among them: that agent is there."""
    error = InternalError("broken")
    answers: dict[str, tuple[bytes, dict[str, str] | None]] = {
        "differs": (b'{"ok":1}', None),
        "lacks": (b"{}", None),
        "array": (b"[true]", None),
        "text": (b"pong", None),
        "error": (orjson.dumps({**error.to_body(), "ok": True}), error.to_headers()),
        "large": (b'{"ok":true,"more":"%b"}' % (b"x" * 256 * 1024), None),
    }
    async with AsyncExitStack() as stack:
        for agent_id, answer in answers.items():
            await stack.enter_async_context(replying(nc, f"agent.{agent_id}.quote", *answer))
        await stack.enter_async_context(listening(nc, "agent.silent.quote"))
        await stack.enter_async_context(answering(nc, "agent.*.health_check", {"health_score": 1.0}))
        await stack.enter_async_context(answering(nc, "agent.good.quote", GOOD))
        failing = [*answers, "silent", "nobody"]
        for agent_id in (*failing, "good"):
            subject = f"agent.{agent_id}.health_check"
            await told(nc, "registry.register", {**CHECKED, "agent_id": agent_id, "health_subject": subject})
        for agent_id in failing:
            assert (await until_status(nc, "degraded", agent_id))["status_reason"] == "canary", agent_id
        assert (await agent(nc, "good"))["status"] == "active"
        why = {agent_id: registry.state.canaries.failing(agent_id)["trading"].why for agent_id in failing}
        assert why["differs"] == '"ok" is 1, not true'
        assert why["lacks"] == '"ok" is not in the answer'
        assert why["array"] == "the answer is no object: [true]"
        assert why["text"] == "the answer is not JSON"
        assert why["error"] == "the answer is error 500: broken"
        assert why["large"].startswith("the answer has 262")
        assert why["silent"].startswith("no answer on agent.silent.quote within 0.5")
        assert why["nobody"] == "nobody listens on agent.nobody.quote"
        statuses = (await stats(nc))["status_distribution"]
    assert statuses == {"active": 1, "degraded": len(failing)}


async def test_who_has_all_the_work_he_takes_is_not_blamed(registry: Replica, nc: Client) -> None:
    busy = OverloadedError("busy")
    async with replying(nc, "agent.trader-1.quote", orjson.dumps(busy.to_body()), busy.to_headers()):
        finished = await canary.run(registry.bus, order())
    assert finished.passed is None


def order(expect: Any = None) -> RunCanary:
    return RunCanary("trader-1", 1, "trading", 1, "agent.trader-1.quote", {}, expect or {}, 1.0)


@pytest.mark.parametrize("payload", [b"", b"{}", b"null", b"[1]", b'"pong"'])
async def test_without_expectations_any_answer_will_do(registry: Replica, nc: Client, payload: bytes) -> None:
    async with replying(nc, "agent.trader-1.quote", payload):
        assert (await canary.run(registry.bus, order())).passed is True


async def test_but_no_error(registry: Replica, nc: Client) -> None:
    error = InvalidRequestError("symbol: is required")
    async with replying(nc, "agent.trader-1.quote", b"{}", error.to_headers()):
        finished = await canary.run(registry.bus, order())
    assert (finished.passed, finished.why) == (False, "the answer is error 400: symbol: is required")


async def test_a_defect_of_the_registry_is_nothing(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told to the log, and the canary is run again."""
    finished: list[CanaryFinished] = []
    decide = registry._decide

    def decided(event: Any) -> Any:
        if isinstance(event, CanaryFinished):
            finished.append(event)
        return decide(event)

    monkeypatch.setattr(registry, "_decide", decided)
    monkeypatch.setattr("registry.shell.canary.difference", lambda *_: 1 / 0)
    monkeypatch.setattr("registry.core.canary_runs.UNJUDGED", 0.05)
    async with answering(nc, "agent.trader-1.quote", GOOD):
        await told(nc, "registry.register", CHECKED)
        await eventually(lambda: len(finished) >= 3)
    assert {event.passed for event in finished} == {None}
    assert (await agent(nc))["status"] == "active"
    assert (await stats(nc))["canaries_run"] == 0


async def test_no_answer_while_nats_is_away_is_nothing(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(Bus, "request", lost)
    monkeypatch.setattr(Bus, "connected", property(lambda _: False))
    assert (await canary.run(registry.bus, order())).passed is None


async def test_another_leader_goes_on(start: Start, nc: Client) -> None:
    """Who fails is so for the next leader until it passes."""
    first = await start()
    await told(nc, "registry.register", CHECKED)
    await until_status(nc, "degraded")
    second = await start()
    await first.stop()
    await eventually(lambda: second.state.leading)
    assert set(second.state.canaries.failing("trader-1")) == {"trading"}
    assert (await agent(nc))["status_reason"] == "canary"
    async with answering(nc, "agent.trader-1.quote", GOOD):
        assert (await until_status(nc, "active"))["status_reason"] == "recovered"
    assert [reason for *_, reason in moves(await stored_events(nc, 3))] == ["registered", "canary", "recovered"]


async def test_a_registration_without_canaries_is_stored_without(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    await told(nc, "registry.register", {**CHECKED, "agent_id": "trader-2"})
    bucket = await nc.jetstream().key_value("registry_agents")
    assert "canaries" not in orjson.loads((await bucket.get("trader-1")).value or b"")
    assert orjson.loads((await bucket.get("trader-2")).value or b"")["canaries"] == {"trading": CANARY}
    assert (await agent(nc))["canaries"] == {}


async def test_an_error_says_which_capabilities_there_are(registry: Replica, nc: Client) -> None:
    answer = await ask(nc, "registry.register", {**CHECKED, "canaries": {"research": CANARY}})
    assert answer.body["error"]["message"] == (
        "canaries: must be for capabilities that the agent registers, trading; got 'research'"
    )
