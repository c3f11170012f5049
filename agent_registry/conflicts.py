"""The commands on conflicts: which rules there are and who breaks them, and how to set them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_registry.failure import CommandError, Exit
from agent_registry.options import AsJson, aimed, refuse_lost_options
from agent_registry.output import emit, print_table, screen
from agent_registry.session import ask
from agent_registry.target import Target

if TYPE_CHECKING:
    from agents_sdk.protocol.conflicts import ConflictReport

HELP = "see: agent-registry conflicts set --help"

app = typer.Typer(
    help="Show the rules on what agents must not be together, and who breaks them; set one with `conflicts set`.",
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
@aimed
def show(
    target: Target,
    invocation: typer.Context,
    *,
    name: Annotated[
        str | None, typer.Option("--rule", metavar="NAME", help="Only this one.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the rules on what agents must not be together, and who breaks them now."""
    if invocation.invoked_subcommand is not None:
        refuse_lost_options(invocation, "NAME")
        return
    _show(ask(target, lambda registry: registry.conflicts(name)), as_json, name)


@app.command("set")
@aimed
def set_rule(
    target: Target,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    *,
    combine: Annotated[
        str | None,
        typer.Option(
            "--combine", metavar="A,B", help="No agent may have these capabilities together.", show_default=False
        ),
    ] = None,
    versions: Annotated[
        list[str] | None,
        typer.Option(
            "--version",
            metavar="SPEC",
            help="Versions that must not run beside those of the other ones, such as '<2'; twice or more.",
            show_default=False,
        ),
    ] = None,
    agent_type: Annotated[
        str | None, typer.Option("--type", metavar="NAME", help="Versions of agents of this type.", show_default=False)
    ] = None,
    capability: Annotated[
        str | None,
        typer.Option(
            "--capability", "-c", metavar="NAME", help="Versions of agents with this one.", show_default=False
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", metavar="", help="Only tell who breaks it, and refuse nobody.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", metavar="", help="Remove the rule.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set a rule, at once and for all replicas, in the place of the one of that name; or remove it.

    Who breaks it already is told of, and stays.
    """
    rule = _rule(combine, versions, agent_type, capability, report)
    if remove:
        if rule:
            raise CommandError("--remove goes with no other option of the rule", HELP, Exit.USAGE)
        rule = {"remove": True}
    elif combine is None and not versions:
        raise CommandError("nothing to set: neither --combine nor --version", HELP, Exit.USAGE)
    is_there = not remove or bool(ask(target, lambda registry: registry.conflicts(name)).rules)
    changed = ask(target, lambda registry: registry.set_conflict(name, **rule))
    if remove and not as_json:
        screen().print(
            f"rule {name} is removed" if is_there else f"rule {name} is not set: nothing to do", markup=False
        )
        return
    _show(changed, as_json)


def _rule(
    combine: str | None, versions: list[str] | None, agent_type: str | None, capability: str | None, report: bool
) -> dict[str, Any]:
    """Return the fields of the rule that the options describe; what does not go together the registry refuses."""
    given = {
        "kind": "combination" if combine is not None else "versions" if versions else None,
        "capabilities": None if combine is None else [word.strip() for word in combine.split(",")],
        "versions": versions or None,
        "agent_type": agent_type,
        "capability": capability,
        "action": "report" if report else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _show(report: ConflictReport, as_json: bool, name: str | None = None) -> None:
    if as_json:
        emit(report)
        return
    from agent_registry.rules import rules_table

    if report.rules:
        print_table(lambda width: rules_table(report.rules, width))
    elif not report.unreadable:
        screen().print("no rules are set" if name is None else f"no rule {name} is set", style="dim", markup=False)
    for unreadable in report.unreadable:
        screen().print(
            f"rule {unreadable} cannot be read and does not hold; set it anew, or --remove it", style="yellow"
        )
