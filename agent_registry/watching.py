"""The watch command: who is there, then everything that changes, until Ctrl-C."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from agent_registry.lookup import MAX_AGENTS, AgentType, Capabilities, Statuses, Tags
from agent_registry.options import AsJson, aimed
from agent_registry.output import emit_line, plain, screen
from agent_registry.session import connected
from agent_registry.stopping import until_signalled
from agent_registry.target import Target
from agents_sdk.protocol.vocabulary import AgentStatus

if TYPE_CHECKING:
    from rich.text import Text

    from agents_sdk.client import RegistryClient
    from agents_sdk.protocol.discovery import AgentInfo, ServiceQuery

Show = Callable[[Any], None]


@aimed
def watch(
    target: Target,
    *,
    capabilities: Capabilities = None,
    agent_type: AgentType = None,
    tags: Tags = None,
    statuses: Statuses = None,
    as_json: AsJson = False,
) -> None:
    """Show who is there, then every change, until Ctrl-C.

    Scaling orders, conflicts and what happens to the registry itself are shown too, unless only some agents are
    asked for.
    With --json: one object a line, told apart by their field `change`; after an outage a snapshot again.
    """
    from agents_sdk.protocol.discovery import ServiceQuery

    query = ServiceQuery(
        capabilities=set(capabilities) if capabilities else None,
        agent_type=agent_type,
        tags=set(tags) if tags else None,
        statuses=set(statuses or AgentStatus),
    )
    narrowed = bool(capabilities or agent_type or tags or statuses)
    asyncio.run(_follow(target, query, narrowed, _show_json if as_json else _Teller(target.shown)))


async def _follow(target: Target, query: ServiceQuery, narrowed: bool, show: Show) -> None:
    with until_signalled() as stopping:
        async with connected(target, lasting=True) as registry:
            work = [_agents(registry, query, show)]
            if not narrowed:
                work.append(_other_events(registry, show))
            await stopping.or_until(*work)


async def _agents(registry: RegistryClient, query: ServiceQuery, show: Show) -> None:
    async for change in registry.watch(query):
        show(change)


async def _other_events(registry: RegistryClient, show: Show) -> None:
    async for event in registry.events("scaling", "conflict", "registry"):
        show(event)


def _show_json(happened: Any) -> None:
    """Print one object; `change` names what it is."""
    emit_line({"change": _name(happened), **plain(happened)})


def _name(happened: Any) -> str:
    names = {"ScalingOrder": "scaling", "ConflictEvent": "conflict", "RegistryEvent": "registry", "dict": "event"}
    name = type(happened).__name__
    return names.get(name, name.lower())


SETTLING = 10.0
"""Seconds in which it is said once that the connection is there again: after one restart everything may come twice."""


class _Teller:
    """Tells people what happened, a line each.

    It knows what it has told: after an outage everything is there anew, and only what differs is news.

    Args:
        where: The server that is watched.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._agents: dict[str, AgentInfo] | None = None
        self._again_at = -math.inf
        """When it was said last that the connection is there again."""

    def __call__(self, happened: Any) -> None:
        """Tell one thing."""
        console = screen()
        for line in self._lines(happened):
            console.print(line, soft_wrap=True)

    def _lines(self, happened: Any) -> Iterator[Text]:
        from agent_registry import lines
        from agents_sdk.directory import Changed, Joined, Left, Snapshot
        from agents_sdk.protocol.events import ConflictEvent, RegistryEvent
        from agents_sdk.protocol.scaling import ScalingOrder

        match happened:
            case Snapshot(agents=agents):
                yield from self._snapshot(agents)
            case Joined(agent=agent):
                self._known[agent.agent_id] = agent
                yield lines.joined(agent)
            case Changed(agent=agent, event=event):
                self._known[agent.agent_id] = agent
                yield lines.found_changed(agent) if event is None else lines.changed(event)
            case Left(agent_id=agent_id, event=event):
                self._known.pop(agent_id, None)
                yield lines.left(agent_id) if event is None else lines.changed(event)
            case ScalingOrder():
                yield lines.ordered(happened)
            case ConflictEvent():
                yield lines.clashed(happened)
            case RegistryEvent():
                yield lines.announced(happened)
            case _:
                yield lines.unknown(happened)

    def _snapshot(self, agents: tuple[AgentInfo, ...]) -> Iterator[Text]:
        from agent_registry import lines
        from agents_sdk.directory import differences

        found = {agent.agent_id: agent for agent in agents}
        known, self._agents = self._agents, found
        now = time.monotonic()
        if known is None:
            yield lines.heading(self._where, len(agents))
            for agent in sorted(agents, key=lambda agent: (agent.agent_type, agent.agent_id)):
                yield lines.here(agent)
        else:
            # Of very many not all are here, and others than before.
            changes = differences(known, found) if len(agents) < MAX_AGENTS else None
            if changes or now - self._again_at > SETTLING:
                self._again_at = now
                yield lines.again(len(agents), None if changes is None else len(changes))
            for change in changes or ():
                yield from self._lines(change)

    @property
    def _known(self) -> dict[str, AgentInfo]:
        """The agents as they were told last; a snapshot comes before all else."""
        assert self._agents is not None
        return self._agents
