"""The scaling commands: what the scaler sees and wants, and how to tell it otherwise."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent_registry.failure import CommandError, Exit
from agent_registry.options import AsJson, aimed
from agent_registry.output import emit, print_table, screen
from agent_registry.session import ask
from agent_registry.target import Target

app = typer.Typer(
    help="Show what the scaler sees, wants and why; or change a capability's policy with `scaling set`.",
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _share(name: str, text: str) -> Any:
    return typer.Option(name, min=0.0, max=1.0, metavar="SHARE", help=text, show_default=False)


@app.callback()
@aimed
def show(
    target: Target,
    invocation: typer.Context,
    *,
    capability: Annotated[
        str | None, typer.Option("--capability", "-c", metavar="NAME", help="Only this one.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the scaler sees of each capability, how many agents it wants, and why."""
    if invocation.invoked_subcommand is not None:
        _refuse_lost_options(invocation)
        return
    report = ask(target, lambda registry: registry.scaling(capability))
    if as_json:
        emit(report)
        return
    from agent_registry.tables import scaling_table

    console = screen()
    if not report.enabled:
        console.print(
            "auto-scaling is off (AGENT_REGISTRY_AUTO_SCALING_ENABLED): no orders are issued\n", style="yellow"
        )
    if report.capabilities:
        print_table(lambda width: scaling_table(report.capabilities, width))
    else:
        console.print("nothing to scale: no agent is registered and no policy is set", style="dim")


@app.command("set")
@aimed
def set_policy(
    target: Target,
    capability: Annotated[str, typer.Argument(metavar="CAPABILITY", show_default=False)],
    *,
    min_agents: Annotated[
        int | None, typer.Option("--min", min=0, metavar="N", help="Fewer are ordered up.", show_default=False)
    ] = None,
    max_agents: Annotated[
        int | None, typer.Option("--max", min=1, metavar="N", help="More are ordered down.", show_default=False)
    ] = None,
    high_load: Annotated[float | None, _share("--high-load", "Scale up above this mean load.")] = None,
    low_load: Annotated[float | None, _share("--low-load", "Scale down below this mean load.")] = None,
    target_load: Annotated[float | None, _share("--target-load", "Mean load to aim at.")] = None,
    replace_below: Annotated[
        float | None, _share("--replace-below", "Replace agents with a health below this.")
    ] = None,
    stabilisation: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="SECONDS", help="How long load must stay low before scaling down.", show_default=False
        ),
    ] = None,
    order_timeout: Annotated[
        float | None,
        typer.Option(
            min=1.0, metavar="SECONDS", help="After this an order expires and is issued again.", show_default=False
        ),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", metavar="", help="Go back to the defaults first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change a capability's policy, at once and for all replicas; what is left out keeps its value."""
    given = {
        "min_agents": min_agents,
        "max_agents": max_agents,
        "high_load": high_load,
        "low_load": low_load,
        "target_load": target_load,
        "health_degraded": replace_below,
        "stabilisation": stabilisation,
        "order_timeout": order_timeout,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes and not reset:
        raise CommandError("nothing to set", "see: agent-registry scaling set --help", Exit.USAGE)
    report = ask(target, lambda registry: registry.set_scaling(capability, reset=reset, **changes))
    if as_json:
        emit(report)
        return
    from agent_registry.tables import scaling_table

    print_table(lambda width: scaling_table(report.capabilities, width))


def _refuse_lost_options(invocation: typer.Context) -> None:
    """Refuse `scaling --nats URL set ...`: `set` has options of its own and would not see that one."""
    for name in invocation.params:
        source = invocation.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise CommandError(
                f"--{name.removeprefix('as_')} must come after `{invocation.invoked_subcommand}`",
                f"like: agent-registry scaling {invocation.invoked_subcommand} CAPABILITY --nats URL",
                Exit.USAGE,
            )
