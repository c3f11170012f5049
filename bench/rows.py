"""The rows under load: discover, heartbeats, registrations."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from agents_sdk.protocol.subjects import Subjects
from bench import fleet
from bench.processes import BenchError, Loaded, Server, generate
from bench.sample import Row, Sample, alternate, judge
from bench.stock import stock
from bench.waiting import until
from bench.wire import Wire

WINDOW = 512
"""Requests on their way; enough that the process under load never waits for work."""

REGISTER_WINDOW = 256
PUBLISHED_WITHIN = 120.0
"""Seconds for the events of all agents."""

WARM = 0.3
"""Seconds of load before anything is measured."""

PER_BEAT = 6
"""Requests for each heartbeat that moves a load: 2,000 to 4,000 beats a second where `discover` is not held up. Of
requests and not of time, so that each request carries the same load however busy the machine is."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    agents: int
    """What stands for 100,000."""
    loop: str
    profile: bool = False

    @property
    def reduced(self) -> str:
        return "" if self.agents == 100_000 else f"{self.agents:,} agents instead of 100,000"


_seeds = itertools.count(1)


class Side:
    """One process under load with what loads it.

    Args:
        server: Where both connect to.
        process: The process under load.
        job: What the generator does.
        counts: Name of the fact by which the process counts what it did; it must agree with the generator.
        options: For the generator.
    """

    def __init__(self, server: Server, process: Loaded, job: str, counts: str = "", **options: object) -> None:
        self.server, self.process, self.job, self.counts, self.options = server, process, job, counts, options

    def sample(self, seconds: float) -> Sample:
        """Load it.

        Raises:
            BenchError: If work was refused or lost.
        """
        before = self.process.ask("usage")
        made = generate(self.server, self.job, seconds=seconds, seed=next(_seeds), **self.options)
        after = self.process.ask("usage")
        for name in ("refused", "slow_drops", "heartbeats_dropped"):
            if before.get(name) != after.get(name):
                raise BenchError(f"{name} went from {before[name]} to {after[name]}")
        if self.counts and after[self.counts] - before[self.counts] != made["ops"]:
            raise BenchError(f"{self.counts} went from {before[self.counts]} to {after[self.counts]} in {made['ops']}")
        return Sample(made["ops"], made["seconds"], after["cpu"] - before["cpu"])

    def profile(self) -> str:
        """Load it for five seconds under a profiler."""
        self.sample(WARM)
        self.process.ask("profile_on")
        self.sample(5.0)
        return self.process.ask("profile_off")["text"]


def filled(stack: ExitStack, server: Server, loop: str, prefix: str, agents: int) -> Loaded:
    """Start a replica that has this many agents, and let it publish their events."""
    stock(server, prefix, agents)
    replica = stack.enter_context(Loaded(server, "registry", loop, prefix=prefix))
    known = replica.ready["registered_agents"]
    if known != agents:
        raise BenchError(f"the bucket has {agents} agents, the replica knows {known}")
    asyncio.run(until(partial(_published, server, prefix, agents), "events of all agents", PUBLISHED_WITHIN))
    return replica


async def _published(server: Server, prefix: str, agents: int) -> bool:
    wire = Wire(server.url)
    info = json.loads(wire.ask(f"$JS.API.STREAM.INFO.{Subjects(prefix).events_stream}", b""))
    wire.close()
    return info["state"]["messages"] >= agents


def _asked(server: Server, replica: Loaded, prefix: str, agents: int) -> Side:
    subjects = Subjects(prefix)
    return Side(
        server, replica, "requests", "service_discovery_requests",
        subject=subjects.operation("discover"), beat_subject=subjects.operation("heartbeat"),
        window=WINDOW, per_beat=PER_BEAT, agents=agents,
    )  # fmt: skip


