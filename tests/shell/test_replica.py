"""A replica's parts: each that was started is stopped, whichever did not start, and has ended then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from registry.replica import Replica
from registry.settings import Settings
from registry.shell.bucket_log import BucketLog
from registry.shell.bus_nats import Bus
from registry.shell.connections import Connections
from registry.shell.election import Election
from registry.shell.embedded import NatsServer
from registry.shell.micro import MicroService
from registry.shell.pulse import Pulse
from registry.shell.routes import Routes
from registry.shell.store import Store
from registry.shell.tail import Tail
from tests.conftest import Start, eventually
from tests.contract.wire import TRADER, decoded, told, until_status

PARTS = [
    (Bus, "connect"), (Store, "open"), (BucketLog, "start"), (Tail, "start"), (Pulse, "start"), (Election, "start"),
    (Election, "_set"), (Routes, "start"), (MicroService, "start"), (Connections, "start"), (Bus, "request"),
]  # fmt: skip


def tasks_since(before: set[asyncio.Task[Any]]) -> list[str]:
    """What runs now and did not before."""
    return [repr(task) for task in asyncio.all_tasks() - before]


async def holder(nc: Client) -> str:
    """Who holds the lease; nobody when there never was one."""
    try:
        entry = await nc.jetstream().get_last_msg("KV_registry_control", "$KV.registry_control.leader")
    except NotFoundError:
        return ""
    return str(decoded(entry.data)["replica"])


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part[0].__name__}.{part[1]}")
@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_a_start_that_does_not_succeed_leaves_nothing_behind(
    nats_server: NatsServer, nc: Client, monkeypatch: pytest.MonkeyPatch, part: tuple[type, str], how: str
) -> None:
    """No task, no connection, no lease; and the next one starts as ever."""
    reached = asyncio.Event()
    cls, name = part
    whole = getattr(cls, name)

    async def begun(self: object, *args: Any) -> None:
        """Do it, and then fail: what has begun by then is there."""
        if not reached.is_set():
            await whole(self, *args)
            reached.set()
            if how == "fails":
                raise ZeroDivisionError("a defect")
            await asyncio.Event().wait()
        await whole(self, *args)

    await nc.jetstream().account_info()  # from its first request on a client has a task for the answers
    before = asyncio.all_tasks()
    replica = Replica(Settings(), nats_server.url)
    with monkeypatch.context() as broken:
        broken.setattr(cls, name, begun)
        starting = asyncio.ensure_future(replica.start())
        await asyncio.wait_for(reached.wait(), 10.0)
        if how == "is cancelled":
            starting.cancel()
        with pytest.raises(ZeroDivisionError if how == "fails" else asyncio.CancelledError):
            await starting
    assert replica.bus.client.is_closed
    await replica.stop()  # as whoever started it may do
    await eventually(lambda: not tasks_since(before))
    assert await holder(nc) == ""
    second = Replica(Settings(), nats_server.url)
    await second.start()
    assert second.state.leading
    await told(nc, "registry.register", TRADER)
    await second.stop()
    await eventually(lambda: not tasks_since(before))


async def test_a_part_that_does_not_stop_keeps_none_of_the_others(
    nats_server: NatsServer, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await nc.jetstream().account_info()
    before = asyncio.all_tasks()
    replica = Replica(Settings(), nats_server.url)

    async def fails(_: Routes) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(Routes, "stop", fails)
    await replica.start()
    with pytest.raises(ZeroDivisionError):
        await replica.stop()
    await eventually(lambda: not tasks_since(before))
    assert await holder(nc) == ""


async def test_a_lease_that_is_being_renewed_is_handed_over(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal moves the revision on which that is done."""
    leader = await start()
    put, renewing, go_on = leader.election._put, asyncio.Event(), asyncio.Event()

    async def renew(epoch: int, expected: int) -> int | None:
        renewed = await put(epoch, expected)
        renewing.set()
        await go_on.wait()
        return renewed

    monkeypatch.setattr(leader.election, "_put", renew)
    leader.election.doubt()
    await asyncio.wait_for(renewing.wait(), 5.0)
    stopping = asyncio.ensure_future(leader.election.stop())
    asyncio.get_running_loop().call_soon(go_on.set)
    await stopping
    assert await holder(nc) == ""


async def test_a_leader_in_doubt_decides_nothing(start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves all the same: agents are found, and answered, and commands are carried out."""
    leader = await start()
    await told(nc, "registry.register", TRADER)
    with monkeypatch.context() as doubtful:
        doubtful.setattr(leader.election, "holds", lambda: False)
        await eventually(lambda: not leader.state.sure)
        assert (await told(nc, "registry.heartbeat.trader-1", {"health_score": 0.1}))["status"] == "active"
        await eventually(lambda: "trader-1" in leader.state.unassessed)
        assert not leader.state.writes
        await told(nc, "registry.register", {**TRADER, "agent_id": "trader-2"})
    await until_status(nc, "suspended")
