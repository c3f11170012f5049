"""`python -m deploy.cluster`: a cluster to look at, and to take things away from."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from agent_registry import program
from agent_registry import ready_file as ready
from agent_registry.failure import EXIT_CODES, CommandError, Exit
from agent_registry.options import ReadyFile
from agent_registry.serving import exports
from agent_registry.stopping import until_signalled
from agent_registry.store import default_store, held
from deploy.cluster.cluster import Cluster
from deploy.cluster.nodes import NAMES, ROUTE_OFFSET
from registry.shell.child import ServerError

DEFAULT_PORT = 4223
"""Beside that of `agent-registry up`."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Port = Annotated[
    int,
    typer.Option(
        min=0,
        max=65535 - ROUTE_OFFSET - len(NAMES),
        metavar="N",
        help=f"Where the first node listens for clients, on 127.0.0.1; the others on the ports that follow, and all of "
        f"them for one another {ROUTE_OFFSET} higher; 0 picks free ports.",
    ),
]
Store = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where everything is kept.",
        show_default="agent-registry-cluster in $XDG_DATA_HOME or ~/.local/share",
        file_okay=False,
    ),
]


@app.command(epilog=EXIT_CODES)
def cluster(*, port: Port = DEFAULT_PORT, store: Store = None, ready_file: ReadyFile = None) -> None:
    """Start three NATS servers with JetStream and two replicas of the registry on this machine.

    Everything is kept three times and outlives the loss of any one of the servers. Settings of the registry are
    environment variables AGENT_REGISTRY_<NAME>, as always.
    """
    folder = (store or default_store().with_name("agent-registry-cluster")).expanduser().absolute()
    with held(folder, port, "for a second cluster: --port 0 --store DIR"):
        asyncio.run(_run(port, folder, ready_file))
    print(f"stopped; everything is kept in {folder}")


async def _run(port: int, folder: Path, ready_file: Path | None) -> None:
    ready.withdraw(ready_file)  # one that an earlier run left behind is not true any more

    def tell(text: str) -> None:
        print(text, flush=True)
        if ready_file is not None:
            ready.write(ready_file, _processes(running))

    with until_signalled() as stopping:
        try:
            running = Cluster(folder, port, tell)
        except ServerError as error:
            raise CommandError(str(error), code=Exit.UNREACHABLE) from error
        stopping.at_once = running.kill
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, running.start_again)
        asked = asyncio.ensure_future(stopping.wait())
        serving = asyncio.ensure_future(_serve(running, lambda: tell(_banner(running, folder))))
        try:
            await asyncio.wait((serving, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (serving, asked):
                task.cancel()
            await asyncio.wait((serving, asked))
            await running.stop()
            ready.withdraw(ready_file)
        if not serving.cancelled():
            serving.result()


async def _serve(running: Cluster, announce: Callable[[], None]) -> None:
    try:
        await running.start()
    except ServerError as error:
        raise CommandError(str(error), code=Exit.UNREACHABLE) from error
    announce()
    await running.watch()


def _processes(running: Cluster) -> dict[str, Any]:
    """Return what the ready file says; a process that does not run has no id."""
    return {
        "nats": running.url,
        "pid": os.getpid(),
        "nodes": {node.name: {"nats": node.url, "pid": node.pid if node.runs else None} for node in running.nodes},
        "replicas": {one.name: {"pid": one.pid if one.runs else None} for one in running.replicas},
    }


def _banner(running: Cluster, folder: Path) -> str:
    nodes = [f"  {node.name}   {node.url}   pid {node.pid}" for node in running.nodes]
    replicas = [f"  {one.name}    {'one of its replicas':22}   pid {one.pid}" for one in running.replicas]
    lines = [
        "",
        "a cluster of three NATS servers runs here, and an agent registry on it:",
        "",
        *nodes,
        *replicas,
        "",
        f"it keeps everything in {folder}, and its logs",
        "",
        "try in another terminal:",
        "",
        *exports(running.url, os.environ.get("AGENT_REGISTRY_PREFIX", "registry")),
        "  agent-registry watch",
        "  agent-registry agents",
        "  agent-registry doctor",
        f"  kill -9 {running.nodes[0].pid}   # or any other one: everything acknowledged stays, and the rest goes on",
        f"  kill -USR1 {os.getpid()}   # starts again what has ended",
        "",
        "Ctrl-C stops it all",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(program.run(app, "python -m deploy.cluster", sys.argv[1:]))
