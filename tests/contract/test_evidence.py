"""What a status rests on, seen from outside: hints lead to probes, probes to verdicts, and `get` shows all of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from registry.replica import Replica
from registry.settings import Settings
from tests.conftest import Start, eventually
from tests.contract.wire import (
    TRADER,
    agent,
    answering,
    ask,
    listening,
    moves,
    payloads,
    settle,
    stats,
    told,
)

SUBJECT = "agent.trader-1.health_check"
PROBED = {**TRADER, "health_subject": SUBJECT}


@pytest.fixture
def settings() -> Settings:
    """Nobody is asked in turn while a test lasts: what is found is found because of hints."""
    return Settings(health_check_interval=600.0, probe_timeout=0.2, reconnect_grace=0.0)


async def evidence(nc: Client) -> dict[str, Any]:
    found: dict[str, Any] = (await agent(nc))["evidence"]
    return found


async def test_a_report_of_an_agent_that_is_gone_is_all_it_takes(registry: Replica, nc: Client) -> None:
    async with listening(nc, "registry.events.status.offline.>") as live:
        await told(nc, "registry.register", PROBED)
        answer = await told(nc, "registry.report.trader-1", {"problem": "no responders"})
        assert (answer["probed"], answer["status"]) == (True, "active")
        assert moves([await live.next(2.0)]) == [("active", "offline", "no_responders")]
    found = await evidence(nc)
    assert (found["verdict"], found["probes_missed"], found["problem"]) == ("gone", 2, "no responders")


async def test_a_report_of_an_agent_that_answers_does_it_no_harm(registry: Replica, nc: Client) -> None:
    async with answering(nc, SUBJECT, {"health_score": 0.9}) as probes:
        await told(nc, "registry.register", PROBED)
        for _ in range(5):
            await told(nc, "registry.report", {"agent_id": "trader-1", "problem": "does what it likes"})
        await probes.next()
        await settle(nc)
        assert probes.empty(), "many reports within a second are one probe"
    found = await evidence(nc)
    assert (found["verdict"], found["probe_outcome"], found["reports"]) == ("alive", "answered", 5)
    assert found["probe_took"] < 0.2
    assert (await agent(nc))["status"] == "active"


async def test_a_late_beat_leads_to_a_probe(registry: Replica, nc: Client) -> None:
    """A crash is known an interval and a half after the last beat, and not when the lease ends."""
    async with listening(nc, "registry.events.status.offline.>") as live:
        await told(nc, "registry.register", {**PROBED, "heartbeat_interval": 0.4, "heartbeat_timeout": 600.0})
        assert moves([await live.next(3.0)]) == [("active", "offline", "no_responders")]


async def test_an_answer_that_is_late_is_slow_and_no_answer_is_hung(registry: Replica, nc: Client) -> None:
    """0.2 s is in time, 0.2 s more is slow; a beat says that it is there, and nothing of whether it answers."""
    wait = 0.3

    async def respond(msg: Msg) -> None:
        await asyncio.sleep(wait)
        await nc.publish(msg.reply, b"")

    await nc.subscribe(SUBJECT, cb=respond)
    async with listening(nc, "registry.events.status.>") as live:
        await told(nc, "registry.register", PROBED)
        await live.next()
        await told(nc, "registry.report.trader-1", {"problem": "late"})
        assert moves([await live.next(3.0)]) == [("active", "degraded", "slow")]
        assert (await evidence(nc))["verdict"] == "slow"
        wait = 1.2
        await eventually_probed(nc)
        assert moves([await live.next(3.0)]) == [("degraded", "degraded", "probe_timeout")]
        await told(nc, "registry.heartbeat.trader-1", {"health_score": 1.0})
        found = await evidence(nc)
        assert (found["verdict"], found["probe_outcome"]) == ("hung", "timeout")
        wait = 0.0

        async def recovered() -> bool:
            await told(nc, "registry.report.trader-1", {"problem": "is it better?"})
            return bool((await agent(nc))["status_reason"] == "recovered")

        await eventually(recovered)


async def eventually_probed(nc: Client) -> None:
    """Report a problem until the agent is asked because of it: it is once a second."""

    async def probed() -> bool:
        return bool((await told(nc, "registry.report.trader-1", {"problem": "late"}))["probed"])

    await eventually(probed)


async def test_busy_is_told_from_hung(registry: Replica, nc: Client) -> None:
    async with listening(nc, SUBJECT), listening(nc, "registry.events.status.degraded.>") as live:
        receipt = await told(nc, "registry.register", PROBED)
        await told(nc, "registry.heartbeat.trader-1", {"busy_until": receipt["registered_at"] + 60.0})
        await told(nc, "registry.report.trader-1", {"problem": "no answer"})
        assert moves([await live.next(3.0)]) == [("active", "degraded", "busy")]
    found = await evidence(nc)
    assert (found["verdict"], found["busy_until"]) == ("busy", pytest.approx(receipt["registered_at"] + 60.0, abs=0.01))


async def test_whichever_replica_is_asked_it_shows_what_the_leader_found(
    registry: Replica, start: Start, nc: Client
) -> None:
    other = await start()
    async with answering(nc, SUBJECT, {}):
        await told(nc, "registry.register", PROBED)
        await eventually_probed(nc)

        async def answered() -> bool:
            return (await evidence(nc))["probe_outcome"] == "answered"

        await eventually(answered)
        shown = [await agent(nc) for _ in range(20)]
        assert {one["evidence"]["judged_by"] for one in shown} == {registry.replica_id}
        assert {one["evidence"]["probe_outcome"] for one in shown} == {"answered"}
        own = await told(nc, f"registry.replica.{other.replica_id}.get.trader-1")
        assert (own["evidence"]["judged_by"], own["evidence"]["probe_outcome"]) == (other.replica_id, None)
        assert (await ask(nc, "registry.get.nobody")).code == "not_found"


async def test_a_crowd_that_falls_silent_is_held_back_and_said_so(registry: Replica, nc: Client) -> None:
    """Twelve agents stop to beat together: nobody goes, statistics and an event say why, a beat ends it."""
    ids = [f"crowd-{number}" for number in range(12)]

    async def beat() -> None:
        for agent_id in ids:
            await nc.publish(f"registry.heartbeat.{agent_id}", b"")

    on_subject, off_subject = ("registry.events.registry.protection_" + each for each in ("on", "off"))
    async with listening(nc, on_subject) as begun, listening(nc, off_subject) as ended:
        for agent_id in ids:
            crowd = {**TRADER, "agent_id": agent_id, "heartbeat_interval": 0.3, "heartbeat_timeout": 0.9}
            await told(nc, "registry.register", crowd)
        await beat()
        (on,) = payloads([await begun.next(5.0)])
        assert (on["what"], on["cause"], on["live_agents"]) == ("protection_on", "silence", 12)
        assert on["late_agents"] > 12 * 0.3
        assert set((await stats(nc))["protection"]) == {"silence"}

        async def partitioned() -> bool:
            verdicts = [(await agent(nc, agent_id))["evidence"]["verdict"] for agent_id in ids]
            return verdicts == ["partitioned"] * 12

        await eventually(partitioned)
        assert (await stats(nc))["status_distribution"] == {"active": 12}
        await beat()
        (off,) = payloads([await ended.next(5.0)])
        assert (off["what"], off["cause"]) == ("protection_off", "silence")
    assert (await stats(nc))["protection"] == {}


async def test_a_follower_takes_nothing_back_that_it_has_shown(registry: Replica, start: Start, nc: Client) -> None:
    """Whichever replica is asked: who was deregistered is gone, from the revision of that on."""
    other = await start()
    for _ in range(20):
        await told(nc, "registry.register", TRADER)
        gone = await told(nc, f"registry.replica.{other.replica_id}.deregister.trader-1")
        answer = await ask(nc, "registry.get.trader-1", {"min_revision": gone["revision"]})
        assert answer.code == "not_found"
