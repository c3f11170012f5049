"""The scaling commands: what the scaler sees and wants, and how to tell it otherwise."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent_registry.failure import CommandError, Exit
from agent_registry.options import AsJson, aimed, refuse_lost_options
from agent_registry.output import emit, print_table, screen
from agent_registry.session import ask
from agent_registry.target import Target

OFF = "auto-scaling is off (AGENT_REGISTRY_AUTO_SCALING_ENABLED): no orders are issued"

NOTHING = "nothing to scale: no agent is registered and no policy is set"

app = typer.Typer(
    help="Show what the scaler sees, wants and why; or change a capability's policy with `scaling set`.",
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _share(name: str, text: str) -> Any:
    return typer.Option(name, min=0.0, max=1.0, metavar="SHARE", help=text, show_default=False)


def _number(name: str, text: str, least: int = 0) -> Any:
    return typer.Option(name, min=least, metavar="N", help=text, show_default=False)


def _factor(name: str, text: str) -> Any:
    return typer.Option(name, min=0.0, metavar="FACTOR", help=text, show_default=False)


def _seconds(name: str, text: str, least: float = 0.0) -> Any:
    return typer.Option(name, min=least, metavar="SECONDS", help=text, show_default=False)


@app.callback()
@aimed
def show(
    target: Target,
    invocation: typer.Context,
    *,
    capability: Annotated[
        str | None, typer.Option("--capability", "-c", metavar="NAME", help="Only this one.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", "-w", metavar="", help="Go on showing it, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the scaler sees of each capability, how many agents it wants, and why.

    With --watch in a pipe, or with --json: a line whenever something changes.
    """
    if invocation.invoked_subcommand is not None:
        refuse_lost_options(invocation, "CAPABILITY")
        return
    if follow:
        from agent_registry.scaling_watch import follow_scaling

        follow_scaling(target, capability, as_json)
        return
    report = ask(target, lambda registry: registry.scaling(capability))
    if as_json:
        emit(report)
        return
    from agent_registry.tables import scaling_table

    if not report.enabled:
        screen().print(f"{OFF}\n", style="yellow")
    if report.capabilities:
        print_table(lambda width: scaling_table(report.capabilities, width))
    else:
        screen().print(NOTHING, style="dim")


@app.command("set")
@aimed
def set_policy(
    target: Target,
    capability: Annotated[str, typer.Argument(metavar="CAPABILITY", show_default=False)],
    *,
    min_agents: Annotated[int | None, _number("--min", "Fewer are ordered up.")] = None,
    max_agents: Annotated[int | None, _number("--max", "More are ordered down.", least=1)] = None,
    high_load: Annotated[float | None, _share("--high-load", "Scale up above this mean load.")] = None,
    low_load: Annotated[float | None, _share("--low-load", "Scale down below this mean load.")] = None,
    target_load: Annotated[float | None, _share("--target-load", "Mean load to aim at.")] = None,
    tolerance: Annotated[float | None, _share("--tolerance", "Loads off the target by this share are right.")] = None,
    looks: Annotated[int | None, _number("--looks", "Loads are averaged over so many looks.", least=2)] = None,
    stabilisation_up: Annotated[
        float | None, _seconds("--stabilisation-up", "How long load must stay high before scaling up.")
    ] = None,
    stabilisation_down: Annotated[
        float | None, _seconds("--stabilisation-down", "How long load must stay low before scaling down.")
    ] = None,
    panic_load: Annotated[float | None, _factor("--panic-load", "At this mean load scale up at once.")] = None,
    step_up: Annotated[int | None, _number("--step-up", "So many are added by one order at most.", least=1)] = None,
    step_down: Annotated[int | None, _number("--step-down", "So many leave by one order at most.", least=1)] = None,
    warm_up: Annotated[float | None, _seconds("--warm-up", "Until a new agent has its share of the work.")] = None,
    queue_weight: Annotated[
        float | None, _factor("--queue-weight", "What waiting work (metric queue_depth) counts as, to work begun.")
    ] = None,
    replace_below: Annotated[
        float | None, _share("--replace-below", "Replace agents with a health below this.")
    ] = None,
    replace_share: Annotated[float | None, _share("--replace-share", "Share that is replaced at a time.")] = None,
    order_timeout: Annotated[
        float | None, _seconds("--order-timeout", "After this an order expires and is issued again.", least=1.0)
    ] = None,
    dry_run: Annotated[
        bool | None,
        typer.Option(
            "--dry-run/--act", metavar="", help="Only show what would be ordered; --act: order it.", show_default=False
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
        "tolerance": tolerance,
        "looks": looks,
        "stabilisation_up": stabilisation_up,
        "stabilisation_down": stabilisation_down,
        "panic_load": panic_load,
        "step_up": step_up,
        "step_down": step_down,
        "warm_up": warm_up,
        "queue_weight": queue_weight,
        "health_degraded": replace_below,
        "replace_share": replace_share,
        "order_timeout": order_timeout,
        "dry_run": dry_run,
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
