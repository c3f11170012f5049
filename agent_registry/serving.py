"""Running a registry: `up` with a NATS of its own, `serve` with one that is there."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_registry import context, environment
from agent_registry import ready_file as ready
from agent_registry.failure import CommandError, Exit
from agent_registry.options import Prefix, ReadyFile, aimed
from agent_registry.session import reach, too_many_copies
from agent_registry.stopping import Stopping, until_signalled
from agent_registry.store import default_store, held
from agent_registry.target import Target
from agents_sdk.servers import DEFAULT_URL

if TYPE_CHECKING:
    from registry.replica import Replica
    from registry.settings import Settings

DEFAULT_PORT = 4222

NATS_CLI = "github.com/nats-io/natscli, go install github.com/nats-io/natscli/nats@latest"
"""Where the `nats` command line comes from."""

Port = Annotated[
    int, typer.Option(min=0, max=65535, metavar="N", help="Where NATS listens, on 127.0.0.1; 0 picks a free port.")
]
Store = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where everything is kept.",
        show_default="agent-registry in $XDG_DATA_HOME or ~/.local/share",
        file_okay=False,
    ),
]


def up(
    *, port: Port = DEFAULT_PORT, store: Store = None, ready_file: ReadyFile = None, prefix: Prefix = "registry"
) -> None:
    """Start NATS and a registry on this machine: all that one machine needs.

    Started again on the same store, it has everything that was acknowledged, even after kill -9.
    """
    settings = _settings(prefix=prefix)
    folder = (store or default_store()).expanduser().absolute()
    with held(folder, port, "for a second registry: agent-registry up --port 0 --store DIR"):
        ready.withdraw(ready_file)  # one that an earlier run left behind is not true any more
        _run(_up(settings, port, folder, ready_file))
    _say(f"stopped; everything is kept in {folder}\n")


@aimed
def serve(target: Target, *, ready_file: ReadyFile = None) -> None:
    """Start one replica of the registry against a NATS that is there; start as many as wanted.

    NATS needs JetStream. All else is set by environment variables AGENT_REGISTRY_<NAME>.
    """
    ready.withdraw(ready_file)
    changes: dict[str, Any] = {"prefix": target.prefix}
    if target.creds:
        changes["credentials"] = Path(target.creds)
    settings = _settings(**changes)
    if settings.credentials is not None:
        target = replace(target, creds=str(settings.credentials))
    _run(_serve(settings, target, ready_file))


async def _up(settings: Settings, port: int, store: Path, ready_file: Path | None) -> None:
    from registry.shell.child import ServerError
    from registry.shell.embedded import NatsServer

    with until_signalled() as stopping:
        try:
            server = await NatsServer.start(port=port, store=store)
        except ServerError as error:
            raise CommandError(str(error), code=Exit.UNREACHABLE) from error
        stopping.at_once = server.kill
        failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server.on_failed = lambda why: None if failed.done() else failed.set_result(why)

        def announce() -> None:
            _write_ready(ready_file, server.url, server.pid)
            server.on_restarted = lambda: _write_ready(ready_file, server.url, server.pid)
            _say(banner(server.url, settings.prefix, store, os.getpid()))

        try:
            await _until_stopped(stopping, settings, server.url, failed, announce)
        finally:
            await server.stop()
            ready.withdraw(ready_file)


async def _serve(settings: Settings, target: Target, ready_file: Path | None) -> None:
    url = target.url_with_login()
    # A replica would try for longer, and say so with each attempt: right once it runs, not for who mistyped a URL.
    await reach(target)

    def announce() -> None:
        _write_ready(ready_file, target.shown, None)
        _say(banner(target.shown, settings.prefix, None, os.getpid()))

    with until_signalled() as stopping:
        try:
            never = asyncio.get_running_loop().create_future()
            await _until_stopped(stopping, settings, url, never, announce)
        finally:
            ready.withdraw(ready_file)


async def _until_stopped(
    stopping: Stopping, settings: Settings, url: str, nats_failed: asyncio.Future[str], announce: Callable[[], None]
) -> None:
    """Run a replica until this process is asked to end.

    Raises:
        CommandError: If the replica does not start, or cannot go on.
    """
    from registry.replica import Replica

    replica = Replica(settings, url)
    asked = asyncio.ensure_future(stopping.wait())
    try:
        starting = asyncio.ensure_future(_start(replica))
        await asyncio.wait((starting, asked, nats_failed), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            announce()
            assert replica.failed is not None
            await asyncio.wait((asked, nats_failed, replica.failed), return_when=asyncio.FIRST_COMPLETED)
            if replica.failed.done():
                raise CommandError(replica.failed.result(), code=Exit.UNREACHABLE)
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        if nats_failed.done():
            raise CommandError(nats_failed.result(), code=Exit.UNREACHABLE)
    finally:
        asked.cancel()
        await replica.stop()


async def _start(replica: Replica) -> None:
    from registry.shell.bus_nats import UnreachableError
    from registry.shell.jetstream_nats import CopiesError, StoreError

    try:
        await replica.start()
    except CopiesError as error:
        raise too_many_copies(error) from error
    except (UnreachableError, StoreError) as error:
        raise CommandError(
            str(error), "is NATS running, with JetStream? agent-registry up brings its own", Exit.UNREACHABLE
        ) from error


def _write_ready(ready_file: Path | None, url: str, nats_pid: int | None) -> None:
    if ready_file is not None:
        ready.write(ready_file, {"nats": url, "pid": os.getpid(), "nats_pid": nats_pid})


def banner(url: str, prefix: str, store: Path | None, pid: int) -> str:
    """Return what to tell a person who just started a registry.

    Args:
        url: Where NATS listens.
        prefix: First token of the registry's subjects.
        store: Where everything is kept; None when that is somebody else's business.
        pid: Process id of the registry.
    """
    lines = ["", f"agent registry is running on {url}, as process {pid}"]
    if store is not None:
        lines.append(f"it keeps everything in {store}")
    lines += ["", "try in another terminal:", "", *exports(url, prefix)]
    lines += [
        "  agent-registry watch",
        f"""  nats req {prefix}.register '{{"agent_type":"trading_agent","capabilities":["trading"]}}'""",
        f"  nats req {prefix}.discover ''",
        "  agent-registry agents",
        "",
        *([] if shutil.which("nats") else [f"the nats command is a project of its own: {NATS_CLI}"]),
        "Ctrl-C stops it",
        "",
    ]
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def exports(url: str, prefix: str) -> list[str]:
    """Return the lines that a person's shell needs before it finds the command line, and that the registry.

    Args:
        url: Where NATS listens.
        prefix: First token of the registry's subjects.
    """
    lines = []
    if shutil.which("agent-registry") is None:
        lines.append(f'  export PATH="{Path(sys.executable).parent}:$PATH"')
    if url != DEFAULT_URL or context.selected():  # which else goes first
        lines.append(f"  export NATS_URL={url}")
    if prefix != "registry":
        lines.append(f"  export AGENT_REGISTRY_PREFIX={prefix}")
    return lines


def _settings(**changes: Any) -> Settings:
    from registry.shell import observability

    settings = environment.settings(**changes)
    if observability.is_configured():
        try:
            observability.configure()
        except ValueError as error:
            raise CommandError(str(error), code=Exit.USAGE) from None
    return settings


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where there is one: it halves what a request costs at low load."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        pass  # there is none for Windows
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main)
