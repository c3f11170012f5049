"""The options that commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from agent_registry.failure import CommandError, Exit
from agent_registry.target import Target

P = ParamSpec("P")

_PANEL = "Which registry"


def checked_prefix(value: str) -> str:
    """Return the prefix if subjects can be made of it.

    Raises:
        typer.BadParameter: If not.
    """
    from agents_sdk.protocol.subjects import Subjects

    try:
        return Subjects(value).prefix
    except ValueError as error:
        raise typer.BadParameter(str(error).removeprefix("prefix: ")) from error


NatsUrl = Annotated[
    str | None,
    typer.Option(
        "--nats",
        metavar="URL",
        help="NATS server.",
        show_default="NATS_URL, else the context's, else nats://127.0.0.1:4222",
        rich_help_panel=_PANEL,
    ),
]
ContextName = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Context of the nats CLI to take server and login from.",
        show_default="NATS_CONTEXT, else without NATS_URL the selected one",
        rich_help_panel=_PANEL,
    ),
]
Creds = Annotated[
    Path | None,
    typer.Option(
        "--creds",
        metavar="FILE",
        envvar="NATS_CREDS",
        help="NATS credentials file.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Prefix = Annotated[
    str,
    typer.Option(
        "--prefix",
        metavar="TOKEN",
        envvar="AGENT_REGISTRY_PREFIX",
        help="First token of the registry's subjects.",
        rich_help_panel=_PANEL,
        callback=checked_prefix,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, for a pipe.")]
AgentIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The agent's id.", show_default=False)]
ReadyFile = Annotated[
    Path | None,
    typer.Option(
        "--ready-file",
        metavar="FILE",
        help="Write NATS' URL and the process ids there, as JSON, once requests are answered.",
        show_default=False,
        dir_okay=False,
    ),
]

_CONNECTION = {
    "nats": (NatsUrl, None),
    "context": (ContextName, None),
    "creds": (Creds, None),
    "prefix": (Prefix, "registry"),
}


def aimed(command: Callable[Concatenate[Target, P], None]) -> Callable[..., None]:
    """Give a command the options that say which registry is meant; they reach it as one `Target`."""

    @functools.wraps(command)
    def run(*args: Any, nats: str | None, context: str | None, creds: Path | None, prefix: str, **options: Any) -> None:
        command(Target.resolve(nats, context, creds, prefix), *args, **options)

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _CONNECTION.items()
    ]
    parameters = [*own, *shared]
    # typer reads a command's options from these two.
    run.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def refuse_lost_options(invocation: typer.Context, argument: str) -> None:
    """Refuse `scaling --nats URL set ...`: `set` has options of its own and would not see that one.

    Args:
        invocation: Of a command that has subcommands.
        argument: What stands for the argument of the one that was called.

    Raises:
        CommandError: If an option stands before the subcommand.
    """
    for name in invocation.params:
        source = invocation.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            called = invocation.invoked_subcommand
            raise CommandError(
                f"--{name.removeprefix('as_')} must come after `{called}`",
                f"like: agent-registry {invocation.info_name} {called} {argument} --nats URL",
                Exit.USAGE,
            )
