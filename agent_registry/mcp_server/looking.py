"""The tools that look and change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from agent_registry.mcp_server import history
from agent_registry.mcp_server.reach import Reach
from agent_registry.mcp_server.tool import Tool
from agent_registry.mcp_server.topics import topics_of
from agent_registry.output import plain
from agents_sdk.protocol.discovery import AgentInfo, NearMiss, ServiceQuery
from agents_sdk.protocol.errors import NotFoundError
from agents_sdk.protocol.fields import AgentId, Capability, Name, Score, Text
from agents_sdk.protocol.model import Command
from agents_sdk.protocol.scaling import CapabilityScaling
from agents_sdk.protocol.vocabulary import AgentStatus, SortBy

Capabilities = Annotated[frozenset[Capability], Field(max_length=64)]
Tags = Annotated[frozenset[Name], Field(max_length=64)]
Skills = Annotated[frozenset[Text], Field(max_length=64)]

MAX_FOUND = 50
"""Agents in one answer: an LLM reads all of it."""

MAX_LEFT_OUT = 10


class Nothing(Command):
    """No arguments."""


class Discovery(Command):
    """Which agents to find. All that is given must hold."""

    capabilities: Capabilities | None = None
    """Has all of these capabilities, such as trading; see list_capabilities."""
    skills: Skills | None = None
    """Its A2A agent card names all of these skill ids, letter by letter."""
    agent_type: Name | None = None
    """Is exactly of this type."""
    tags: Tags | None = None
    """Has all of these tags."""
    version: Text | None = None
    """Its version fits this specifier, such as >=2,<3."""
    min_health_score: Score = 0.5
    """No sicker than this, 0 to 1."""
    max_load_factor: Score = 0.8
    """No busier than this, 0 to 1; 1 also finds those that are full."""
    statuses: Annotated[frozenset[AgentStatus], Field(min_length=1)] | None = None
    """Has one of these statuses; active and degraded when left out, which are those that take work."""
    sort_by: SortBy = SortBy.PERFORMANCE
    """Best first by this; performance weighs health, load and success rate."""
    limit: Annotated[int, Field(strict=True, ge=1, le=MAX_FOUND)] = 10
    """How many agents to return at most; total counts all that match."""


class OneAgent(Command):
    """Which agent."""

    agent_id: AgentId
    """The agent's id, as discover_agents returns it."""


class OneCapability(Command):
    """Of what."""

    capability: Capability | None = None
    """Only this capability, with its policy; all of them, in short, when left out."""


class PastEvents(Command):
    """Which events."""

    kind: Literal["status", "scaling", "conflict", "registry", "assignment"] | None = None
    """Only this kind: status is an agent's change of status or registration, scaling an order to start or stop agents,
    assignment the loss of reserved work, conflict a contradiction, registry what happened to the registry itself."""
    agent_id: AgentId | None = None
    """Only events of this agent."""
    capability: Capability | None = None
    """Only events of agents that have this capability, and scaling orders for it."""
    limit: Annotated[int, Field(strict=True, ge=1, le=history.MAX_EVENTS)] = 20
    """How many to return at most, the newest ones."""


async def _capabilities(reach: Reach, _: Nothing) -> dict[str, Any]:
    vocabulary = await reach.registry.capabilities()
    agents = {each.name: each.agents for each in vocabulary.capabilities}
    return {"agents_by_capability": agents, "others_allowed": vocabulary.open}


async def _discover(reach: Reach, wanted: Discovery) -> dict[str, Any]:
    query = ServiceQuery(**wanted.__dict__)
    listing = await reach.registry.discover(query)
    answer: dict[str, Any] = {"total": listing.total, "agents": [_in_short(agent) for agent in listing.agents]}
    if not listing.agents:
        query.explain = True
        misses = (await reach.registry.discover(query)).near_misses or []
        answer["left_out"] = dict(_why(misses[:MAX_LEFT_OUT]))
    return answer


def _why(misses: list[NearMiss]) -> Iterator[tuple[str, str]]:
    return ((miss.agent_id, "; ".join(miss.reasons)) for miss in misses)


