"""`scaling --watch`: the scaler's view, again and again, until Ctrl-C."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from agent_registry.output import emit_line, screen
from agent_registry.session import connected
from agent_registry.stopping import until_signalled
from agent_registry.target import Target

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from agents_sdk.client import RegistryClient
    from agents_sdk.protocol.scaling import CapabilityScaling, ScalingReport

INTERVAL = 0.5
"""Seconds between two looks; the scaler itself looks every few seconds."""

SHOWN = 12
"""Changes that stand below the table."""


def follow_scaling(target: Target, capability: str | None, as_json: bool) -> None:
    """Show a capability's scaling, or that of all, until Ctrl-C.

    Raises:
        CommandError: If the registry cannot be reached at first, or refuses. Later outages are waited for.
    """
    asyncio.run(_follow(target, capability, as_json))


async def _follow(target: Target, capability: str | None, as_json: bool) -> None:
    with until_signalled() as stopping:
        async with connected(target, lasting=True) as registry:
            if screen().is_terminal and not as_json:
                show = _show_table(registry, capability, target.shown)
            else:
                show = _show_lines(registry, capability, as_json)
            await stopping.or_until(show)


async def _show_lines(registry: RegistryClient, capability: str | None, as_json: bool) -> None:
    """Print a line for each capability that changed."""
    changes = _Changes()
    report = await registry.scaling(capability)
    while True:
        for item in changes.of(report):
            if as_json:
                emit_line(item)
            else:
                screen().print(_line(item), soft_wrap=True)
        report = await _next(registry, capability) or report


async def _show_table(registry: RegistryClient, capability: str | None, where: str) -> None:
    """Show a table that stays, with the last changes below it."""
    from rich.live import Live

    changes = _Changes()
    told: deque[Text] = deque(maxlen=SHOWN)
    report = await registry.scaling(capability)
    is_there = True
    with Live(console=screen(), screen=True, auto_refresh=False) as live:
        while True:
            told.extend(_line(item) for item in changes.of(report))
            live.update(_page(report, told, where, is_there, live.console.width), refresh=True)
            newest = await _next(registry, capability)
            is_there, report = newest is not None, newest or report


async def _next(registry: RegistryClient, capability: str | None) -> ScalingReport | None:
    """Return the next report; None while nobody leads, or NATS is away."""
    from agents_sdk.protocol.errors import UnavailableError

    await asyncio.sleep(INTERVAL)
    try:
        return await registry.scaling(capability)
    except UnavailableError:
        return None


class _Changes:
    """Which capabilities differ from how they were told last."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[object, ...]] = {}

    def of(self, report: ScalingReport) -> list[CapabilityScaling]:
        """Return those that changed: their numbers or orders; a load alone is no change."""
        changed = []
        for item in report.capabilities:
            seen = item.observed
            ended = item.last_order and item.last_order.order_id
            orders = tuple(order.order_id for order in item.orders)
            now = (seen.agents, seen.pending, item.desired, orders, ended, item.policy.model_dump_json())
            if self._told.get(item.capability) != now:
                self._told[item.capability] = now
                changed.append(item)
        return changed


def _line(item: CapabilityScaling) -> Text:
    from rich.text import Text

    from agent_registry.tables import load_text
    from agent_registry.wording import clock, count

    seen = item.observed
    line = Text(f"{clock(time.time())}  {item.capability}: {count(seen.agents, 'agent')}")
    if item.desired != seen.agents:
        line.append(f", {item.desired} wanted", style="bold")
    if seen.mean_load is not None:
        line.append(", load ").append(load_text(seen.mean_load, bars=False))
    for order in item.orders:
        named = f" {', '.join(order.agents)}" if order.agents else ""
        line.append(f"; {order.action}{named}", style="cyan")
    if not item.orders and item.last_order is not None:
        line.append(f"; {item.last_order.action} {item.last_order.outcome}", style="dim")
    return line.append(f"; {item.reason}", style="dim")


def _page(report: ScalingReport, told: deque[Text], where: str, is_there: bool, width: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from agent_registry.scaling import NOTHING, OFF
    from agent_registry.tables import scaling_table
    from agent_registry.wording import clock

    heading = Text(f"scaling at {where}, {clock(time.time())}", style="bold")
    if not is_there:
        heading.append("   no registry leads at the moment", style="bold red")
    if not report.enabled:
        heading.append(f"\n{OFF}", style="yellow")
    table = scaling_table(report.capabilities, width) if report.capabilities else Text(NOTHING, style="dim")
    return Group(heading, Text(), table, Text(), *told, Text("\nCtrl-C ends it", style="dim"))
