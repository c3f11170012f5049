"""Agents, queries and catalogs for tests that need no replica."""

from __future__ import annotations

from random import Random
from typing import Any

from registry.core.agent import Agent
from registry.core.catalog import Catalog
from registry.core.record import Record
from registry.core.status import Status


def make_record(agent_id: str = "a", **fields: Any) -> Record:
    """Return a record of an active agent."""
    known = {"agent_type": "worker", "capabilities": ("analysis",), "status": Status.ACTIVE}
    return Record(agent_id=agent_id, **{**known, **fields})


def make_agent(
    agent_id: str = "a",
    health: float = 1.0,
    load: float = 0.0,
    load_at: float | None = None,
    metrics: dict[str, float] | None = None,
    **fields: Any,
) -> Agent:
    """Return an agent with these vitals; further fields are its record's."""
    agent = Agent(make_record(agent_id, **fields), revision=1, heard=0.0, since=0.0, load_at=load_at)
    agent.health, agent.load, agent.metrics = health, load, metrics or {}
    agent.queue_at = load_at if "queue_depth" in agent.metrics else None
    return agent


def make_catalog(*agents: Agent, seed: int = 1) -> Catalog:
    """Return a catalog of these agents."""
    catalog = Catalog(Random(seed).random)
    for agent in agents:
        catalog.add(agent)
    return catalog