def discover(plan: Plan) -> Row | str:
    """`discover` against an echo."""
    agents = 10_000
    row = Row("discover", f"discover, 10 of {agents:,} agents, loads moving", "echo, reply of the same size", ">= 0.25")
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        ours = _asked(server, filled(stack, server, plan.loop, "registry", agents), "registry", agents)
        size = _reply_size(server, ours.options["subject"])
        if plan.profile:
            return ours.profile()
        echo = stack.enter_context(Loaded(server, "echo", plan.loop, subject="echo", size=size))
        theirs = Side(server, echo, "requests", subject="echo", window=WINDOW)
        rounds = _rounds(plan, ours, theirs)
    row.note = f"replies of {size:,} B; a beat every {PER_BEAT} requests, its cost included"
    return judge(row, *rounds, 0.25)


def _reply_size(server: Server, subject: str) -> int:
    """Return the mean size of an answer, which must be a good one."""
    wire = Wire(server.url)
    answers = [wire.ask(subject, query) for query in fleet.QUERIES * 25]
    wire.close()
    found = {len(json.loads(answer)["agents"]) for answer in answers}
    if found != {10}:
        raise BenchError(f"{subject} found {sorted(found)} agents instead of 10")
    return sum(map(len, answers)) // len(answers)


def scale(plan: Plan) -> Row | str:
    """`discover` with many agents against `discover` with few."""
    row = Row("scale", f"discover, 10 of {plan.agents:,} agents", "discover, 10 of 1,000 agents", ">= 0.75")
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        many = filled(stack, server, plan.loop, "many", plan.agents)
        few = filled(stack, server, plan.loop, "few", 1_000)
        ours, theirs = _asked(server, many, "many", plan.agents), _asked(server, few, "few", 1_000)
        if plan.profile:
            return ours.profile()
        # Long enough to have the scaler's look at all agents, once in 5 s, in each round.
        rounds = _rounds(plan if plan.reduced else replace(plan, seconds=5.0), ours, theirs)
    row.note = "; ".join(filter(None, (f"a beat every {PER_BEAT} requests on both", plan.reduced)))
    return judge(row, *rounds, 0.75)


def heartbeat(plan: Plan) -> Row | str:
    """Heartbeats against counting."""
    agents = 10_000
    row = Row("heartbeat", f"heartbeats of {agents:,} agents", "subscriber that only counts", ">= 0.25")
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        replica = filled(stack, server, plan.loop, "registry", agents)
        ours = Side(server, replica, "beats", "heartbeats_received", subject="registry.heartbeat", agents=agents)
        if plan.profile:
            return ours.profile()
        counter = stack.enter_context(Loaded(server, "counter", plan.loop, subject="beats"))
        theirs = Side(server, counter, "beats", "count", subject="beats", agents=agents)
        rounds = _rounds(plan, ours, theirs)
    row.note = f"payload {len(fleet.beat(1, fleet.seq_base(), random.Random(1)))} B, agent-bound subject; all taken"
    return judge(row, *rounds, 0.25)


def register(plan: Plan) -> Row | str:
    """Durable registrations against puts."""
    row = Row("register", "durable register of new agents", "kv.put of the same bytes", ">= 0.6")
    size = len(fleet.record("r1-00000001", 1, random.Random(1)))
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        replica = stack.enter_context(Loaded(server, "registry", plan.loop, prefix="registry"))
        ours = Side(
            server, replica, "registrations", "total_registrations",
            subject="registry.register", window=REGISTER_WINDOW,
        )  # fmt: skip
        if plan.profile:
            return ours.profile()
        putter = stack.enter_context(Loaded(server, "putter", plan.loop))

        def put(seconds: float) -> Sample:
            before = putter.ask("usage")
            made = putter.ask("put", seconds=seconds, window=REGISTER_WINDOW, size=size)
            return Sample(made["ops"], made["seconds"], putter.ask("usage")["cpu"] - before["cpu"])

        ours.sample(WARM)
        put(WARM)
        rounds = alternate(plan.rounds, lambda: ours.sample(plan.seconds), lambda: put(plan.seconds))
    row.note = f"window {REGISTER_WINDOW}, records of {size} B; the event's publish is in it"
    return judge(row, *rounds, 0.6)


def _rounds(plan: Plan, ours: Side, theirs: Side) -> tuple[list[Sample], list[Sample]]:
    ours.sample(WARM)
    theirs.sample(WARM)
    return alternate(plan.rounds, lambda: ours.sample(plan.seconds), lambda: theirs.sample(plan.seconds))
