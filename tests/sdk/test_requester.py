"""The one policy of repeating requests, against responders that misbehave on purpose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agents_sdk import RegistryClient, ServiceQuery
from agents_sdk.connection import Connection
from agents_sdk.dial import Address
from agents_sdk.protocol.codec import encode, parse
from agents_sdk.protocol.errors import (
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RegistryError,
    UnavailableError,
)
from agents_sdk.protocol.subjects import DISCOVER, GET, PERFORMANCE, SCALING_GET, STATS, SUSPEND, Subjects
from agents_sdk.requester import Requester
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.sdk.outage import Server, settle

PRESENCE = {
    "replica": "r1", "leader": False, "leader_epoch": 0, "revision": 1, "registered_agents": 0, "uptime": 1.0,
    "version": "1.0.0",
}  # fmt: skip


class Registry:
    """Answers with what the test says, in order; the last answer stays. None stays silent."""

    def __init__(self, nc: Client, *answers: RegistryError | dict | None) -> None:
        self.nc = nc
        self.answers = list(answers)
        self.requests: list[Msg] = []

    async def answer(self, msg: Msg) -> None:
        self.requests.append(msg)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, RegistryError):
            await self.nc.publish(msg.reply, encode(answer.to_body()), headers=answer.to_headers())
        elif answer is not None:
            await self.nc.publish(msg.reply, encode(answer))

    async def serve(self) -> Registry:
        await self.nc.subscribe("registry.>", cb=self.answer)
        await settle(self.nc)
        return self


@pytest.fixture
async def requester(nats_server: NatsServer) -> AsyncIterator[Requester]:
    connection = Connection(Address((nats_server.url,)))
    await connection.open()
    yield Requester(connection, Subjects(), 1.0)
    await connection.close()


async def test_an_answer_is_returned(requester: Requester, nc: Client) -> None:
    registry = await Registry(nc, {"uptime": 1.0}).serve()
    assert await requester.ask(STATS, {}) == {"uptime": 1.0}
    assert registry.requests[0].subject == "registry.stats"


async def test_what_names_an_agent_is_asked_on_its_own_subject(requester: Requester, nc: Client) -> None:
    registry = await Registry(nc, {}).serve()
    await requester.ask(GET, {"agent_id": "trader-1"})
    await requester.ask(GET, {"agent_id": "not.an.id"})
    await requester.ask(DISCOVER, {"agent_id": "trader-1"})
    subjects = [msg.subject for msg in registry.requests]
    assert subjects == ["registry.get.trader-1", "registry.get", "registry.discover"]


@pytest.mark.parametrize(
    "error", [NotFoundError("no such agent"), ForbiddenError("not yours"), InvalidRequestError("x")]
)
async def test_a_refusal_is_raised_and_not_repeated(requester: Requester, nc: Client, error: RegistryError) -> None:
    registry = await Registry(nc, error).serve()
    with pytest.raises(type(error), match=error.message):
        await requester.ask(STATS, {})
    assert len(registry.requests) == 1


@pytest.mark.parametrize("error", [OverloadedError("full"), UnavailableError("no leader")])
async def test_an_error_that_may_pass_is_waited_out(requester: Requester, nc: Client, error: RegistryError) -> None:
    registry = await Registry(nc, error, error, {"done": True}).serve()
    assert await requester.ask(STATS, {}, idempotent=False) == {"done": True}
    assert len(registry.requests) == 3


async def test_an_error_that_does_not_pass_ends_in_time(requester: Requester, nc: Client) -> None:
    registry = await Registry(nc, OverloadedError("full")).serve()
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"'stats' was put off for 1 s: full"):
        await requester.ask(STATS, {})
    assert time.monotonic() - started < 2.0
    assert 2 < len(registry.requests) < 60, "waits are 20 to 500 ms"


async def test_a_registry_that_comes_late_is_found(requester: Requester, nc: Client) -> None:
    asking = asyncio.create_task(requester.ask(STATS, {}, within=10.0))
    await asyncio.sleep(0)
    await Registry(nc, {"done": True}).serve()
    assert await asking == {"done": True}


async def test_no_registry_is_said_clearly(requester: Requester) -> None:
    with pytest.raises(UnavailableError, match="no registry serves 'stats' now"):
        await requester.ask(STATS, {}, within=2.0)


async def test_who_has_a_plan_of_its_own_hears_of_each_failure(requester: Requester, nc: Client) -> None:
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="no registry"):
        await requester.ask(STATS, {}, within=10.0, repeat=False)
    assert time.monotonic() - started < 5.0
    registry = await Registry(nc, OverloadedError("full")).serve()
    with pytest.raises(UnavailableError, match="full"):
        await requester.ask(STATS, {}, within=10.0, repeat=False)
    assert len(registry.requests) == 1


async def test_silence_is_asked_again_if_that_does_no_harm(requester: Requester, nc: Client) -> None:
    registry = await Registry(nc, None, {"done": True}).serve()
    assert await requester.ask(SCALING_GET, {}, within=0.4) == {"done": True}
    assert len(registry.requests) == 2


async def test_silence_is_not_asked_again_if_it_might(requester: Requester, nc: Client) -> None:
    registry = await Registry(nc, None, {"done": True}).serve()
    with pytest.raises(UnavailableError, match="whether it was done is unknown"):
        await requester.ask(PERFORMANCE, {}, within=0.4, idempotent=False)
    assert len(registry.requests) == 1


async def test_after_silence_a_replica_is_asked_that_says_it_is_there(requester: Requester, nc: Client) -> None:
    """NATS goes on choosing a replica that stands still, so chance alone would not find another one."""
    registry = await Registry(nc, None, PRESENCE, {"done": True}).serve()
    assert await requester.ask(SUSPEND, {"agent_id": "trader-1"}, within=0.8) == {"done": True}
    subjects = [msg.subject for msg in registry.requests]
    assert subjects == ["registry.suspend.trader-1", "registry.replicas", "registry.replica.r1.suspend.trader-1"]
    first, _, again = [(msg.headers or {}).get("Nats-Msg-Id") for msg in registry.requests]
    assert first
    assert first == again, "it is the same command"


async def test_an_answer_that_a_lost_connection_takes_along_is_not_waited_for(server: Server) -> None:
    """Who can ask again does so as soon as NATS is back, not when his patience is over."""
    await server.start()
    connection = Connection(Address((server.url,)))
    await connection.open()
    nc = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    registry = await Registry(nc, None, {"done": True}).serve()
    asking = asyncio.create_task(Requester(connection, Subjects(), 60.0).ask(SUSPEND, {"agent_id": "trader-1"}))
    await eventually(lambda: len(registry.requests) == 1)
    await server.kill()
    await server.start()
    assert await asyncio.wait_for(asking, 15.0) == {"done": True}
    names = {(msg.headers or {}).get("Nats-Msg-Id") for msg in registry.requests}
    assert len(names) == 1, "it is the same command"
    await nc.close()
    await connection.close()


@pytest.mark.parametrize("turns", range(6))
async def test_closing_in_the_instant_in_which_a_lost_connection_ends_a_request_is_no_trouble(
    requester: Requester, nc: Client, turns: int, caplog
) -> None:
    """It is told twice that the connection is gone, and its waiting can be ended once."""
    registry = await Registry(nc, None).serve()
    connection = requester._connection
    asking = asyncio.create_task(requester.ask(STATS, {}, within=30.0))
    await eventually(lambda: len(registry.requests) == 1)
    connection._link._tell(connected=False)
    for _ in range(turns):
        await asyncio.sleep(0)
    await connection.close()
    with pytest.raises(UnavailableError, match="is closed"):
        await asyncio.wait_for(asking, 10.0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_when_no_replica_says_that_it_is_there_nats_chooses_again(requester: Requester, nc: Client) -> None:
    registry = await Registry(nc, None, None, {"done": True}).serve()
    assert await requester.ask(STATS, {}, within=1.0) == {"done": True}
    assert [msg.subject for msg in registry.requests] == ["registry.stats", "registry.replicas", "registry.stats"]


async def test_each_command_has_a_name_of_its_own_and_queries_have_none(requester: Requester, nc: Client) -> None:
    registry = await Registry(nc, {}).serve()
    for operation in (SUSPEND, SUSPEND, STATS):
        await requester.ask(operation, {"agent_id": "trader-1"})
    names = [(msg.headers or {}).get("Nats-Msg-Id") for msg in registry.requests]
    assert len(set(names)) == 3
    assert names[2] is None


async def test_silence_ends_in_time(requester: Requester, nc: Client) -> None:
    await Registry(nc, None).serve()
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no answer to 'stats' within 0.4 s"):
        await requester.ask(STATS, {}, within=0.4)
    assert time.monotonic() - started < 2.0


async def test_an_answer_that_the_registry_holds_back_is_heard(client: RegistryClient, nats_server: NatsServer) -> None:
    """It waits for a second before it says that it does not know a revision yet; half of the time is not more."""
    async with RegistryClient(nats_server.url, timeout=2.0) as hurried:
        with pytest.raises(UnavailableError, match=r"^min_revision: 1000000 is not known here yet, \d+ is; try again$"):
            await hurried.discover(ServiceQuery(min_revision=1_000_000))


async def test_after_such_a_wait_in_vain_there_is_time_for_another_replica(requester: Requester, nc: Client) -> None:
    registry = await Registry(nc, None, PRESENCE, {"done": True}).serve()
    assert await requester.ask(DISCOVER, {"min_revision": 7}, within=2.0) == {"done": True}
    subjects = [msg.subject for msg in registry.requests]
    assert subjects == ["registry.discover", "registry.replicas", "registry.replica.r1.discover"]


async def test_silence_after_an_answer_is_no_news_of_a_query(requester: Requester, nc: Client) -> None:
    await Registry(nc, UnavailableError("not yet"), None).serve()
    with pytest.raises(UnavailableError, match=r"^not yet$"):
        await requester.ask(DISCOVER, {}, within=0.4)


async def test_silence_after_being_put_off_is_said_of_a_command(requester: Requester, nc: Client) -> None:
    """It may have been carried out the second time, without a word."""
    await Registry(nc, OverloadedError("full"), None).serve()
    with pytest.raises(UnavailableError, match="whether it was done is unknown"):
        await requester.ask(SUSPEND, {"agent_id": "trader-1"}, within=0.4)


async def test_sets_travel_as_sorted_arrays_and_what_is_no_json_is_refused(requester: Requester, nc: Client) -> None:
    registry = await Registry(nc, {}).serve()
    await requester.ask(STATS, {"tags": {"b", "a"}})
    assert parse(registry.requests[0].data) == {"tags": ["a", "b"]}
    for bad in (object(), {1, "a"}):
        with pytest.raises(InvalidRequestError, match="must be JSON"):
            await requester.ask(STATS, {"metadata": bad})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"health_score": float("nan")}, "health_score"),
        ({"heartbeat_interval": float("inf")}, "heartbeat_interval"),
        ({"metadata": {"limits": [1.0, {"high": float("-inf")}]}}, "metadata.limits[1].high"),
    ],
)
async def test_a_number_that_json_has_no_form_for_is_refused(
    requester: Requester, nc: Client, fields: dict[str, Any], named: str
) -> None:
    registry = await Registry(nc, {}).serve()
    with pytest.raises(InvalidRequestError, match="must be a finite number") as raised:
        await requester.ask(STATS, fields)
    assert raised.value.details[0].field == named
    assert registry.requests == []


async def test_while_nats_is_away_it_is_waited_for(requester: Requester, nats_server: NatsServer) -> None:
    await nats_server.stop()
    await eventually(lambda: not requester._connection.is_connected)
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="no connection to NATS"):
        await requester.ask(STATS, {}, within=1.2)
    assert time.monotonic() - started > 0.5


async def test_a_connection_that_was_closed_is_not_waited_for(requester: Requester) -> None:
    await requester._connection.close()
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="is closed"):
        await requester.ask(STATS, {}, within=30.0)
    assert time.monotonic() - started < 10.0
