"""Commands that ask and change nothing: agents, discover, get, assignments, stats, capabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agent_registry.failure import CommandError, Exit
from agent_registry.options import AgentIdArgument, AsJson, aimed
from agent_registry.output import emit, print_table, screen
from agent_registry.session import ask
from agent_registry.target import Target
from agent_registry.wording import count, either
from agents_sdk.protocol.vocabulary import AgentStatus, SortBy

if TYPE_CHECKING:
    from agents_sdk.protocol.discovery import AgentInfo, Listing

MAX_AGENTS = 1000

_STATUSES = either(AgentStatus)

Capabilities = Annotated[
    list[str] | None,
    typer.Option(
        "--capability", "-c", metavar="NAME", help="Has this capability; several: has all of them.", show_default=False
    ),
]
AgentType = Annotated[str | None, typer.Option("--type", metavar="NAME", help="Is of this type.", show_default=False)]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Has this tag; several: has all of them.", show_default=False),
]
Statuses = Annotated[
    list[AgentStatus] | None,
    typer.Option(
        "--status", metavar="STATUS", help=f"Has this status, {_STATUSES}; several: one of them.", show_default=False
    ),
]


@aimed
def agents(
    target: Target,
    *,
    capabilities: Capabilities = None,
    agent_type: AgentType = None,
    tags: Tags = None,
    statuses: Statuses = None,
    as_json: AsJson = False,
) -> None:
    """List every agent with its condition, whatever its status."""
    from agents_sdk.protocol.discovery import ServiceQuery

    query = ServiceQuery(
        capabilities=_set(capabilities),
        agent_type=agent_type,
        tags=_set(tags),
        statuses=set(statuses or AgentStatus),
        min_health_score=0.0,
        max_load_factor=1.0,
        limit=MAX_AGENTS,
    )
    listing = ask(target, lambda registry: registry.discover(query))
    listing.agents.sort(key=lambda agent: (agent.agent_type, agent.agent_id))
    if as_json:
        emit(listing)
        return
    if not listing.agents:
        narrowed = capabilities or agent_type or tags or statuses
        screen().print("no agent matches" if narrowed else "no agents", style="dim")
        return
    from agent_registry.tables import agents_table

    print_table(lambda width: agents_table(listing.agents, width))
    shown = len(listing.agents)
    tail = (
        f"; the first {shown} are shown, narrow it down with --type, --capability or --status"
        if listing.total > shown
        else ""
    )
    screen().print(f"\n{count(listing.total, 'agent')}{tail}", style="dim")


@aimed
def discover(
    target: Target,
    *,
    capabilities: Capabilities = None,
    agent_type: AgentType = None,
    min_health: Annotated[float, typer.Option(min=0.0, max=1.0, metavar="SHARE", help="Health at least this.")] = 0.5,
    max_load: Annotated[float, typer.Option(min=0.0, max=1.0, metavar="SHARE", help="Load at most this.")] = 0.8,
    tags: Tags = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_AGENTS, metavar="N", help="How many to return at most.")] = 10,
    sort_by: Annotated[
        SortBy, typer.Option("--sort", metavar="BY", help=f"Best first, by {either(SortBy)}.")
    ] = SortBy.PERFORMANCE,
    version: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Version fits, for example '>=2,<3'.", show_default=False)
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata",
            metavar="NAME=VALUE",
            help="Metadata field has this value, read as JSON where it is JSON; repeatable.",
            show_default=False,
        ),
    ] = None,
    skills: Annotated[
        list[str] | None,
        typer.Option(
            "--skill",
            metavar="ID",
            help="Its A2A agent card names this skill; several: names all of them.",
            show_default=False,
        ),
    ] = None,
    prefer_tags: Annotated[
        list[str] | None,
        typer.Option(
            "--prefer-tag", metavar="TAG", help="Agents with more of these come first; repeatable.", show_default=False
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="ID", help="Leave this agent out; repeatable.", show_default=False),
    ] = None,
    statuses: Annotated[
        list[AgentStatus] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help=f"Find this status, {_STATUSES}; repeatable.",
            show_default="active, degraded",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", metavar="", help="Say of each near miss why it was left out.")
    ] = False,
    min_revision: Annotated[
        int, typer.Option(min=0, metavar="N", help="Answer only from a state at least this new.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Find agents as another agent would: by what they can do and how well they do it, best first."""
    from agents_sdk.protocol.discovery import ServiceQuery

    query = ServiceQuery(
        capabilities=_set(capabilities),
        agent_type=agent_type,
        min_health_score=min_health,
        max_load_factor=max_load,
        tags=_set(tags),
        limit=limit,
        sort_by=sort_by,
        version=version,
        metadata=_object(metadata),
        skills=_set(skills),
        prefer_tags=_set(prefer_tags),
        exclude=_set(exclude),
        statuses=set(statuses) if statuses else None,
        explain=explain,
        min_revision=min_revision,
    )
    listing = ask(target, lambda registry: registry.discover(query))
    if as_json:
        emit(listing)
        return
    _show_found(listing)


