"""What an agent does while it serves: it is found, answers, beats, and says how loaded it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from agents_sdk import AgentCallError, AgentInfo, RegistryClient, ServiceQuery
from agents_sdk.protocol.subjects import agent_topic
from tests.agents.conftest import Start, becomes, status
from tests.conftest import eventually
from tests.contract.test_micro import Identity, Info, Stats

pytestmark = pytest.mark.timeout(180)
"""The first test waits for npm, which asks the network, and a compiler."""

ANY_LOAD = ServiceQuery(max_load_factor=1.0)


async def ask(nc: Client, topic: str, request: Any = None, agent_id: str = "a") -> tuple[Any, int]:
    """Return an agent's answer and the number of the error, 0 if it is none."""
    payload = request if isinstance(request, bytes) else json.dumps(request or {}).encode()
    reply = await nc.request(agent_topic(agent_id, topic), payload, timeout=10)
    return json.loads(reply.data), int((reply.headers or {}).get("Nats-Service-Error-Code", 0))


async def known(client: RegistryClient) -> AgentInfo:
    agent = await client.get_agent_info("a")
    assert agent is not None
    return agent


class Held:
    """A request that an agent works on until `finish`."""

    def __init__(self, client: RegistryClient, folder: Path, name: str = "held", topic: str = "hold") -> None:
        self.begun, self._until = folder / f"{name}-begun", folder / f"{name}-until"
        request = {"begun": str(self.begun), "until": str(self._until)}
        call = client.call("trading", topic, request, timeout=30, query=ANY_LOAD, at_most_once=True)
        self.answer = asyncio.create_task(call)

    async def works(self) -> None:
        await eventually(self.begun.exists)

    def finish(self) -> None:
        self._until.touch()


async def test_it_is_found_with_what_it_says_of_itself(client: RegistryClient, run: Start) -> None:
    process = run(
        capabilities=["Trading", "research"],
        tags=["fast"],
        metadata={"exchange": {"name": "x"}},
        version="2.1.0",
        max_concurrency=7,
        claims=["account-1"],
        heartbeat_interval=0.5,
        heartbeat_timeout=5.0,
    )
    await process.serving()
    (agent,) = await client.discover_agents(ServiceQuery(capabilities={"trading", "research"}, tags={"fast"}))
    assert (agent.agent_id, agent.agent_type, agent.version) == ("a", "test_agent", "2.1.0")
    assert (agent.metadata, agent.claims, agent.max_concurrency) == ({"exchange": {"name": "x"}}, {"account-1"}, 7)
    assert (agent.heartbeat_interval, agent.heartbeat_timeout) == (0.5, 5.0)
    assert agent.health_subject == "agent.a.health_check"
    assert agent.instance_id
    assert (
        "a serves echo, hold, block, refuse, fail, work, release, report, registered as incarnation 1" in process.stderr
    )


async def test_it_answers(client: RegistryClient, nc: Client, run: Start) -> None:
    await run().serving()
    request = {"text": "Grüße", "n": [1, 2.5, None, True], "deep": {"x": {}}}
    assert await client.call("trading", "echo", request) == request
    assert await ask(nc, "echo", b"") == ({}, 0)


async def test_what_is_wrong_is_told_as_an_error(client: RegistryClient, nc: Client, run: Start) -> None:
    process = run()
    await process.serving()
    answer, number = await ask(nc, "refuse")
    assert number == 400
    assert answer["error"]["code"] == "invalid_request"
    assert answer["error"]["message"] == "symbol: no price of DOGE is known"
    answer, number = await ask(nc, "fail")
    assert (number, answer["error"]["code"], answer["error"]["retryable"]) == (500, "internal", False)
    assert answer["error"]["message"] in ("KeyError in handler 'fail' of a", "RangeError in handler 'fail' of a")
    assert "secret" in process.stderr, "the rest is in its log"
    for payload, begins in [
        (b"not JSON", "payload: is not JSON: "),
        (b"\xff", "payload: is not JSON: "),
        (b"[1]", "payload: must be a JSON object; is an array"),
        (b"null", "payload: must be a JSON object; is null"),
        (b'{"x":' + b"[" * 70 + b"]" * 70 + b"}", "x: must nest at most 64 levels; nests 70"),
    ]:
        answer, number = await ask(nc, "echo", payload)
        assert number == 400
        assert answer["error"]["message"].startswith(begins)
    with pytest.raises(AgentCallError) as raised:
        await client.call("trading", "refuse")
    assert (raised.value.agent_id, raised.value.status) == ("a", 400)


