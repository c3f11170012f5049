"""The demo command."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_registry.stopping import until_signalled

if TYPE_CHECKING:
    from agent_registry.demo.ledger import Ledger

FRAME = 0.2
"""Seconds between two frames of the display."""


def demo(
    *,
    seconds: Annotated[float, typer.Option(min=20.0, max=3600.0, metavar="SECONDS", help="How long it lasts.")] = 70.0,
    plain: Annotated[bool, typer.Option("--plain", metavar="", help="Plain lines instead of a live display.")] = False,
) -> None:
    """Show the whole loop at work, for a minute: nothing to set up, nothing left behind.

    A registry with a NATS of its own on a free port, agents that trade with one another, a load that rises and falls,
    one that crashes, one that is suspended and drained, and an orchestrator that carries out the scaling orders.
    """
    from agent_registry.demo.ledger import Ledger
    from agent_registry.demo.telling import closing, show

    ledger = Ledger(seconds)
    with tempfile.TemporaryDirectory(prefix="agent-registry-demo-") as folder:
        # What the SDK logs would tear the display apart.
        logging.basicConfig(filename=Path(folder) / "demo.log", level=logging.INFO)
        asyncio.run(_perform(ledger, Path(folder), live=sys.stdout.isatty() and not plain))
    if ledger.begun is not None:
        show(closing(ledger))


async def _perform(ledger: Ledger, folder: Path, live: bool) -> None:
    from agent_registry.demo.stage import Stage

    stage = Stage(folder, ledger)
    with until_signalled() as stopping:
        stopping.at_once = stage.fleet.kill_all
        showing = asyncio.ensure_future(_live(ledger) if live else _plain(ledger))
        playing = asyncio.ensure_future(stage.run())
        asked = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait((playing, asked, showing), return_when=asyncio.FIRST_COMPLETED)
            if showing.done():
                showing.result()
        finally:
            for task in (asked, playing):
                task.cancel()
            await asyncio.wait((asked, playing))
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
    if not playing.cancelled():
        playing.result()


async def _live(ledger: Ledger) -> None:
    from rich.console import Console
    from rich.live import Live

    from agent_registry.demo.screen import draw

    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(draw(ledger, console.width, console.height), refresh=True)
            await asyncio.sleep(FRAME)


async def _plain(ledger: Ledger) -> None:
    from agent_registry.demo.telling import Teller

    teller = Teller(ledger)
    ledger.on_happening = teller.happened
    while True:
        teller.tick()
        await asyncio.sleep(FRAME)
