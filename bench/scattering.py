"""The row of the SDK's client: many agents asked at once."""

from __future__ import annotations

from contextlib import ExitStack

from bench.processes import BenchError, Loaded, Server
from bench.rows import WARM, Plan
from bench.sample import Row, Sample, alternate, judge

AGENTS = 100


def scatter(plan: Plan) -> Row | str:
    """`scatter` against as many requests at the same time."""
    row = Row("scatter", f"scatter to {AGENTS} agents", f"{AGENTS} requests of nats-py at once", ">= 1")
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        stack.enter_context(Loaded(server, "counter", plan.loop, subject="agent"))
        asker = stack.enter_context(Loaded(server, "asker", plan.loop, agents=AGENTS))

        def ask(how: str, seconds: float) -> Sample:
            before = asker.ask("usage")["cpu"]
            made = asker.ask("ask_all", seconds=seconds, how=how)
            if made["answers"] != made["ops"]:
                raise BenchError(f"{how}: {made['answers']} answers to {made['ops']} requests")
            return Sample(made["ops"], made["seconds"], asker.ask("usage")["cpu"] - before)

        if plan.profile:
            asker.ask("profile_on")
            ask("scatter", 5.0)
            return asker.ask("profile_off")["text"]
        ask("scatter", WARM)
        ask("requests", WARM)
        rounds = alternate(plan.rounds, lambda: ask("scatter", plan.seconds), lambda: ask("requests", plan.seconds))
    row.note = "operations are agents asked, up to their answers; finding the agents is not in it"
    return judge(row, *rounds, 1.0)
