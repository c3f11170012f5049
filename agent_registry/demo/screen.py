"""The demo on a terminal: one display that changes in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from agent_registry.demo.roles import ROLES
from agent_registry.demo.story import BUSIEST
from agent_registry.tables import status_text
from agent_registry.wording import ago, bar, because, clock, health_style, load_style, number

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent_registry.demo.ledger import Happening, Ledger
    from agents_sdk.protocol.discovery import AgentInfo
    from agents_sdk.protocol.scaling import CapabilityScaling

ROOMY = 100
"""Columns from which on there is room for more than the least."""

_FIXED_LINES = 14
"""Lines of everything but agents and happenings: heading, caption, load, scaling, rules."""

FEWEST_HAPPENINGS = 3
_WIDEST_CAPABILITY = max(len(capability) for capability in ROLES.values())


def draw(ledger: Ledger, width: int, height: int) -> RenderableType:
    """Return the whole display.

    Args:
        ledger: What is known now.
        width: Columns of the terminal.
        height: Lines of the terminal.
    """
    room = max(8, height - _FIXED_LINES)
    agents = _most_telling(ledger.agents, max(4, room - FEWEST_HAPPENINGS))
    shown = len(agents)
    parts: list[RenderableType] = [
        _heading(ledger, width),
        Panel(
            Text(ledger.caption),
            title=Text(f" {ledger.title} ", style="bold cyan"),
            title_align="left",
            border_style="cyan",
            height=5,
        ),
        _agents(agents, width),
    ]
    if len(ledger.agents) > shown:
        parts.append(Text(f"and {len(ledger.agents) - shown} more", style="dim"))
        shown += 1
    parts += [Rule(style="dim"), _load(ledger), _scaling(ledger.scaling), Rule(style="dim")]
    parts.append(_happenings(list(ledger.happenings)[-max(FEWEST_HAPPENINGS, room - shown) :]))
    return Group(*parts)


def _most_telling(agents: list[AgentInfo], room: int) -> list[AgentInfo]:
    """Return as many agents as there is room for; whatever is not simply active stays."""
    kept = list(agents)
    for agent in reversed(agents):
        if len(kept) > room and agent.status == "active":
            kept.remove(agent)
    return kept[:room]


def _heading(ledger: Ledger, width: int) -> Text:
    share = ledger.elapsed / ledger.seconds
    heading = Text("agent-registry demo  ", style="bold", no_wrap=True)
    heading.append(f"{ledger.elapsed:3.0f} of {ledger.seconds:.0f} s ", style="default")
    heading.append(bar(share, 10), style="cyan")
    if ledger.nats and width >= ROOMY:
        heading.append(f"  look for yourself: agent-registry watch --nats {ledger.nats}", style="dim")
    return heading


def _agents(agents: list[AgentInfo], width: int) -> Table:
    wide = width >= ROOMY
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("AGENT", "CAN DO", "STATUS", "HEALTH", "LOAD", "BEAT"):
        table.add_column(name, no_wrap=True)
    if wide:
        table.add_column("WHY", no_wrap=True, overflow="ellipsis")
    for agent in agents:
        gone = agent.status == "offline"
        health = f"{bar(agent.health_score, 4)} {agent.health_score:.2f}" if wide else f"{agent.health_score:.2f}"
        load = f"{bar(agent.load_factor, 10 if wide else 6)} {agent.load_factor:.2f}"
        cells = [
            Text(agent.agent_id),
            Text(", ".join(sorted(agent.capabilities))),
            status_text(agent.status),
            Text("-") if gone else Text(health, style=health_style(agent.health_score)),
            Text("-") if gone else Text(load, style=load_style(agent.load_factor)),
            Text(ago(agent.last_heartbeat)),
            Text(because(agent.status_reason, agent.status_note)),
        ]
        table.add_row(*cells[: len(table.columns)], style="dim" if gone else "")
    return table


def _load(ledger: Ledger) -> Text:
    if ledger.load is None or ledger.begun is None:
        return Text("no load yet", style="dim")
    load = ledger.load
    done, took = load.recent()
    line = Text("trades wanted ", no_wrap=True)
    line.append(f"{load.rate:5.1f}/s {bar(load.rate / BUSIEST, 12)}", style="cyan")
    line.append(f"  done {done:4.1f}/s in {took * 1000:3.0f} ms  {load.done} in all")
    line.append(f", {load.failed} failed", style="red" if load.failed else "default")
    return line


def _scaling(capabilities: list[CapabilityScaling]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("SCALING", "AGENTS", "WANTED", "LIMITS", "LOAD"):
        table.add_column(name, no_wrap=True, min_width=_WIDEST_CAPABILITY if name == "SCALING" else len(name))
    table.add_column("BECAUSE", no_wrap=True, overflow="ellipsis")
    for item in capabilities:
        # The columns before say already whether something is done, and that an order is open.
        because = item.reason.removeprefix("nothing done: ").rpartition(" is open; ")[2]
        ordered = item.desired != item.observed.agents
        table.add_row(
            item.capability,
            str(item.observed.agents),
            Text(str(item.desired), style="bold yellow" if ordered else ""),
            f"{item.policy.min_agents}-{item.policy.max_agents}",
            number(item.observed.mean_load),
            because,
        )
    return table


def _happenings(happenings: list[Happening]) -> Group:
    return Group(*(happening_line(happening) for happening in happenings))


def happening_line(happening: Happening) -> Text:
    """Return one thing that happened, on one line."""
    line = Text(f"{clock(happening.at)}  ", style="dim", no_wrap=True, overflow="ellipsis")
    line.append(f"{happening.who:<19} ", style="bold")
    line.append(happening.words, style=happening.style or "default")
    return line
