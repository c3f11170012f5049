"""The `agent-registry` command: its subcommands, and how each of them ends."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from agent_registry import lookup, operate, scaling, serving, watching
from agent_registry.demo import command as demo
from agent_registry.failure import EXIT_CODES, CommandError, Exit
from agent_registry.usage import usage_error

app = typer.Typer(
    name="agent-registry",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"agent-registry {version('agent-registry')}\n")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _: Annotated[
        bool,
        typer.Option("--version", metavar="", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """The registry for agents on NATS: run it, look into it, operate it."""


_PANELS = {
    "Run": (serving.up, serving.serve, demo.demo),
    "Look": (lookup.agents, lookup.discover, lookup.get, lookup.stats, lookup.capabilities, watching.watch),
    "Operate": (operate.suspend, operate.resume, operate.drain, operate.deregister),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel, epilog=EXIT_CODES)(_command)
app.add_typer(scaling.app, name="scaling", rich_help_panel="Operate", epilog=EXIT_CODES)


def main() -> NoReturn:
    """Run the command line and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; whatever went wrong has been said on standard error."""
    try:
        code = app(list(arguments), prog_name="agent-registry", standalone_mode=False)
    except CommandError as error:
        _say(error.message, error.hint)
        return error.code
    except typer.TyperException as error:
        if error.format_message():  # else there was no command, and the help has been shown
            refused = usage_error(error)
            _say(refused.message, refused.hint)
        return Exit.USAGE
    except typer.Abort:
        return 130
    except Exception as error:  # the last resort: a person gets a line, whoever looks for the fault the traceback
        if os.environ.get("AGENT_REGISTRY_LOG_LEVEL", "").lower() == "debug":
            traceback.print_exc()
        _say(
            f"this is a fault of agent-registry: {type(error).__name__}: {error}",
            "AGENT_REGISTRY_LOG_LEVEL=debug shows the traceback",
        )
        return Exit.BUG
    return code if isinstance(code, int) else Exit.DONE


def _say(message: str, hint: str) -> None:
    line = f"error: {' '.join(message.split())}"
    if sys.stderr.isatty():
        line = f"\x1b[31merror:\x1b[0m{line.removeprefix('error:')}"
    sys.stderr.write(line + (f"\nhint: {hint}" if hint else "") + "\n")