async def test_it_beats_and_tells_how_it_does(client: RegistryClient, run: Start) -> None:
    await run(heartbeat_interval=0.2).serving()
    first = (await known(client)).last_heartbeat
    for _ in range(4):
        await client.call("trading", "echo", {})
    with pytest.raises(AgentCallError):
        await client.call("trading", "fail", {})

    async def has_told() -> bool:
        agent = await known(client)
        metrics = agent.performance_metrics
        return agent.last_heartbeat > first and metrics.get("requests_served") == 5.0 and "success_rate" in metrics

    await eventually(has_told)
    metrics = (await known(client)).performance_metrics
    assert metrics["avg_response_time"] < 5
    assert metrics["uptime"] == pytest.approx(100, abs=1)
    assert metrics["work_loop_lag"] >= 0


async def test_it_answers_health_checks(client: RegistryClient, nc: Client, run: Start) -> None:
    await run().serving()
    answer, number = await ask(nc, "health_check")
    agent = await known(client)
    assert number == 0
    assert (answer["status"], answer["health_score"], answer["load_factor"], answer["in_flight"]) == ("ok", 1.0, 0.0, 0)
    assert (answer["instance_id"], answer["incarnation"]) == (agent.instance_id, 1)
    report = await client.report_agent("a", "is it there?")
    assert (report.verdict, report.probed) == ("alive", True)


async def test_its_load_moves_with_its_work(client: RegistryClient, run: Start, tmp_path: Path) -> None:
    """It beats every half minute, but tells at once what has changed much."""
    await run(max_concurrency=4).serving()
    held = [Held(client, tmp_path, str(n)) for n in range(2)]
    for each in held:
        await each.works()

    async def loaded(by: float) -> bool:
        return (await known(client)).load_factor == by

    await eventually(lambda: loaded(0.5))
    for each in held:
        each.finish()
        assert await each.answer == "done"
    await eventually(lambda: loaded(0.0))


async def test_it_reports_what_it_knows_better(client: RegistryClient, nc: Client, run: Start) -> None:
    await run().serving()
    await client.call("trading", "report", {"load_factor": 0.4, "health_score": 0.9, "metrics": {"queue_depth": 3}})

    async def is_known() -> bool:
        agent = await known(client)
        told = (agent.load_factor, agent.health_score, agent.performance_metrics.get("queue_depth"))
        return told == (0.4, 0.9, 3.0)

    await eventually(is_known)
    answer, number = await ask(nc, "report", {"metrics": {"success_rate": 98}})
    assert number == 400
    assert answer["error"]["message"].startswith("metrics.success_rate: must be at most 1; got 98")


async def test_its_own_health_is_told(client: RegistryClient, nc: Client, run: Start, tmp_path: Path) -> None:
    health = tmp_path / "health"
    health.write_text("0.6")
    await run(heartbeat_interval=0.2, health=str(health)).serving()
    await becomes(client, "degraded")
    assert (await ask(nc, "health_check"))[0]["health_score"] == 0.6
    health.write_text("0.9")
    await becomes(client, "active")
    health.write_text("7")
    await becomes(client, "suspended")


async def test_full_it_sends_callers_elsewhere(client: RegistryClient, nc: Client, run: Start, tmp_path: Path) -> None:
    await run(max_concurrency=1).serving()
    held = Held(client, tmp_path)
    await held.works()
    answer, number = await ask(nc, "echo")
    assert (number, answer["error"]["code"], answer["error"]["retryable"]) == (429, "overloaded", True)
    assert answer["error"]["message"] == "a is doing 1 requests already"
    await run("b").serving()
    assert await client.call("trading", "echo", {"x": 1}, query=ANY_LOAD) == {"x": 1}
    held.finish()
    assert await held.answer == "done"