def _in_short(agent: AgentInfo) -> dict[str, Any]:
    """Return what an agent is chosen by; what says nothing is left out."""
    known = {
        "agent_id": agent.agent_id,
        "agent_type": agent.agent_type,
        "status": agent.status,
        "status_reason": None if agent.status is AgentStatus.ACTIVE else agent.status_reason,
        "capabilities": sorted(agent.capabilities),
        "skills": sorted(agent.skills),
        "tags": sorted(agent.tags),
        "version": agent.version,
        "health_score": agent.health_score,
        "load_factor": agent.load_factor,
        "seconds_since_load_was_reported": agent.load_age,
        "success_rate": agent.performance_metrics.get("success_rate"),
        "tasks_at_once": agent.max_concurrency,
        "slots_reserved": agent.reserved or None,
        "suspicion": agent.suspicion or None,
    }
    return {name: value for name, value in known.items() if value is not None and value != []}


async def _get(reach: Reach, wanted: OneAgent) -> dict[str, Any]:
    agent = await reach.registry.get_agent_info(wanted.agent_id)
    if agent is None:
        raise NotFoundError(
            f"agent_id: no agent {wanted.agent_id!r} is registered; discover_agents finds those that are"
        )
    return {**agent.to_wire(), "topics": await topics_of(reach.connection, agent)}


async def _statistics(reach: Reach, _: Nothing) -> dict[str, Any]:
    statistics: dict[str, Any] = plain(await reach.registry.statistics())
    return statistics


async def _scaling(reach: Reach, wanted: OneCapability) -> dict[str, Any]:
    report = await reach.registry.scaling(wanted.capability)
    shown = plain if wanted.capability is not None else _scaling_in_short
    return {"enabled": report.enabled, "capabilities": [shown(each) for each in report.capabilities]}


def _scaling_in_short(scaling: CapabilityScaling) -> dict[str, Any]:
    return {
        "capability": scaling.capability,
        "agents": scaling.observed.agents,
        "desired": scaling.desired,
        "mean_load": scaling.observed.mean_load,
        "mean_health": scaling.observed.mean_health,
        "open_orders": [order.action for order in scaling.orders],
        "reason": scaling.reason,
    }


async def _events(reach: Reach, wanted: PastEvents) -> dict[str, Any]:
    past = history.Past(wanted.kind, wanted.agent_id, wanted.capability)
    return {"events": await past.newest(reach.connection, reach.subjects, wanted.limit)}


LOOKING = (
    Tool(
        "list_capabilities",
        "List capabilities",
        "List what agents can be able to do, and how many agents that are not offline have each capability.",
        Nothing,
        _capabilities,
    ),
    Tool(
        "discover_agents",
        "Find agents",
        "Find agents by what they can do and how well they do it, best first. When nobody matches, `left_out` says of "
        "agents that have the capabilities why each was left out, so that you can ask for less.",
        Discovery,
        _discover,
    ),
    Tool(
        "get_agent",
        "Show an agent",
        "Show everything known of one agent: what it says of itself, its health, load and metrics, `evidence` for "
        "whether it is alive with the registry's verdict, and `topics` that it answers, null if it does not tell.",
        OneAgent,
        _get,
    ),
    Tool(
        "registry_stats",
        "Show statistics",
        "Show statistics of the registry: how many agents there are, by status, health and capability, and what the "
        "replica that answers has counted since it was started.",
        Nothing,
        _statistics,
    ),
    Tool(
        "recent_events",
        "Show recent events",
        "Show what happened, oldest first: agents that came, went or changed their status and why, scaling orders, "
        f"lost work. `age` is seconds ago. Of all events, the newest {history.MAX_READ} are looked through.",
        PastEvents,
        _events,
    ),
    Tool(
        "scaling_report",
        "Show scaling",
        "Show how many agents there should be for each capability, how many there are, and why the registry has more "
        "started, some stopped, or neither.",
        OneCapability,
        _scaling,
    ),
)
