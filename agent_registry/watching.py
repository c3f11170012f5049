"""The watch command: who is there, then everything that changes, until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent_registry.lookup import AgentType, Capabilities, Statuses, Tags
from agent_registry.options import AsJson, aimed
from agent_registry.output import emit_line, plain, screen
from agent_registry.session import connected
from agent_registry.stopping import until_signalled
from agent_registry.target import Target
from agents_sdk.protocol.vocabulary import AgentStatus

if TYPE_CHECKING:
    from agents_sdk.client import RegistryClient
    from agents_sdk.protocol.discovery import ServiceQuery

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

    Scaling orders and what happens to the registry itself are shown too, unless only some agents are asked for.
    With --json: one object a line, told apart by their field `change`.
    """
    from agents_sdk.protocol.discovery import ServiceQuery

    query = ServiceQuery(
        capabilities=set(capabilities) if capabilities else None,
        agent_type=agent_type,
        tags=set(tags) if tags else None,
        statuses=set(statuses or AgentStatus),
    )
    narrowed = bool(capabilities or agent_type or tags or statuses)
    asyncio.run(_follow(target, query, narrowed, _show_json if as_json else _show_text))


async def _follow(target: Target, query: ServiceQuery, narrowed: bool, show: Show) -> None:
    with until_signalled() as stopping:
        async with connected(target) as registry:
            tasks = [asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(_agents(registry, query, show))]
            if not narrowed:
                tasks.append(asyncio.ensure_future(_other_events(registry, show)))
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def _agents(registry: RegistryClient, query: ServiceQuery, show: Show) -> None:
    async for change in registry.watch(query):
        show(change)


async def _other_events(registry: RegistryClient, show: Show) -> None:
    async for event in registry.events("scaling", "registry"):
        show(event)


def _show_json(happened: Any) -> None:
    """Print one object; `change` names what it is."""
    emit_line({"change": _name(happened), **plain(happened)})


def _name(happened: Any) -> str:
    names = {"ScalingOrder": "scaling", "RegistryEvent": "registry", "dict": "event"}
    name = type(happened).__name__
    return names.get(name, name.lower())


def _show_text(happened: Any) -> None:
    from agent_registry import lines
    from agents_sdk.directory import Changed, Joined, Left, Snapshot
    from agents_sdk.protocol.events import RegistryEvent
    from agents_sdk.protocol.scaling import ScalingOrder

    console = screen()
    match happened:
        case Snapshot(agents=agents):
            for agent in sorted(agents, key=lambda agent: (agent.agent_type, agent.agent_id)):
                console.print(lines.here(agent), soft_wrap=True)
        case Joined(agent=agent):
            console.print(lines.joined(agent), soft_wrap=True)
        case Changed(agent=agent, event=None):
            console.print(lines.here(agent), soft_wrap=True)
        case Changed(event=event) if event is not None:
            console.print(lines.changed(event), soft_wrap=True)
        case Left(agent_id=agent_id, event=event):
            console.print(lines.left(agent_id) if event is None else lines.changed(event), soft_wrap=True)
        case ScalingOrder():
            console.print(lines.ordered(happened), soft_wrap=True)
        case RegistryEvent():
            console.print(lines.announced(happened), soft_wrap=True)
        case _:
            console.print(lines.unknown(happened), soft_wrap=True)
