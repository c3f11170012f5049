"""The rows without load: cold start, memory, import."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

from agents_sdk.protocol.subjects import Subjects
from bench.processes import ROOT, BenchError, Loaded, Server, generate
from bench.rows import Plan, Side
from bench.sample import Row, Sample, alternate, judge
from bench.stock import stock

SUBJECTS = Subjects()


def _stocked(stack: ExitStack, plan: Plan) -> Server:
    """Start a server whose bucket has all agents."""
    server = stack.enter_context(Server())
    stock(server, SUBJECTS.prefix, plan.agents)
    return server


def cold(plan: Plan) -> Row | str:
    """From connecting to serving against a bare watch."""
    row = Row("cold", f"cold start, {plan.agents:,} agents", "kv.watchall of the same bucket", ">= 0.6")
    with ExitStack() as stack:
        server = _stocked(stack, plan)

        def start(role: str, known: str, **options: object) -> dict:
            with Loaded(
                server, role, plan.loop, prefix=SUBJECTS.prefix, bucket=SUBJECTS.agents_bucket, **options
            ) as one:
                if one.ready[known] != plan.agents:
                    raise BenchError(f"{role} knows {one.ready[known]} of {plan.agents} agents")
                return one.ready

        def sample(role: str, known: str) -> Sample:
            ready = start(role, known)
            return Sample(plan.agents, ready["seconds"], ready["cpu"])

        if plan.profile:
            return start("registry", "registered_agents", profile_start=True)["text"]
        rounds = alternate(
            min(plan.rounds, 4), lambda: sample("registry", "registered_agents"), lambda: sample("watcher", "count")
        )
    judge(row, *rounds, 0.6, by="rate")
    ours, theirs = ([one.seconds for one in side] for side in rounds)
    times = f"{sorted(ours)[len(ours) // 2]:.2f} s against {sorted(theirs)[len(theirs) // 2]:.2f} s"
    row.note = "; ".join(filter(None, (f"{times}, without imports; ratio of times", plan.reduced))) + row.note
    return row


def memory(plan: Plan) -> Row | str:
    """Resident memory of an agent."""
    row = Row("memory", f"memory per agent at {plan.agents:,}", "", "<= 3 KiB")
    with ExitStack() as stack:
        server = _stocked(stack, plan)
        if plan.profile:
            traced = Loaded(server, "registry", plan.loop, prefix=SUBJECTS.prefix, trace_memory=True)
            return stack.enter_context(traced).ready["text"]
        replica = stack.enter_context(Loaded(server, "registry", plan.loop, prefix=SUBJECTS.prefix))
        before = replica.ready["rss_before"]
        resting = (replica.ask("usage")["rss"] - before) / plan.agents
        beats = Side(server, replica, "beats", subject=SUBJECTS.operation("heartbeat"), agents=plan.agents, once=True)
        beats.sample(60.0)
        generate(server, "requests", subject=SUBJECTS.operation("discover"), window=64, seconds=1.0, seed=1)
        used = (replica.ask("usage")["rss"] - before) / plan.agents
    row.value, row.ok = resting, resting <= 3 * 1024
    row.measured = f"{resting / 1024:.2f} KiB"
    note = f"{used / 1024:.2f} KiB once each has beaten and discover was asked"
    row.note = "; ".join(filter(None, (note, plan.reduced)))
    row.ours = f"{(before + resting * plan.agents) / 2**20:.0f} MiB in all"
    row.samples = {"resting": resting, "used": used}
    return row


_IMPORT = "import time; t = time.perf_counter(); import agents_sdk; print(time.perf_counter() - t)"
_IMPORT_ALL = "import time; t = time.perf_counter(); from agents_sdk import *; print(time.perf_counter() - t)"


def imports(plan: Plan) -> Row | str:
    """Import of the SDK in new processes."""
    if plan.profile:
        lines = _python("-X", "importtime", "-c", "from agents_sdk import *").stderr.splitlines()[1:]
        return "\n".join(sorted(lines, key=lambda line: int(line.split("|")[1]), reverse=True)[:25])
    bare, whole = (
        [float(_python("-c", code).stdout) * 1000 for _ in range(6)][1:]  # the first one warms the caches
        for code in (_IMPORT, _IMPORT_ALL)
    )
    row = Row("import", "import of agents_sdk", "", "<= 150 ms")
    row.value, row.measured, row.ok = min(bare), f"{min(bare):.0f} ms", min(bare) <= 150.0
    row.spread = f"{min(bare):.0f}-{max(bare):.0f}"
    row.note = f"best of 5 new processes; {min(whole):.0f} ms with every name that it exports"
    row.samples = {"import": bare, "import_all": whole}
    return row


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
