"""One thing that happened, one line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.text import Text

from agent_registry.wording import ACTION_STYLES, STATUS_STYLES, ago, because, clock, count

if TYPE_CHECKING:
    from agents_sdk.protocol.discovery import AgentInfo
    from agents_sdk.protocol.events import ConflictEvent, RegistryEvent, StatusEvent
    from agents_sdk.protocol.scaling import ScalingOrder

JUST_NOW = 10.0
"""Seconds after which that an agent went offline is no news; clocks of two machines differ by less."""

_TIME = len("00:00:00  ")
_WHO = 28
_WHAT = 26


def heading(where: str, agents: int) -> Text:
    """Return the line above everything: what is watched, and how to read it."""
    there = count(agents, "agent") if agents else "no agents yet"
    line = Text(f"watching {where}: {there}", style="bold", no_wrap=True)
    return line.append("  (+ came, - gone; Ctrl-C ends)", style="dim")


def here(agent: AgentInfo) -> Text:
    """Return the line of an agent that is there already; nothing has happened to it now."""
    what = _status(agent.status)
    return _line(
        None, agent.agent_id, what, because(agent.status_reason, agent.status_note), sorted(agent.capabilities)
    )


def again(agents: int, changes: int | None) -> Text:
    """Return the line of being connected again.

    Args:
        agents: How many are there.
        changes: How many of them are not what they were; None when that cannot be told.
    """
    meanwhile = "" if changes is None else f", {count(changes, 'change')} meanwhile"
    what = Text("connected again", style="cyan")
    return _line(time.time(), "registry", what, f"{count(agents, 'agent')}{meanwhile}", [])


def found_changed(agent: AgentInfo) -> Text:
    """Return the line of a change that no event told of."""
    what = _status(agent.status)
    return _line(
        time.time(), agent.agent_id, what, because(agent.status_reason, agent.status_note), sorted(agent.capabilities)
    )


def joined(agent: AgentInfo) -> Text:
    """Return the line of an agent that came, or was found; who is offline for long only was not known here."""
    if agent.status == "offline" and agent.status_since and time.time() - agent.status_since > JUST_NOW:
        why = f"{because(agent.status_reason, agent.status_note)}, {ago(agent.status_since)} ago"
        return _line(None, agent.agent_id, _status(agent.status), why, sorted(agent.capabilities))
    what = Text("+ ", style="bold green") + _status(agent.status)
    at = agent.status_since or time.time()
    return _line(at, agent.agent_id, what, because(agent.status_reason, agent.status_note), sorted(agent.capabilities))


def changed(event: StatusEvent) -> Text:
    """Return the line of a change of status or registration."""
    if event.removed:
        what = Text("- gone", style="bold red")
    elif event.previous is None or event.previous == event.status:
        what = _status(event.status)
    else:
        what = _status(event.previous) + Text(" → ") + _status(event.status)
    return _line(event.at, event.agent_id, what, because(event.reason, event.note), event.capabilities)


def left(agent_id: str) -> Text:
    """Return the line of an agent that was found to be gone without an event that said so."""
    return _line(time.time(), agent_id, Text("- gone", style="bold red"), "", [])


def ordered(order: ScalingOrder) -> Text:
    """Return the line of a scaling order."""
    what = Text(f"{order.action} ", style=ACTION_STYLES.get(order.action, ""))
    what.append(
        f"{order.observed.agents} → {order.desired}" if order.delta else ", ".join(order.agents), style="default"
    )
    return _line(order.issued_at, f"scaling: {order.capability}", what, order.reason, [])


def clashed(event: ConflictEvent) -> Text:
    """Return the line of a conflict: somebody was refused, or a rule is broken, or no longer."""
    who = event.agents[0] if event.refused else f"rule: {event.rule}"
    what = Text("kept again", style="green") if event.resolved else Text("broken", style="bold red")
    return _line(event.at, who, Text("refused", style="yellow") if event.refused else what, event.message, [])


def announced(event: RegistryEvent) -> Text:
    """Return the line of something that happened to the registry itself."""
    why = f"replica {event.replica}, epoch {event.epoch}"
    if event.cause is not None:
        why = f"{event.cause}; of {count(event.live_agents or 0, 'agent')} {event.late_agents} late"
        why += f", {event.unreachable_agents or 0} unreachable"
    return _line(event.at, "registry", Text(event.what, style="cyan"), why, [])


def unknown(event: dict[str, Any]) -> Text:
    """Return the line of an event that this version has no words for."""
    import json

    return _line(time.time(), "registry", Text("event"), json.dumps(event), [])


def _status(status: str) -> Text:
    return Text(str(status), style=STATUS_STYLES.get(status, ""))


def _line(at: float | None, who: str, what: Text, why: str, capabilities: list[str]) -> Text:
    line = Text("" if at is None else f"{clock(at)}  ", style="dim", no_wrap=True)
    line.align("left", _TIME)
    line.append(who.ljust(_WHO) + " ", style="bold")
    line.append_text(what)
    line.append(" " * max(2, _WHAT - what.cell_len + 1), style="default")
    line.append(why, style="default")
    if capabilities:
        line.append(f"  [{', '.join(capabilities)}]", style="dim")
    line.rstrip()
    return line
