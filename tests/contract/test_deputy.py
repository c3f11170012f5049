"""The registry has rights that its callers have not: none of them gets it to use those for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from registry.replica import Replica
from registry.settings import Settings
from tests.conftest import eventually
from tests.contract.wire import TRADER, agent, answering, ask, assert_error, found, listening, told
from tests.sdk.outage import Server

EVIL = {**TRADER, "agent_id": "evil"}

USERS = """authorization { users: [
  { user: registry, password: r }
  { user: evil, password: e, permissions: {
    publish: ["registry.register.evil", "registry.stats"], subscribe: ["_INBOX.>"] } }
  { user: service, password: s, permissions: { publish: [], subscribe: ["$SRV.>"], allow_responses: true } }
] }"""

HARM = ["registry.deregister.trader-1", "$KV.registry_agents.trader-1", "$JS.API.STREAM.DELETE.KV_registry_agents"]
"""Subjects on which an empty message is enough."""


@pytest.fixture
def settings() -> Settings:
    return Settings(health_check_interval=0.1, adopt="micro,synadia", adopt_interval=0.3)


@pytest.fixture
async def guarded(tmp_path: Path, settings: Settings) -> AsyncIterator[str]:
    """Where a server listens whose users have rights of their own, with a registry."""
    server = Server(tmp_path, USERS)
    await server.start()
    replica = Replica(settings, server.url.replace("//", "//registry:r@"))
    await replica.start()
    yield server.url
    await replica.stop()
    await server.kill()


@pytest.fixture
async def mighty(guarded: str) -> AsyncIterator[Client]:
    """A connection with all rights."""
    client = await nats.connect(guarded.replace("//", "//registry:r@"))
    yield client
    await client.close()


@pytest.fixture
async def evil(guarded: str) -> AsyncIterator[Client]:
    """A connection of somebody who may register himself, and no more."""
    client = await nats.connect(guarded.replace("//", "//evil:e@"))
    yield client
    await client.close()


@pytest.mark.parametrize("subject", HARM)
async def test_a_health_check_deletes_nothing(mighty: Client, evil: Client, subject: str) -> None:
    """Whoever names somebody else's subject is refused."""
    await told(mighty, "registry.register", TRADER)
    answer = await ask(evil, "registry.register.evil", {**EVIL, "health_subject": subject})
    assert_error(answer, "invalid_request", "health_subject")
    assert await found(mighty) == ["trader-1"]


@pytest.mark.parametrize("subject", ["registry.deregister.trader-1", "$KV.registry_control.policy.trading"])
async def test_a_record_that_names_such_a_subject_is_not_probed(registry: Replica, nc: Client, subject: str) -> None:
    """However it came into the bucket."""
    await told(nc, "registry.register", {**TRADER, "agent_id": "old"})
    bucket = await nc.jetstream().key_value("registry_agents")
    record = json.loads((await bucket.get("old")).value or b"")
    async with answering(nc, "agent.trader-1.health_check", {}) as probes, listening(nc, subject) as sent:
        await told(nc, "registry.register", {**TRADER, "health_subject": "agent.trader-1.health_check"})
        await bucket.put("old", json.dumps({**record, "health_subject": subject, "write_id": "by hand"}).encode())
        await probes.take(5)
        assert registry.state.agents["old"].record.health_subject == subject
        assert sent.empty()
    assert (await agent(nc))["status"] == "active"


@pytest.mark.parametrize("name", ["agents", "quotes"])
@pytest.mark.parametrize("subject", [*HARM, "orders.cancel"])
async def test_a_service_that_is_adopted_has_nothing_deleted(
    guarded: str, mighty: Client, name: str, subject: str
) -> None:
    """Whatever it says where its status can be asked for, and, to who calls it, where its topics are served."""
    await told(mighty, "registry.register", TRADER)
    identity = {"name": name, "id": "EVIL", "version": "1.0.0", "metadata": {"capabilities": "trading"}}
    endpoints = [{"name": topic, "subject": subject} for topic in ("status", "prompt", "quote")]

    async def answer(msg: Msg) -> None:
        if name in msg.subject or msg.subject == "$SRV.PING":
            await msg.respond(json.dumps({**identity, "endpoints": endpoints}).encode())

    service = await nats.connect(guarded.replace("//", "//service:s@"))
    try:
        async with listening(mighty, subject) as sent:
            await service.subscribe("$SRV.>", cb=answer)
            await eventually(lambda: _is_there(mighty, "EVIL"))
            assert sent.empty()
        assert sorted(await found(mighty)) == ["EVIL", "trader-1"]
        served = (await agent(mighty, "EVIL"))["adopted"]["endpoints"]
        assert served == ({} if subject in HARM else dict.fromkeys(("status", "prompt", "quote"), subject))
    finally:
        await service.close()


async def _is_there(nc: Client, agent_id: str) -> bool:
    return agent_id in await found(nc)


REPLIES = ["$KV.registry_agents.trader-1", "registry.events.status.offline.trader-1", "registry.heartbeat"]


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("request_to", ["registry.stats", "registry.register.evil", "registry.register.evil.bad"])
async def test_an_answer_is_no_write(registry: Replica, nc: Client, reply: str, request_to: str) -> None:
    """Neither an answer nor an error goes where whoever asks might not be allowed to publish."""
    await told(nc, "registry.register", TRADER)
    async with listening(nc, reply) as sent:
        payload = json.dumps(EVIL).encode() if request_to.startswith("registry.register") else b""
        await nc.publish(request_to, payload, reply=reply)
        await nc.publish(f"registry.replica.{registry.replica_id}", reply=reply)
        await nc.publish(f"$SRV.PING.registry.{registry.replica_id}", reply=reply)
        # All have been handled: what comes later on the same subjects is answered.
        await told(nc, f"registry.replica.{registry.replica_id}")
        await told(nc, f"$SRV.PING.registry.{registry.replica_id}")
        await told(nc, "registry.register", {**TRADER, "agent_id": "last"})
        await told(nc, "registry.stats")
        assert sent.empty()
    assert (await agent(nc))["status"] == "active"
