"""Assignments in the SDK: asked for, used, given back, lost."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from agents_sdk import (
    Agent,
    AgentCallError,
    AssignmentLost,
    ForbiddenError,
    InvalidRequestError,
    NotBegunError,
    NotFoundError,
    RegistryClient,
    ServiceQuery,
    UnavailableError,
    assigned_work,
)
from agents_sdk.protocol.topics import ASSIGNMENT_HEADER, TOKEN_HEADER
from registry.replica import Replica
from registry.shell.embedded import NatsServer
from tests.conftest import Start, eventually

WORKER = {"agent_id": "worker-1", "agent_type": "worker", "capabilities": ["trading"], "max_concurrency": 1}
TRADING = ServiceQuery(capabilities={"trading"})


async def test_it_is_released_at_its_end(client: RegistryClient) -> None:
    await client.register(WORKER)
    async with await client.assign(TRADING, task_id="one") as assignment:
        assert (assignment.agent.agent_id, assignment.task_id, assignment.slots) == ("worker-1", "one", 1)
        assert assignment.expires_at - assignment.assigned_at == pytest.approx(60.0, abs=0.01)
        listing = await client.assignments(agent_id="worker-1")
        [listed] = listing.assignments
        assert (listed.assignment_id, listed.fencing_token) == (assignment.assignment_id, assignment.fencing_token)
        with pytest.raises(UnavailableError, match="1 agent matches, 1 without a free slot"):
            await client.assign(TRADING)
    assert (await client.assignments()).total == 0
    assert await assignment.release() is False
    assert await client.release("never") is False


async def test_it_is_released_when_its_work_fails(client: RegistryClient) -> None:
    await client.register(WORKER)
    with pytest.raises(ZeroDivisionError):
        async with await client.assign(TRADING):
            raise ZeroDivisionError
    assert (await client.assignments()).total == 0


async def test_what_is_wrong_is_said(client: RegistryClient) -> None:
    await client.register(WORKER)
    for wrong in ({"slots": 0}, {"slots": 2}, {"ttl": 0.5}, {"wait": 61.0}, {"task_id": ""}):
        with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
            await client.assign(TRADING, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="limit"):
        await client.assign(ServiceQuery(limit=1))


async def test_the_agent_is_told_which_assignment_a_call_is_for(client: RegistryClient, nc: Client) -> None:
    await client.register(WORKER)
    heard: list[dict[str, str]] = []

    async def answer(msg: Msg) -> None:
        heard.append(msg.headers or {})
        await msg.respond(b'{"price": 42}')

    await nc.subscribe("agent.worker-1.quote", cb=answer)
    await nc.flush()
    async with await client.assign(TRADING) as assignment:
        assert await assignment.call("quote", {"symbol": "BTC"}) == {"price": 42}
        assert heard[0][ASSIGNMENT_HEADER] == assignment.assignment_id
        assert heard[0][TOKEN_HEADER] == str(assignment.fencing_token)
        with pytest.raises(NotBegunError, match="nobody listens"):
            await assignment.call("order")


async def test_an_error_of_the_agent(client: RegistryClient, nats_server: NatsServer) -> None:
    agent = Agent("worker", ["trading"], nats=nats_server.url)

    @agent.handle("fail")
    async def fail(_: Any) -> None:
        raise ZeroDivisionError

    async with agent, await client.assign(TRADING) as assignment:
        with pytest.raises(AgentCallError, match="ZeroDivisionError"):
            await assignment.call("fail")


async def test_an_agent_that_has_too_much_to_do_has_not_begun(client: RegistryClient, nats_server: NatsServer) -> None:
    agent, begun, go_on = Agent("worker", ["trading"], nats=nats_server.url, max_concurrency=1), [], asyncio.Event()

    @agent.handle("work")
    async def work(_: Any) -> None:
        begun.append(1)
        await go_on.wait()

    async with agent, await client.assign(TRADING) as assignment:
        first = asyncio.ensure_future(assignment.call("work"))
        await eventually(lambda: len(begun) == 1)
        with pytest.raises(NotBegunError, match="is doing 1 requests already"):
            await assignment.call("work")
        go_on.set()
        await first
    assert len(begun) == 1


async def test_a_handler_knows_its_assignment(client: RegistryClient, nats_server: NatsServer, nc: Client) -> None:
    agent = Agent("worker", ["trading"], nats=nats_server.url)

    @agent.handle("work")
    async def work(_: Any) -> dict[str, Any]:
        found = assigned_work()
        return {} if found is None else {"id": found.assignment_id, "token": found.fencing_token}

    async with agent, await client.assign(TRADING) as assignment:
        expected = {"id": assignment.assignment_id, "token": assignment.fencing_token}
        assert await assignment.call("work") == expected
        assert await client.call("trading", "work") == {}
        subject = f"agent.{agent.agent_id}.work"
        odd = await nc.request(subject, b"{}", headers={ASSIGNMENT_HEADER: "a", TOKEN_HEADER: "many"})
        assert odd.data == b'{"id":"a","token":null}'


async def test_the_agent_s_own_report(client: RegistryClient, nats_server: NatsServer) -> None:
    async with (
        Agent("worker", ["trading"], nats=nats_server.url) as one,
        Agent("w", ["research"], nats=nats_server.url) as two,
    ):
        assignment = await client.assign(TRADING)
        with pytest.raises(ForbiddenError):
            await two.release(assignment.assignment_id)
        assert await one.release(assignment.assignment_id) is True
        assert await one.release(assignment.assignment_id) is False


async def test_who_waits_goes_on_waiting_when_the_leader_is_gone(
    registry: Replica, start: Start, client: RegistryClient
) -> None:
    second = await start()
    await client.register(WORKER)
    taken = await client.assign(TRADING)
    waiting = asyncio.ensure_future(client.assign(TRADING, task_id="next", wait=40.0))
    await eventually(lambda: len(registry.state.waiters) == 1)
    await registry.stop()
    await eventually(lambda: len(second.state.waiters) == 1, within=15.0)
    await taken.release()
    assert (await waiting).task_id == "next"


@pytest.mark.parametrize("wait", [0.0, 0.3, 1.0])
async def test_that_nobody_was_free_is_final(client: RegistryClient, registry: Replica, wait: float) -> None:
    """It is said when the wait is over, and who registers then is given to nobody."""
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="no agent matches"):
        await client.assign(TRADING, wait=wait)
    assert time.monotonic() - started < wait + 1.0, "else it was asked again"
    assert registry.state.statistics.refused["unavailable"] == 1
    assert not len(registry.state.waiters)


async def test_what_is_left_of_the_wait_is_asked_for(
    registry: Replica, client: RegistryClient, nats_server: NatsServer, nc: Client
) -> None:
    """Also after silence: here of somebody who takes the first request and says nothing."""
    await registry.stop()
    heard = await nc.subscribe("registry.assign")
    await nc.flush()
    asking = asyncio.ensure_future(client.assign(TRADING, task_id="one", wait=1.0))
    first, second = [json.loads((await heard.next_msg(timeout=5.0)).data) for _ in range(2)]
    assert first["wait"] == 1.0
    assert second["wait"] == 0.0
    assert second["task_id"] == "one"
    asking.cancel()


async def test_who_cancels_gets_no_agent(client: RegistryClient, registry: Replica) -> None:
    waiting = asyncio.ensure_future(client.assign(TRADING, task_id="one", wait=30.0))
    await eventually(lambda: len(registry.state.waiters) == 1)
    waiting.cancel()
    await eventually(lambda: not len(registry.state.waiters))
    await client.register(WORKER)
    assert (await client.assign(TRADING, task_id="two")).agent.agent_id == "worker-1"


async def test_who_gives_up_says_so(client: RegistryClient, registry: Replica, nc: Client) -> None:
    await registry.stop()
    heard = await nc.subscribe("registry.release")
    await nc.flush()
    with pytest.raises(UnavailableError):
        await client.assign(TRADING, task_id="one")
    assert json.loads((await heard.next_msg(timeout=5.0)).data) == {"task_id": "one"}


async def test_a_closed_client_says_so_at_once(nats_server: NatsServer, registry: Replica) -> None:
    client = RegistryClient(nats_server.url)
    await client.connect()
    await client.close()
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="closed"):
        await client.assign(TRADING, wait=30.0)
    assert time.monotonic() - started < 5.0


async def test_it_is_renewed(client: RegistryClient) -> None:
    await client.register(WORKER)
    assignment = await client.assign(TRADING, task_id="one", ttl=30.0)
    before, token = assignment.expires_at, assignment.fencing_token
    await assignment.renew()
    assert before < assignment.expires_at < before + 30.0
    await assignment.renew(300.0)
    assert assignment.expires_at > before + 200.0
    assert (await client.assignments()).assignments[0].expires_at == assignment.expires_at
    assert assignment.fencing_token == token
    with pytest.raises(InvalidRequestError, match="ttl"):
        await assignment.renew(0.5)
    await assignment.release()
    with pytest.raises(NotFoundError):
        await assignment.renew()
    await client.assign(TRADING, task_id="one")
    with pytest.raises(NotFoundError, match="is assigned anew"):
        await assignment.renew()


async def test_the_registry_is_told_of_who_does_not_answer(client: RegistryClient, nc: Client) -> None:
    await client.register({**WORKER, "agent_id": "worker-1"})
    told = await nc.subscribe("registry.report.worker-1")
    silent = await nc.subscribe("agent.worker-1.silent")
    await nc.flush()
    async with await client.assign(TRADING) as assignment:
        with pytest.raises(NotBegunError):
            await assignment.call("order")
        with pytest.raises(UnavailableError, match="it may have begun"):
            await assignment.call("silent", timeout=0.2)
    problems = [json.loads((await told.next_msg(timeout=5.0)).data)["problem"] for _ in range(2)]
    assert problems == ["order: nobody listens", "silent: no answer within 0.2 s"]
    await silent.unsubscribe()


async def test_an_agent_that_has_just_registered_is_given_a_moment_to_listen(
    client: RegistryClient, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes requests once it knows that the id is its own."""
    await client.register(WORKER)
    failures, request = [], client._connection.request

    async def answer(msg: Msg) -> None:
        await msg.respond(b"42")

    async def listen_late(*args: Any) -> Msg:
        try:
            return await request(*args)
        except NoRespondersError:
            failures.append(args)
            await nc.subscribe("agent.worker-1.quote", cb=answer)
            await nc.flush()
            raise

    async with await client.assign(TRADING) as assignment:
        monkeypatch.setattr(client._connection, "request", listen_late)
        assert await assignment.call("quote") == 42
        assert len(failures) == 1


async def test_losses_are_events(client: RegistryClient) -> None:
    await client.register(WORKER)
    events = client.events("assignment")
    reading = asyncio.ensure_future(anext(events))
    assignment = await client.assign(TRADING, ttl=1.0)
    event = await asyncio.wait_for(reading, 10.0)
    assert isinstance(event, AssignmentLost)
    assert (event.assignment_id, event.reason) == (assignment.assignment_id, "expired")
    await events.aclose()