@aimed
def get(target: Target, agent_id: AgentIdArgument, *, as_json: AsJson = False) -> None:
    """Show everything known of one agent."""
    agent: AgentInfo | None = ask(target, lambda registry: registry.get_agent_info(agent_id))
    if agent is None:
        raise CommandError(f"not_found: no agent {agent_id!r} is registered", "see who is there: agent-registry agents")
    if as_json:
        emit(agent)
        return
    from agent_registry.tables import agent_pairs

    print_table(lambda _: agent_pairs(agent))


@aimed
def assignments(
    target: Target,
    *,
    agent_id: Annotated[
        str | None, typer.Option("--agent", metavar="ID", help="Only those of this agent.", show_default=False)
    ] = None,
    task_id: Annotated[
        str | None, typer.Option("--task", metavar="ID", help="Only that of this task.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_AGENTS, metavar="N", help="How many to return at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List the assignments that live: which agent works on which task, and until when."""
    listing = ask(target, lambda registry: registry.assignments(agent_id, task_id, limit))
    if as_json:
        emit(listing)
        return
    if not listing.assignments:
        screen().print("no assignments", style="dim")
        return
    from agent_registry.assignments import assignments_table

    print_table(lambda width: assignments_table(listing.assignments, width))
    shown = len(listing.assignments)
    tail = f"; the first {shown} are shown" if listing.total > shown else ""
    screen().print(f"\n{count(listing.total, 'assignment')}{tail}", style="dim")


@aimed
def stats(target: Target, *, as_json: AsJson = False) -> None:
    """Show the statistics of the replica that answers."""
    statistics = ask(target, lambda registry: registry.statistics())
    if as_json:
        emit(statistics)
        return
    from agent_registry.tables import statistics_pairs

    print_table(lambda _: statistics_pairs(statistics))


@aimed
def capabilities(target: Target, *, as_json: AsJson = False) -> None:
    """List the capabilities this registry knows, and how many agents have each."""
    vocabulary = ask(target, lambda registry: registry.capabilities())
    if as_json:
        emit(vocabulary)
        return
    from agent_registry.tables import vocabulary_table

    print_table(lambda width: vocabulary_table(vocabulary, width))
    if vocabulary.open:
        screen().print("\nany other well-formed name is accepted too", style="dim")


def _show_found(listing: Listing) -> None:
    from agent_registry.tables import found_table

    console = screen()
    if listing.agents:
        print_table(lambda width: found_table(listing.agents, width))
        console.print(f"\n{len(listing.agents)} of {listing.total} that match", style="dim")
    else:
        console.print(
            "no agent matches; see why with --explain" if listing.near_misses is None else "no agent matches",
            style="dim",
        )
    for miss in listing.near_misses or ():
        console.print(f"left out  {miss.agent_id}: {'; '.join(miss.reasons)}", markup=False)


def _set(values: list[str] | None) -> set[str] | None:
    return set(values) if values else None


def _object(pairs: list[str] | None) -> dict[str, object] | None:
    """Return the object that `NAME=VALUE` options describe."""
    import json

    if not pairs:
        return None
    found: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise CommandError(
                f"--metadata: {pair!r} is not NAME=VALUE", "see: agent-registry discover --help", Exit.USAGE
            )
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found