async def test_a_handler_that_blocks_makes_it_busy_and_not_dead(
    client: RegistryClient, nc: Client, run: Start, tmp_path: Path
) -> None:
    await run(heartbeat_interval=0.2, heartbeat_timeout=0.6).serving()
    held = Held(client, tmp_path, topic="block")

    async def counts_as_full() -> bool:
        return (await known(client)).load_factor == 1.0

    await eventually(counts_as_full)
    answer, _ = await ask(nc, "health_check")
    assert (answer["status"], answer["load_factor"]) == ("busy", 1.0)
    assert answer["work_loop_lag"] >= 1.0, "longer than its whole lease"
    assert await status(client) == ("active", "registered")
    held.finish()
    assert await held.answer == "done"

    async def is_idle() -> bool:
        return (await known(client)).load_factor == 0.0

    await eventually(is_idle)


async def test_it_is_a_micro_service(client: RegistryClient, nc: Client, run: Start) -> None:
    await run(version="1.2.3").serving()
    await client.call("trading", "echo", {})
    with pytest.raises(AgentCallError):
        await client.call("trading", "fail", {})
    metadata = {"agent_id": "a", "agent_type": "test_agent", "agent_version": "1.2.3"}

    async def srv(subject: str) -> bytes:
        return (await nc.request(f"$SRV.{subject}", b"", timeout=5)).data

    ping = Identity.model_validate_json(await srv("PING.test_agent"))
    assert (ping.type, ping.name, ping.version) == ("io.nats.micro.v1.ping_response", "test_agent", "1.2.3")
    assert (ping.id, ping.metadata) == ((await known(client)).instance_id, metadata)
    info = Info.model_validate_json(await srv("INFO.test_agent"))
    assert (info.id, info.metadata, info.description) == (ping.id, metadata, "Agent a")
    assert {each.name: each.subject for each in info.endpoints}["echo"] == "agent.a.echo"

    async def are_counted() -> bool:
        stats = Stats.model_validate_json(await srv(f"STATS.test_agent.{ping.id}"))
        counts = {each.name: (each.num_requests, each.num_errors, each.last_error) for each in stats.endpoints}
        requests, errors, last = counts["fail"]
        said = last.startswith("500:") and last.endswith(" in handler 'fail' of a")
        return counts["echo"] == (1, 0, "") and (requests, errors) == (1, 1) and said

    await eventually(are_counted)


async def test_a_canary_is_answered_and_is_no_work(client: RegistryClient, run: Start) -> None:
    canary = {"payload": {"ok": True}, "expect": {"ok": True}, "period": 1.0}
    await run(heartbeat_interval=0.2, canary=canary).serving()
    agent = await known(client)
    assert agent.canaries == {"trading": {"topic": "echo", "timeout": 2.0, **canary}}

    async def has_run() -> bool:
        return (await client.statistics()).canaries_run >= 1

    await eventually(has_run)
    assert (await client.statistics()).canaries_failed == 0
    assert (await known(client)).performance_metrics.get("requests_served", 0) == 0
    reply = await client._connection.request("agent.a.work", b"{}", 5.0, {"Registry-Canary": "1"})
    assert json.loads(reply.data) == {"canary": True, "assigned": None}
    assert await client.call("trading", "work") == {"canary": False, "assigned": None}


async def test_it_knows_what_it_was_assigned_for(client: RegistryClient, run: Start) -> None:
    await run(max_concurrency=2).serving()
    assignment = await client.assign(ServiceQuery(capabilities={"trading"}), task_id="order-7")
    named = [assignment.assignment_id, assignment.fencing_token]
    assert await assignment.call("work") == {"canary": False, "assigned": named}
    assert await assignment.call("release", {"assignment_id": assignment.assignment_id}) is True
    assert (await client.assignments()).total == 0
    assert await client.call("trading", "release", {"assignment_id": assignment.assignment_id}) is False
