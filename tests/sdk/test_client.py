"""The client's methods against a real registry."""

from __future__ import annotations

import asyncio
import logging

import nats
import pytest

from agents_sdk import (
    AgentCapability,
    AgentStatus,
    AlreadyRegisteredError,
    InvalidRequestError,
    NotFoundError,
    RegistryClient,
    ServiceQuery,
    UnavailableError,
)
from registry.replica import Replica
from registry.shell.embedded import NatsServer

TRADER = {"agent_type": "trading_agent", "capabilities": ["trading", "execution"], "agent_id": "trader"}


async def test_the_readmes_tour(client: RegistryClient) -> None:
    agent_id = await client.register_agent({**TRADER, "tags": ["crypto"], "metadata": {"exchange": "x"}})
    assert agent_id == "trader"
    query = ServiceQuery(capabilities={AgentCapability.TRADING}, tags={"crypto"}, metadata={"exchange": "x"})
    [found] = await client.discover_agents(query)
    assert (found.agent_id, found.status) == ("trader", AgentStatus.ACTIVE)
    assert found.capabilities == {AgentCapability.TRADING, AgentCapability.EXECUTION}
    listing = await client.discover(ServiceQuery(agent_type="none"))
    assert (listing.agents, listing.total) == ([], 0)
    assert await client.deregister_agent(agent_id, "done")
    assert not await client.deregister_agent(agent_id)
    assert await client.discover_agents() == []


async def test_an_id_is_made_for_who_has_none(client: RegistryClient) -> None:
    agent_id = await client.register_agent({"agent_type": "t", "capabilities": ["trading"]})
    assert (await client.get_agent_info(agent_id)) is not None


async def test_what_is_wrong_with_a_registration_is_a_value_error_that_names_it(client: RegistryClient) -> None:
    with pytest.raises(ValueError, match="agent_type: is required"):
        await client.register_agent({"capabilities": ["trading"]})
    with pytest.raises(InvalidRequestError, match="trading"):
        await client.register_agent({"agent_type": "t", "capabilities": ["tradin"]})
    with pytest.raises(InvalidRequestError, match="agent_id"):
        await client.register_agent({**TRADER, "agent_id": "no spaces"})


async def test_an_id_that_is_taken_is_refused_and_names_its_holder(client: RegistryClient) -> None:
    receipt = await client.register({**TRADER, "instance_id": "first"})
    assert receipt.incarnation == 1
    assert (await client.register({**TRADER, "instance_id": "first"})).incarnation == 1
    with pytest.raises(AlreadyRegisteredError, match="first"):
        await client.register({**TRADER, "instance_id": "second"})
    assert (await client.register({**TRADER, "instance_id": "second", "takeover": True})).incarnation == 2


async def test_health_and_performance(client: RegistryClient) -> None:
    await client.register(TRADER)
    await client.update_agent_health("trader", {"health_score": 0.7, "load_factor": 0.3, "memory_usage": 0.6})
    await client.update_agent_performance("trader", {"requests_served": 10, "success_rate": 0.9})
    agent = await client.get_agent_info("trader")
    assert agent is not None
    assert (agent.health_score, agent.load_factor) == (0.7, 0.3)
    assert agent.performance_metrics["success_rate"] == 0.9
    assert agent.performance_metrics["memory_usage"] == 0.6
    with pytest.raises(InvalidRequestError, match="health_score"):
        await client.update_agent_health("trader", {"health_score": 7})


async def test_nobody_is_nobody(client: RegistryClient) -> None:
    assert await client.get_agent_info("nobody") is None
    with pytest.raises(NotFoundError, match="nobody"):
        await client.update_agent_health("nobody", {"health_score": 1.0})
    with pytest.raises(NotFoundError):
        await client.update_agent_performance("nobody", {"x": 1.0})
    with pytest.raises(NotFoundError):
        await client.suspend_agent("nobody")


async def test_an_operators_commands(client: RegistryClient) -> None:
    await client.register(TRADER)
    assert (await client.suspend_agent("trader", "maintenance")).status is AgentStatus.SUSPENDED
    assert await client.discover_agents() == []
    assert (await client.resume_agent("trader")).status is AgentStatus.ACTIVE
    assert (await client.drain_agent("trader")).status is AgentStatus.DEREGISTERING


async def test_statistics(client: RegistryClient) -> None:
    await client.register(TRADER)
    reference = await client.get_registry_stats()
    assert len(reference) == 10
    assert reference["registered_agents"] == 1
    assert reference["capabilities_distribution"]["trading"] == 1
    assert (await client.statistics()).leader


async def test_vocabulary(client: RegistryClient) -> None:
    vocabulary = await client.capabilities()
    assert {capability.name for capability in vocabulary.capabilities} >= set(AgentCapability)
    assert not vocabulary.open


async def test_scaling(client: RegistryClient) -> None:
    report = await client.set_scaling("trading", min_agents=1, max_agents=5)
    [trading] = report.capabilities
    assert (trading.policy.min_agents, trading.policy.max_agents) == (1, 5)
    assert (await client.scaling("trading")).capabilities[0].policy.max_agents == 5
    with pytest.raises(InvalidRequestError, match="min_agent"):
        await client.set_scaling("trading", min_agent=1)


async def test_a_client_on_somebody_elses_connection_leaves_it_open(nats_server: NatsServer, registry: Replica) -> None:
    theirs = await nats.connect(nats_server.url)
    async with RegistryClient(theirs) as client:
        assert (await client.statistics()).leader
    assert theirs.is_connected
    await theirs.close()


async def test_two_registries_share_an_account(nats_server: NatsServer, registry: Replica) -> None:
    async with RegistryClient(nats_server.url, prefix="other", timeout=1.0) as client:
        with pytest.raises(UnavailableError, match="no registry serves 'stats'"):
            await client.statistics()


async def test_a_client_that_was_not_connected_says_so() -> None:
    with pytest.raises(UnavailableError, match="no connection to NATS"):
        await RegistryClient(timeout=0.1).discover()


async def test_many_requests_at_once(client: RegistryClient) -> None:
    await asyncio.gather(*(client.register({**TRADER, "agent_id": f"a{n}"}) for n in range(100)))
    listing = await client.discover(ServiceQuery(limit=1000))
    assert (len(listing.agents), listing.total) == (100, 100)


async def test_a_registry_that_restarts_is_waited_for(
    client: RegistryClient, registry: Replica, nats_server: NatsServer, caplog
) -> None:
    caplog.set_level(logging.CRITICAL)
    await client.register(TRADER)
    await registry.stop()
    asking = asyncio.create_task(client.register({**TRADER, "instance_id": "x", "takeover": True}))
    again = Replica(registry.settings, nats_server.url)
    await again.start()
    assert (await asking).agent_id == "trader"
    await again.stop()
