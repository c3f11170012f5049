"""The `agent-registry` command: its subcommands, and how each of them ends."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import typer

from agent_registry import lookup, operate, scaling, serving, watching
from agent_registry.backup import exporting, importing
from agent_registry.demo import command as demo
from agent_registry.doctor import command as doctor
from agent_registry.failure import EXIT_CODES, CommandError, Exit

app = typer.Typer(
    name="agent-registry",
    help="The registry for agents on NATS: run it, look into it, operate it.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS = {
    "Run": (serving.up, serving.serve, demo.demo),
    "Look": (
        lookup.agents,
        lookup.discover,
        lookup.get,
        lookup.stats,
        lookup.capabilities,
        watching.watch,
        doctor.doctor,
    ),
    "Operate": (operate.suspend, operate.resume, operate.drain, operate.deregister),
    "Keep": (exporting.export, importing.import_),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        # Without the underscore that keeps a name from being a word of Python's.
        app.command(_command.__name__.rstrip("_"), rich_help_panel=_panel, epilog=EXIT_CODES)(_command)
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
        # A wrong command line; typer's own way is a box of five lines.
        _say(error.format_message(), "see: agent-registry --help")
        return error.exit_code
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
