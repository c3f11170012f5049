"""The `agent-registry` command and its subcommands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from agent_registry import conflicts, contract, lookup, operate, orchestrating, program, scaling, serving, watching
from agent_registry.backup import exporting, importing
from agent_registry.demo import command as demo
from agent_registry.doctor import command as doctor
from agent_registry.failure import EXIT_CODES
from agent_registry.mcp_server import command as mcp_server

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
    "Run": (serving.up, serving.serve, orchestrating.orchestrate, mcp_server.mcp, demo.demo),
    "Look": (
        lookup.agents,
        lookup.discover,
        lookup.get,
        lookup.assignments,
        lookup.stats,
        lookup.capabilities,
        contract.schema,
        watching.watch,
        doctor.doctor,
    ),
    "Operate": (operate.suspend, operate.resume, operate.drain, operate.deregister, operate.release),
    "Keep": (exporting.export, importing.import_),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        # Without the underscore that keeps a name from being a word of Python's.
        app.command(_command.__name__.rstrip("_"), rich_help_panel=_panel, epilog=EXIT_CODES)(_command)
app.add_typer(conflicts.app, name="conflicts", rich_help_panel="Operate", epilog=EXIT_CODES)
app.add_typer(scaling.app, name="scaling", rich_help_panel="Operate", epilog=EXIT_CODES)


def main() -> NoReturn:
    """Run the command line and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; whatever went wrong has been said on standard error."""
    return program.run(app, "agent-registry", arguments)
