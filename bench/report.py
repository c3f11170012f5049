"""What is printed: the machine, the table, a profile."""

from __future__ import annotations

import io
import os
import platform
import pstats
import subprocess
from collections import Counter
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """One line that says what the numbers were measured on."""
    from registry.shell.nats_process import find_binary

    server = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    packages = ", ".join(f"{name} {version(name)}" for name in ("nats-py", "uvloop", "pydantic", "orjson"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{_cpu()}, {cores} cores{busy}; {python}; {server.strip()}; {packages}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def profile_text(profile) -> str:
    """The 25 functions that took most by themselves, under the time of all."""
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(25)
    return text.getvalue().strip()


def table(rows, subtitle: str) -> None:
    """Print the results of rows."""
    from rich.table import Table

    shown = Table(title="the registry against the raw client", caption=subtitle, caption_justify="left")
    for name, justify in (
        ("work", "left"), ("against", "left"), ("measured", "right"), ("spread", "right"), ("by clock", "right"),
        ("budget", "right"), ("ok", "left"), ("registry", "right"), ("against: absolute", "right"), ("note", "left"),
    ):  # fmt: skip
        shown.add_column(name, justify=justify, overflow="fold", no_wrap=name in ("measured", "spread", "budget"))
    for row in rows:
        ok = "[green]yes[/]" if row.ok else "[red]NO[/]"
        shown.add_row(
            row.work,
            row.against,
            row.measured,
            row.spread,
            row.by_clock,
            row.budget,
            ok,
            row.ours,
            row.theirs,
            row.note,
        )
    _console().print(shown)


def detections(measured, subtitle: str) -> None:
    """Print how long it took until losses of agents were told of, and what else was told."""
    from rich.table import Table

    shown = Table(title="from the loss of an agent to its event", caption=subtitle, caption_justify="left")
    for number, name in enumerate(
        ("loss", "event", "reasons", "p50", "p99", "longest", "runs", "aim (p99)", "ok", "told otherwise")
    ):
        shown.add_column(name, justify="left" if number < 3 else "right")
    for each in measured:
        shown.add_row(
            each.loss,
            each.until,
            ", ".join(f"{reason} {count}" for reason, count in Counter(each.reasons).most_common()),
            *(f"{each.percentile(percent):.3f} s" for percent in (50, 99, 100)),
            str(len(each.seconds)),
            f"{each.aim:g} s",
            "[green]yes[/]" if each.ok else "[red]NO[/]",
            str(len(each.otherwise)),
        )
    console = _console()
    console.print(shown)
    for each in measured:
        for line in each.otherwise:
            console.print(f"told otherwise, {each.loss}: {line}", markup=False)


def assigning(measured, subtitle: str) -> None:
    """Print how long tasks took, by who chose their agents, and how fast assignments are."""
    from rich.table import Table

    shown = Table(title="from a task's arrival to its end", title_justify="left")
    for number, name in enumerate(("chosen by", "mean", "p99", "tasks")):
        shown.add_column(name, justify="right" if number else "left")
    for each in measured.waited:
        shown.add_row(each.way, f"{each.mean:.2f}", f"{each.p99:.1f}", f"{each.tasks:,}")
    speeds = Table(title="one replica", title_justify="left", caption=subtitle, caption_justify="left")
    for name in ("callers", "assignments a second, each released", "p50", "p99", "two slots at once"):
        speeds.add_column(name, justify="right")
    for each in measured.speeds:
        p50, p99 = f"{each.p50 * 1000:.1f} ms", f"{each.p99 * 1000:.1f} ms"
        speeds.add_row(str(each.callers), f"{each.per_second:,.0f}", p50, p99, str(measured.twice))
    console = _console()
    console.print(shown)
    console.print(speeds)


def losses(measured, subtitle: str) -> None:
    """Print what losses cost, and what callers noticed of them."""
    from rich.table import Table

    spans = Table(title="from a loss until it works again", title_justify="left")
    calls = Table(title="meanwhile", title_justify="left", caption=subtitle, caption_justify="left")
    for table, names in (
        (spans, ("loss", "until", "median", "longest", "runs", "at most", "ok")),
        (calls, ("loss", "calls", "made", "failed in the end", "slowest", "took place otherwise")),
    ):
        for number, name in enumerate(names):
            table.add_column(name, justify="left" if number < 2 else "right")
    for each in measured:
        for span in each.spans:
            limit = "" if span.limit is None else f"{span.limit:g} s"
            ok = "[green]yes[/]" if span.ok else "[red]NO[/]"
            spans.add_row(
                span.loss,
                span.until,
                f"{span.median:.2f} s",
                f"{span.longest:.2f} s",
                str(len(span.seconds)),
                limit,
                ok,
            )
        for noticed in each.noticed:
            made = noticed.calls
            calls.add_row(
                noticed.loss, made.kind, f"{made.count:,}", f"{len(made.failures):,}", f"{made.slowest:.2f} s",
                "" if noticed.wrong is None else f"{len(noticed.wrong):,}",
            )  # fmt: skip
    console = _console()
    console.print(spans)
    console.print(calls)
    for noticed in (noticed for each in measured for noticed in each.noticed):
        for failure in sorted(set(noticed.calls.failures)):
            console.print(f"failed: {failure}", markup=False)
        for agent_id, told in (noticed.wrong or {}).items():
            console.print(f"took place otherwise: {agent_id}: {', '.join(told)}", markup=False)


def _console():
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=200)
