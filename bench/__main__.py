"""`python -m bench`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator

from bench import assigning, detection, failover, nodes, report, resting, rows, scattering
from bench.processes import BenchError
from bench.rows import Plan
from bench.spans import Detection
from registry.shell.child import ServerError

ROWS = {
    "discover": rows.discover,
    "scale": rows.scale,
    "heartbeat": rows.heartbeat,
    "register": rows.register,
    "cold": resting.cold,
    "memory": resting.memory,
    "import": resting.imports,
    "scatter": scattering.scatter,
}

LOSSES = {
    "leader-killed": failover.kills,
    "leader-stopped": failover.stops,
    "leading-node-killed": nodes.leaders,
    "other-node-killed": nodes.others,
}

AGENTS = {
    "agent-killed": (detection.killed, 60, 10),
    "agent-killed-unwatched": (detection.unwatched, 20, 4),
    "agent-stopped": (detection.stopped, 12, 3),
}
"""Losses of agents: what measures one, and how often by default and with `--quick`."""

ASSIGNING = "assign"
TASKS = 10_000
"""Assignments by default; a tenth of them with `--quick`."""

METHOD_OF_ASSIGNING = f"""\
{assigning.AGENTS} agents with one worker, {assigning.BUSY:.0%} busy, {assigning.CALLERS} callers; times in units of \
the mean service, {assigning.SERVICE * 1000:g} ms, from the arrival of a task to its end; loads reported every \
{assigning.PERIOD:g} s.
Two slots at once: slots that had two tasks at a time, and fencing tokens that came twice. Stale loads: played through \
with the same arrivals, without the time that a network takes.
"""

METHOD_OF_AGENTS = f"""\
Agents of the SDK, each a process, one lost at a time; a heartbeat every {detection.HEARTBEAT_INTERVAL:g} s. Times end \
when a plain subscription hears the event.
First row: `agent-registry up`, default settings. Second: `agent-registry serve`, and third: `up`, with \
HEALTH_CHECK_INTERVAL {detection.CHECK_INTERVAL:g} s.
Told otherwise: events of agents that nothing had been done to, or other ones than expected.
"""

METHOD_OF_LOSSES = """\
Replicas: two on one NATS server, default settings; a time ends when an observer gets what JetStream has stored.
Nodes: the cluster of `make cluster`, under registrations as fast as 16 tasks of one client make them. After each run
the node is started again, and the next run begins when all copies are in sync.
A call takes as long as the SDK takes with all its repetitions.
Took place otherwise: agents whose events are not those of what was acknowledged, once and in order.
"""


def main() -> int:
    told = _arguments()
    for name in [
        name for name in os.environ if name.startswith("AGENT_REGISTRY_") and not name.endswith("_NATS_SERVER")
    ]:
        del os.environ[name]  # the defaults are measured
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if told.failover or told.only in LOSSES:
        return _losses(told)
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
    started = time.monotonic()
    done = [ROWS[name](plan) for name in _named(told, ROWS)]
    found = _detections(told)
    assigned = _assigned(told)
    took = time.monotonic() - started
    if told.json:
        measured = {"rows": [row.as_json() for row in done], "detections": [each.as_json() for each in found]}
        measured["assigning"] = [each.as_json() for each in assigned]
        _print_json(took, loop=plan.loop, **measured)
        return 0
    below = f"{report.machine()}; took {took:.0f} s"
    if done:
        report.table(done, f"{_method(plan)}\n{below}")
    if found:
        report.detections(found, f"{METHOD_OF_AGENTS}{below}")
    for each in assigned:
        report.assigning(each, f"{METHOD_OF_ASSIGNING}{below}")
    return 0


def _detections(told: argparse.Namespace) -> list[Detection]:
    agents, found = 10 if told.quick else 30, []
    for name in _named(told, AGENTS):
        measure, usual, quick = AGENTS[name]
        found.append(asyncio.run(measure(agents, told.rounds or (quick if told.quick else usual))))
    return found


def _assigned(told: argparse.Namespace) -> list[assigning.Assigning]:
    tasks = told.rounds or (TASKS // 10 if told.quick else TASKS)
    return [asyncio.run(assigning.measure(tasks)) for _ in _named(told, (ASSIGNING,))]


def _losses(told: argparse.Namespace) -> int:
    logging.getLogger("agents_sdk").setLevel(logging.ERROR)  # that connections are lost is the point
    runs = told.rounds or (3 if told.quick else 20)
    started = time.monotonic()
    done = [asyncio.run(LOSSES[name](runs)) for name in _named(told, LOSSES)]
    took = time.monotonic() - started
    if told.json:
        _print_json(took, losses=[each.as_json() for each in done])
    else:
        report.losses(done, f"{METHOD_OF_LOSSES}{report.machine()}; took {took:.0f} s")
    return 0


def _named(told: argparse.Namespace, known: Iterable[str]) -> Iterator[str]:
    """Yield what is to be measured, and say so."""
    for name in known:
        if told.only not in (None, name):
            continue
        if not told.json:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
        yield name


def _print_json(took: float, **measured: object) -> None:
    print(json.dumps({"machine": report.machine(), "seconds": took, **measured}, indent=2))


def _method(plan: Plan) -> str:
    return (
        f"Medians of {plan.rounds} rounds of {plan.seconds:g} s, the two sides alternating, both on {plan.loop}.\n"
        "Measured: ratio of operations per CPU second of the process under load. By clock: of operations per second, "
        "which\nwhatever else the machine does disturbs. Absolute: operations per second, CPU us of the process under "
        "load for each, part of a core it had."
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the registry against the raw client.")
    parser.add_argument("--quick", action="store_true", help="a few minutes at most: fewer rounds, fewer agents")
    parser.add_argument("--failover", action="store_true", help="how long it takes to get over losses instead")
    parser.add_argument("--only", choices=(*ROWS, *AGENTS, ASSIGNING, *LOSSES), help="one row, or one kind of loss")
    parser.add_argument("--json", action="store_true", help="for machines, with every sample")
    parser.add_argument("--profile", choices=ROWS, help="run one row's registry under a profiler, print the top 25")
    parser.add_argument("--rounds", type=int, help="rounds of each row, losses of each kind, or assignments")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="event loop of both sides")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BenchError, ServerError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
