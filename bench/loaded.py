"""The process under load, the registry or a bare counterpart: told what to do by lines of JSON on standard input."""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import os
import sys
import time
import tracemalloc

from bench.report import profile_text


def rss() -> int:
    """Resident memory of this process in bytes."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:  # macOS: the highest it ever was, in bytes
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Registry:
    """One replica."""

    def __init__(self, options: dict) -> None:
        from registry.replica import Replica
        from registry.settings import Settings
        from registry.shell import logs

        # Checkpoints are writes, which `register` measures; here they would come in bursts of 30 s. And this many
        # agents are wanted: by default all but ten of a capability would be ordered away.
        settings = Settings(
            prefix=options["prefix"],
            checkpoint_interval=3600.0,
            max_agents_per_capability=1_000_000,
            log_level="warning",
        )
        logs.configure(settings)
        self.replica = Replica(settings, options["url"])

    async def start(self) -> None:
        await self.replica.start()

    def facts(self) -> dict:
        known = self.replica.statistics()
        names = ("registered_agents", "heartbeats_received", "heartbeats_dropped", "service_discovery_requests")
        facts = {name: known[name] for name in names}
        return {**facts, "refused": known["requests_refused"], "slow_drops": known["nats"]["slow_consumer_drops"],
                "leader": known["leader"], "total_registrations": known["total_registrations"]}  # fmt: skip

    async def stop(self) -> None:
        await self.replica.stop()


class Bare:
    """What all the bare ones share: a connection of nats-py as it comes."""

    def __init__(self, options: dict) -> None:
        self.options = options
        self.count = 0

    async def start(self) -> None:
        import nats

        self.nc = await nats.connect(self.options["url"])
        await self.serve()

    async def serve(self) -> None: ...

    def facts(self) -> dict:
        return {"count": self.count}

    async def stop(self) -> None:
        await self.nc.close()


class Echo(Bare):
    """Answers every request with as many bytes as the registry does."""

    async def serve(self) -> None:
        payload, publish = b"x" * self.options["size"], self.nc.publish

        async def answer(msg) -> None:
            await publish(msg.reply, payload)

        await self.nc.subscribe(self.options["subject"], queue="bench", cb=answer)


class Counter(Bare):
    """Counts messages."""

    async def serve(self) -> None:
        async def count(msg) -> None:
            self.count += 1
            if msg.reply:
                await self.nc.publish(msg.reply, b"{}")

        await self.nc.subscribe(self.options["subject"] + ".>", cb=count)


class Putter(Bare):
    """Writes new keys of a bucket like the registry's, `window` at once."""

    async def serve(self) -> None:
        from nats.js.api import KeyValueConfig, StorageType

        config = KeyValueConfig(bucket="bare", history=8, storage=StorageType.FILE, direct=True)
        self.kv = await self.nc.jetstream().create_key_value(config)

    async def put(self, seconds: float, window: int, size: int) -> dict:
        value, put, before, started = b"x" * size, self.kv.put, self.count, time.perf_counter()

        async def writer() -> None:
            while time.perf_counter() - started < seconds:
                self.count += 1
                await put(f"r{os.getpid()}-{self.count:08d}", value)

        await asyncio.gather(*(writer() for _ in range(window)))
        return {"ops": self.count - before, "seconds": time.perf_counter() - started}


class Watcher(Bare):
    """Reads a bucket until all of it that is there has come."""

    async def serve(self) -> None:
        kv = await self.nc.jetstream().key_value(self.options["bucket"])
        watcher = await kv.watchall()
        async for entry in watcher:
            if entry is None:
                break
            self.count += 1


class Asker(Bare):
    """Asks many agents at the same time, again and again: as the SDK does it, or with a request to each."""

    async def serve(self) -> None:
        from agents_sdk.connection import Connection
        from agents_sdk.dial import Address
        from agents_sdk.protocol.discovery import AgentInfo

        self.agents = [
            AgentInfo(f"agent-{n}", "bench", set(), registered_at=0.0) for n in range(self.options["agents"])
        ]
        self.connection = Connection(Address((self.options["url"],)))
        await self.connection.open()

    async def ask_all(self, seconds: float, how: str) -> dict:
        ask, answers, rounds = getattr(self, how), 0, 0
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            answers += await ask()
            rounds += 1
        return {"ops": rounds * len(self.agents), "answers": answers, "seconds": time.perf_counter() - started}

    async def scatter(self) -> int:
        from agents_sdk.question import Question
        from agents_sdk.reports import Reports
        from agents_sdk.scatter import Scatter

        async def report(agent_id: str, problem: str) -> None: ...

        question = Question("check", {}, None, "all", 10.0)
        return len((await Scatter(self.connection, Reports(report), self.agents, question).gather()).good)

    async def requests(self) -> int:
        asking = (self.nc.request(f"agent.{agent.agent_id}.check", b"{}", timeout=10.0) for agent in self.agents)
        return len(await asyncio.gather(*asking))

    async def stop(self) -> None:
        await self.connection.close()
        await super().stop()


ROLES = {
    "registry": Registry,
    "echo": Echo,
    "counter": Counter,
    "putter": Putter,
    "watcher": Watcher,
    "asker": Asker,
}


class Orders:
    """Carries out what the bench asks for, one line at a time, until its input ends."""

    def __init__(self, role) -> None:
        self.role = role
        self.profile: cProfile.Profile | None = None
        self.ended = asyncio.Event()
        self._heard = b""
        self._task: asyncio.Task | None = None
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    def _read(self) -> None:
        heard = os.read(sys.stdin.fileno(), 65536)
        self._heard += heard
        if not heard:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self.ended.set()
        elif self._heard.endswith(b"\n"):
            order, self._heard = json.loads(self._heard), b""
            self._task = asyncio.ensure_future(self._carry_out(order))

    async def _carry_out(self, order: dict) -> None:
        try:
            say(await getattr(self, order.pop("do"))(**order))
        except Exception as error:
            say({"error": repr(error)})
            raise

    async def usage(self, collect: bool = False) -> dict:
        if collect:
            gc.collect()
        return {"cpu": time.process_time(), "rss": rss(), **self.role.facts()}

    async def put(self, **order) -> dict:
        return await self.role.put(**order)

    async def ask_all(self, **order) -> dict:
        return await self.role.ask_all(**order)

    async def profile_on(self) -> dict:
        self.profile = cProfile.Profile()
        self.profile.enable()
        return {}

    async def profile_off(self) -> dict:
        assert self.profile is not None
        self.profile.disable()
        return {"text": profile_text(self.profile)}


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


async def run(options: dict) -> None:
    role = ROLES[options["role"]](options)
    profile = cProfile.Profile()
    if options.get("trace_memory"):
        tracemalloc.start()
    before, cpu, started = rss(), time.process_time(), time.perf_counter()
    if options.get("profile_start"):
        profile.enable()
    await role.start()
    ready = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "rss_before": before}
    if options.get("profile_start"):
        profile.disable()
        ready["text"] = profile_text(profile)
    if options.get("trace_memory"):
        top = tracemalloc.take_snapshot().statistics("lineno")[:25]
        ready["text"] = "\n".join(str(line) for line in top)
    orders = Orders(role)
    say({**ready, "rss": rss(), **role.facts()})
    await orders.ended.wait()
    await asyncio.wait_for(role.stop(), 10.0)


def main() -> None:
    options = json.loads(sys.argv[1])
    loop_factory = asyncio.new_event_loop
    if options["loop"] == "uvloop":
        from uvloop import new_event_loop as loop_factory
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run(options))


if __name__ == "__main__":
    main()
