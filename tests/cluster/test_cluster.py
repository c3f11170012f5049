"""`make cluster`: what it says, what becomes of it when something is taken away, what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agents_sdk import RegistryClient, UnavailableError
from bench.copies import leader_of
from deploy.cluster.nodes import NAMES
from registry.settings import Settings
from tests.cli.running import ROOT, environment, finished, is_alive, until
from tests.cluster.running import STREAMS, RunningCluster
from tests.conftest import eventually
from tests.contract.wire import ask, listening, payloads, settle, told, until_status

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, and only Linux ends children")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster that has everything again after each test."""
    with RunningCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def nc(cluster: RunningCluster) -> AsyncIterator[Client]:
    """A connection to any of its nodes."""
    client = await nats.connect(cluster.url.split(","), max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    yield client
    await client.close()


async def settled(nc: Client) -> str:
    """Wait until every stream has a leader and all copies; return the node that leads the bucket's."""

    async def complete() -> bool:
        return None not in [await leader_of(nc, stream) for stream in STREAMS]

    await eventually(complete, within=30.0)
    leader = await leader_of(nc, STREAMS[0])
    assert leader is not None
    return leader


@asynccontextmanager
async def load(url: str) -> AsyncIterator[dict[str, int]]:
    """Register agents as fast as a client can; yields the revisions of those that were acknowledged."""
    acknowledged: dict[str, int] = {}
    fleet, numbers, stop = secrets.token_hex(4), count(1), asyncio.Event()

    async def register(client: RegistryClient) -> None:
        while not stop.is_set():
            agent_id = f"agent-{fleet}-{next(numbers)}"
            registration = {"agent_id": agent_id, "agent_type": "trading_agent", "capabilities": ["trading"]}
            try:
                acknowledged[agent_id] = (await client.register(registration)).revision
            except UnavailableError:
                continue  # was promised nothing

    async with RegistryClient(url) as client:
        working = [asyncio.ensure_future(register(client)) for _ in range(16)]
        yield acknowledged
        stop.set()
        await asyncio.gather(*working)


async def knows_all(nc: Client, replica: str, acknowledged: dict[str, int]) -> bool:
    """Return whether a replica is as far as the newest agent; if so, it has to know all."""
    newest = {"min_revision": max(acknowledged.values())}
    for agent_id in acknowledged:
        answer = await ask(nc, f"registry.replica.{replica}.get.{agent_id}", newest)
        if answer.code == "unavailable":
            return False
        assert answer.body["status"] == "active"
    return True


async def test_everything_is_kept_three_times(cluster: RunningCluster, nc: Client) -> None:
    for stream in STREAMS:
        info = await nc.jetstream().stream_info(stream)
        assert info.config.num_replicas == 3
        assert {info.cluster.leader, *(each.name for each in info.cluster.replicas)} == set(NAMES)


async def test_connections_that_end_at_any_node_are_heard_of(cluster: RunningCluster, nc: Client) -> None:
    """Whichever node an agent was connected to, and whichever the leader is."""
    grace = Settings().reconnect_grace
    for replica in [one["replica"] for one in await everybody(nc)]:

        async def hears(subject: str = f"registry.replica.{replica}.stats") -> bool:
            said = await told(nc, subject)
            return said["connections_watched"] and said["uptime"] > 2 * grace

        await eventually(hears, within=60.0)
    for url in cluster.url.split(","):
        agent_id = f"agent-{url.rpartition(':')[2]}"
        subject = f"agent.{agent_id}.health_check"
        theirs = await nats.connect(url, name=f"agent:{agent_id}")

        async def answer(msg: Msg, agent: Client = theirs) -> None:
            await agent.publish(msg.reply, b"{}")  # who is asked just then and does not answer is taken to hang

        await theirs.subscribe(subject, cb=answer)
        await settle(theirs)
        registration = {"agent_type": "trader", "capabilities": ["trading"], "health_subject": subject}
        receipt = await told(theirs, f"registry.register.{agent_id}", registration)

        async def all_know(agent_id: str = agent_id, revision: int = receipt["revision"]) -> bool:
            known = [await ask(nc, f"registry.replica.{one['replica']}.get.{agent_id}") for one in await everybody(nc)]
            return all(answer.body.get("revision", 0) >= revision for answer in known)

        await eventually(all_know)  # the end of a connection says nothing of an agent that is not known yet
        await theirs.close()
        assert (await until_status(nc, "offline", agent_id))["status_reason"] == "no_responders"
        await told(nc, f"registry.deregister.{agent_id}")


async def everybody(nc: Client) -> list[dict[str, Any]]:
    """Return what each of the two replicas says of itself."""
    inbox = nc.new_inbox()
    async with listening(nc, inbox) as answers:
        await nc.publish("registry.replicas", reply=inbox)
        return payloads(await answers.take(2))


async def test_the_doctor_is_content_and_sees_that_writes_are_on_disk(cluster: RunningCluster, nc: Client) -> None:
    await settled(nc)
    found = finished("doctor", "--nats", cluster.url, "--json")
    assert found.returncode == 0, found.stdout
    acknowledgement = json.loads(found.stdout)["acknowledgement"]
    assert (acknowledgement["copies"], acknowledgement["on_disk_of"]) == (3, 2)


def test_it_says_where_everything_is_and_what_to_try(cluster: RunningCluster) -> None:
    until(lambda: "Ctrl-C" in cluster.stdout)
    assert f"export NATS_URL={cluster.url}" in cluster.stdout
    assert str(cluster.store) in cluster.stdout
    for pid in cluster.pids():
        assert f"pid {pid}" in cluster.stdout
    assert f"kill -USR1 {cluster.process.pid}" in cluster.stdout


@pytest.mark.parametrize("leads", ["the bucket", "the cluster", "neither"])
async def test_a_node_killed_under_load_takes_nothing_along(cluster: RunningCluster, nc: Client, leads: str) -> None:
    """Every registration that was acknowledged is known to both replicas."""
    leaders = {"the bucket": await settled(nc), "the cluster": cluster.leader()}
    victim = leaders.get(leads) or next(node for node in NAMES if node not in leaders.values())
    async with load(cluster.url) as acknowledged:
        await eventually(lambda: len(acknowledged) > 200)
        cluster.kill(victim)
        at_the_kill = len(acknowledged)
        await eventually(lambda: len(acknowledged) > at_the_kill + 200, within=20.0)
        cluster.start_again(victim)
    async with RegistryClient(nc) as client:
        replicas = [each.replica for each in await client.replicas()]
    assert len(replicas) == 2
    for replica in replicas:
        await eventually(lambda replica=replica: knows_all(nc, replica, acknowledged))  # type: ignore[misc]


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    with RunningCluster(tmp_path) as cluster:
        pids = list(cluster.pids())
        assert len(pids) == 5
        assert cluster.end(signal.SIGINT) == 0
        assert [pid for pid in pids if is_alive(pid)] == []
        assert not (tmp_path / "ready.json").exists()
        assert cluster.stderr == ""


def test_killed_it_leaves_nothing_behind_and_started_again_it_has_everything(tmp_path: Path) -> None:
    async def register(url: str) -> None:
        async with RegistryClient(url) as client:
            await client.register({"agent_id": "ada", "agent_type": "trading_agent", "capabilities": ["trading"]})

    async def found(url: str) -> str | None:
        async with RegistryClient(url) as client:
            agent = await client.get_agent_info("ada")
            return None if agent is None else str(agent.status)

    with RunningCluster(tmp_path) as cluster:
        asyncio.run(register(cluster.url))
        pids = list(cluster.pids())
        cluster.end(signal.SIGKILL)
        until(lambda: not any(is_alive(pid) for pid in pids), within=10)
    with RunningCluster(tmp_path) as again:
        assert asyncio.run(found(again.url)) == "active"


def test_a_taken_port_and_a_store_in_use_are_named(cluster: RunningCluster, tmp_path: Path) -> None:
    port = cluster.told["nodes"]["registry-2"]["nats"].rpartition(":")[2]
    for options, said in (
        (("--port", port, "--store", str(tmp_path)), f"port {port} is in use"),
        (("--port", "0", "--store", str(cluster.store)), f"store {cluster.store} is in use by another agent-registry"),
        (("--port", "65535"), "--port"),
    ):
        command = [sys.executable, "-m", "deploy.cluster", *options]
        found = subprocess.run(
            command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
        assert found.returncode in (2, 4)
        assert found.stdout == ""
        assert found.stderr.startswith("error: ")
        assert said in found.stderr
        assert "Traceback" not in found.stderr
