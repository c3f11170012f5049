"""`python -m tests.robustness`: minutes of faults, from a seed that is printed."""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import orjson

from tests.robustness.checks import CHECKS, breaches_of
from tests.robustness.run import Plan, Result, run

MAX_SHOWN = 20


def main() -> int:
    plan, folder = _arguments()
    sys.stdout.write(
        f"{plan}\nthe same again: make robustness ARGS='--seed {plan.seed}'\nlogs and history.json: {folder}\n"
    )
    clients = logging.getLogger("agents_sdk")  # tells of lost connections, minute after minute
    clients.addHandler(logging.FileHandler(folder / "clients.log"))
    clients.propagate = False
    result = asyncio.run(run(plan, folder, _tell))
    (folder / "history.json").write_bytes(orjson.dumps(result.history, default=sorted))
    sys.stdout.write("\n" if sys.stdout.isatty() else "")
    breaches = breaches_of(result.history)
    for line in (*_figures(result), *breaches[:MAX_SHOWN]):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{len(breaches)} breaches of {len(CHECKS)} promises\n")
    return 1 if breaches else 0


def _figures(result: Result) -> list[str]:
    history = result.history
    return [
        f"{result.seconds:.0f} s; operations: {result.counts}; faults: {result.faults}; beats: {result.beats}",
        f"{len(history.log)} entries in the log, {len(history.events)} events, {len(history.listings)} listings",
    ]


def _tell(line: str) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{line[:150]:<150}")
        sys.stdout.flush()


def _arguments() -> tuple[Plan, Path]:
    parser = argparse.ArgumentParser(prog="make robustness", description=__doc__)
    for item in fields(Plan):
        kind = float if item.type == "float" else int
        default = secrets.randbelow(10**6) if item.name == "seed" else item.default
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=kind, default=default, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=None, help="where stores and logs go")
    told = vars(parser.parse_args())
    folder = told.pop("folder") or Path(tempfile.mkdtemp(prefix="robustness-"))
    return Plan(**told), folder


if __name__ == "__main__":
    sys.exit(main())
