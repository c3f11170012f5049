"""The orchestrate command: agents of one command, started and stopped as the registry orders."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_registry.failure import CommandError, Exit
from agent_registry.options import AsJson, aimed
from agent_registry.output import emit_line, screen
from agent_registry.reader import Reader
from agent_registry.session import connected
from agent_registry.stopping import Stopping, until_signalled
from agent_registry.store import default_store
from agent_registry.target import Target
from agent_registry.wording import clock, count

if TYPE_CHECKING:
    from agents_sdk.act import Act
    from agents_sdk.client import RegistryClient
    from agents_sdk.orchestrator import Orchestrator
    from agents_sdk.process_launcher import ProcessLauncher

Tell = Callable[[str], None]


@aimed
def orchestrate(
    target: Target,
    *,
    launch: Annotated[
        str,
        typer.Option(
            metavar="COMMAND",
            help="What starts one agent; {agent_id} and {capability} in it are filled in.",
            show_default=False,
        ),
    ],
    capabilities: Annotated[
        list[str] | None,
        typer.Option(
            "--capability",
            "-c",
            metavar="NAME",
            help="Carry out the orders of this one; several: of each. All when left out.",
            show_default=False,
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("--max", min=1, metavar="N", help="So many processes at most, whatever is ordered.")
    ] = 10,
    log_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where each agent's output goes, to ID.log; one orchestrator uses it.",
            show_default="one of its own",
            file_okay=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start and stop agents on this machine as the registry's scaling orders say, until Ctrl-C.

    COMMAND is run without a shell, once for each agent. In its environment are
    AGENT_REGISTRY_AGENT_ID, which an agent of the SDK takes for its id,
    AGENT_REGISTRY_CAPABILITY and NATS_URL.

    Who is too many is drained first, and stopped when it has left.
    Who crashes is started again. Ctrl-C and SIGTERM end all in order, as does
    a reader of what it says who has had enough, such as head.
    If this is killed they work on, and the same command finds them again.

    With --json: one object a line, told apart by their field `event`: `act`
    when an order comes to another phase, `said` for what people are told.
    """
    names = sorted({name.strip().lower() for name in capabilities or ()})
    durable = _durable(names)
    folder = log_dir or _own_folder(target, durable)
    asyncio.run(_orchestrate(target, launch, names, most, folder, durable, as_json))


async def _orchestrate(
    target: Target, launch: str, names: list[str], most: int, folder: Path, durable: str, as_json: bool
) -> None:
    from agents_sdk.launcher import LaunchError
    from agents_sdk.orchestrator import Orchestrator

    with until_signalled() as stopping:
        reader = Reader(stopping.ask)
        tell = reader.telling(_tell_json if as_json else _tell)
        launcher = _launcher(target, launch, folder, most, tell)
        stopping.at_once = launcher.kill
        async with connected(target, lasting=True) as registry:
            await _check(registry, names)
            orchestrator = Orchestrator(
                registry,
                launcher,
                names or None,
                durable=durable,
                say=tell,
                watch=reader.telling(_watch_json if as_json else _watch),
            )
            try:
                async with launcher:
                    tell(f"orchestrating {', '.join(names) or 'every capability'} at {target.shown}; logs in {folder}")
                    await _tell_standing(registry, names, tell)
                    await _run(orchestrator, stopping)
                    await _tell_end(launcher, tell)
            except LaunchError as error:
                raise CommandError(str(error).replace("folder:", "--log-dir:"), code=Exit.USAGE) from error
        reader.check()


def _launcher(target: Target, launch: str, folder: Path, most: int, tell: Tell) -> ProcessLauncher:
    from agents_sdk.process_launcher import ProcessLauncher

    environment = {**os.environ, "NATS_URL": target.url, "AGENT_REGISTRY_PREFIX": target.prefix}
    try:
        return ProcessLauncher(launch, folder=folder, max_processes=most, environment=environment, say=tell)
    except ValueError as error:
        said = str(error).removeprefix("command: ")
        raise CommandError(f"--launch: {said}", "see: agent-registry orchestrate --help", Exit.USAGE) from error


async def _run(orchestrator: Orchestrator, stopping: Stopping) -> None:
    """Carry out orders until this process is asked to end."""
    from agents_sdk.cancelling import cancel

    running, asked = asyncio.ensure_future(orchestrator.run()), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        asked.cancel()
        await cancel(running)


async def _check(registry: RegistryClient, names: list[str]) -> None:
    """Refuse capabilities for which nothing would ever be ordered.

    Raises:
        CommandError: If the registry does not know one.
    """
    vocabulary = await registry.capabilities()
    unknown = set(names) - {capability.name for capability in vocabulary.capabilities}
    if unknown and not vocabulary.open:
        raise CommandError(
            f"--capability: the registry knows no {', '.join(sorted(unknown))}",
            "see: agent-registry capabilities",
            Exit.USAGE,
        )


async def _tell_standing(registry: RegistryClient, names: list[str], tell: Tell) -> None:
    """Say how things are, and what keeps anything from being ordered."""
    report = await registry.scaling()
    if not report.enabled:
        tell("auto-scaling is off (AGENT_REGISTRY_AUTO_SCALING_ENABLED): the registry orders nothing")
    known = {each.capability: each for each in report.capabilities}
    for name in names or known:
        if name in known:
            each = known[name]
            tell(f"{name}: {count(each.observed.agents, 'agent')}, {each.desired} wanted: {each.reason}")
        else:
            tell(
                f"{name}: no agent and no policy, so nothing is ordered; try: agent-registry scaling set {name} --min 2"
            )


async def _tell_end(launcher: ProcessLauncher, tell: Tell) -> None:
    if launcher.agents:
        tell(f"ending: {', '.join(launcher.agents)} finish their work; a second signal ends them at once")


def _durable(names: list[str]) -> str:
    """Return what NATS is to remember the orders of some capabilities by; a plus is in no name of one."""
    return f"orchestrator-{'+'.join(names)}" if names else "orchestrator"


def _own_folder(target: Target, durable: str) -> Path:
    where = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{target.shown.partition('://')[2]}-{target.prefix}")
    return default_store().with_name("agent-registry-agents") / where / durable


def _tell(words: str) -> None:
    screen().print(f"[dim]{clock(time.time())}[/]  ", end="")
    screen().print(words, markup=False, soft_wrap=True)


def _tell_json(words: str) -> None:
    emit_line({"event": "said", "at": time.time(), "words": words})


def _watch(act: Act) -> None:
    """Tell an order when it is taken up; what is done about it the orchestrator says."""
    from agents_sdk.act import Phase

    order = act.order
    if act.phase is Phase.WAITING:
        named = f" ({', '.join(order.agents)})" if order.agents else ""
        _tell(
            f"order: {order.action} {order.capability} {order.observed.agents} → {order.desired}{named}: {order.reason}"
        )


def _watch_json(act: Act) -> None:
    emit_line({"event": "act", **_plain(act)})


def _plain(act: Act) -> dict[str, Any]:
    order = act.order
    return {
        "order_id": order.order_id,
        "capability": order.capability,
        "action": str(order.action),
        "desired": order.desired,
        "generation": order.generation,
        "attempt": order.attempt,
        "phase": str(act.phase),
        "since": act.since,
        "outcome": act.outcome,
        "started": act.started,
        "drained": act.drained,
    }
