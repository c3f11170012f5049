"""`python -m bench`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time

from bench import report, resting, rows
from bench.processes import BenchError
from bench.rows import Plan

ROWS = {
    "discover": rows.discover,
    "scale": rows.scale,
    "heartbeat": rows.heartbeat,
    "register": rows.register,
    "cold": resting.cold,
    "memory": resting.memory,
    "import": resting.imports,
}


def main() -> int:
    told = _arguments()
    for name in [
        name for name in os.environ if name.startswith("AGENT_REGISTRY_") and not name.endswith("_NATS_SERVER")
    ]:
        del os.environ[name]  # the defaults are measured
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = Plan(
        rounds=told.rounds or (3 if told.quick else 5),
        seconds=0.8 if told.quick else 3.0,
        agents=20_000 if told.quick else 100_000,
        loop=told.loop,
        profile=told.profile is not None,
    )
    if told.profile:
        print(ROWS[told.profile](plan))
        return 0
    started, done = time.monotonic(), []
    for name in [told.only] if told.only else ROWS:
        if not told.json:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
        done.append(ROWS[name](plan))
    took = time.monotonic() - started
    if told.json:
        shown = {
            "machine": report.machine(),
            "seconds": took,
            "loop": plan.loop,
            "rows": [row.as_json() for row in done],
        }
        print(json.dumps(shown, indent=2))
        return 0
    report.table(done, f"{_method(plan)}\n{report.machine()}; took {took:.0f} s")
    return 0


def _method(plan: Plan) -> str:
    return (
        f"Medians of {plan.rounds} rounds of {plan.seconds:g} s, the two sides alternating, both on {plan.loop}.\n"
        "Measured: ratio of operations per CPU second of the process under load. By clock: of operations per second, "
        "which\nwhatever else the machine does disturbs. Absolute: operations per second, CPU us of the process under "
        "load for each, part of a core it had."
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the registry against the raw client.")
    parser.add_argument("--quick", action="store_true", help="under two minutes: fewer rounds, fewer agents")
    parser.add_argument("--only", choices=ROWS, help="one row")
    parser.add_argument("--json", action="store_true", help="for machines, with every sample")
    parser.add_argument("--profile", choices=ROWS, help="run one row's registry under a profiler, print the top 25")
    parser.add_argument("--rounds", type=int, help="rounds of each row")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="event loop of both sides")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
