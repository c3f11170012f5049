"""Calls at a rate that follows a shape, to watch agents being scaled; see `worker.py`.

    python examples/load.py trading --shape step --low 4 --high 40 --seconds 120

Each second it prints the rate, and what became of the calls since the last line.
"""

import argparse
import asyncio
import contextlib
import math
import os
import signal
import sys
import time

from agents_sdk import AgentCallError, RegistryClient, RegistryError, ServiceQuery

SHAPES = {
    "step": lambda share: float(0.25 <= share < 0.75),
    "ramp": lambda share: 1.0 - abs(2.0 * share - 1.0),
    "sine": lambda share: 0.5 - 0.5 * math.cos(2.0 * math.pi * share),
    "spike": lambda share: math.exp(-(((share - 0.4) / 0.05) ** 2)),
}
"""Share of the time that has passed to the height of the load, both 0.0 to 1.0."""

MAX_UNDER_WAY = 2000
"""Calls at once; beyond that those that are due fail here."""


class Tally:
    """What became of the calls since it was printed last."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.done = self.failed = 0
        self.seconds = 0.0
        self.why = ""

    def __str__(self):
        mean = f"{self.seconds / self.done:6.3f} s" if self.done else "     - s"
        return f"done {self.done:4}  failed {self.failed:4}  mean {mean}  {self.why}".rstrip()


async def call(registry, options, tally):
    anyone = ServiceQuery(max_load_factor=1.0, limit=50)  # who is full says so, and another one is asked
    began = time.monotonic()
    try:
        await registry.call(options.capability, options.topic, {}, timeout=options.timeout, query=anyone)
    except (RegistryError, AgentCallError) as error:
        tally.failed += 1
        tally.why = str(error)
        return
    tally.done += 1
    tally.seconds += time.monotonic() - began


async def main(options):
    with contextlib.suppress(asyncio.CancelledError):
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, asyncio.current_task().cancel)
        prefix = os.environ.get("AGENT_REGISTRY_PREFIX", "registry")
        async with RegistryClient(prefix=prefix) as registry:
            await registry.scaling(options.capability)  # refused, if there is no such capability
            await generate(registry, options)


async def generate(registry, options):
    under_way, tally = set(), Tally()
    began = due = printed = time.monotonic()
    while (now := time.monotonic()) < began + options.seconds:
        height = SHAPES[options.shape]((now - began) / options.seconds % 1.0)
        rate = options.low + (options.high - options.low) * height
        if now >= printed + 1.0:
            print(f"{now - began:5.0f} s  rate {rate:6.1f}/s  under way {len(under_way):4}  {tally}", flush=True)
            printed = now
            tally.reset()
        if now >= due:
            due = max(due + 1.0 / rate, now - 1.0)
            if len(under_way) < MAX_UNDER_WAY:
                task = asyncio.create_task(call(registry, options, tally))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            else:
                tally.failed += 1
                tally.why = f"{MAX_UNDER_WAY} calls are under way already"
        await asyncio.sleep(max(0.0, min(due, printed + 1.0) - time.monotonic()))
    await asyncio.gather(*under_way)
    print(f"{options.seconds:5.0f} s  the last ones{'':21}  {tally}", flush=True)


def parsed():
    words = argparse.ArgumentParser(description="Call agents at a rate that changes.")
    words.add_argument("capability")
    words.add_argument("--topic", default="work")
    words.add_argument("--shape", choices=SHAPES, default="sine")
    words.add_argument("--low", type=float, default=2.0, help="calls a second where the shape is lowest")
    words.add_argument("--high", type=float, default=40.0, help="calls a second where it is highest")
    words.add_argument("--seconds", type=float, default=120.0, help="how long, which is one shape")
    words.add_argument("--timeout", type=float, default=5.0, help="seconds that one call may take")
    options = words.parse_args()
    if not 0 < options.low <= options.high:
        words.error("--low must be above 0, and at most --high")
    return options


if __name__ == "__main__":
    try:
        asyncio.run(main(parsed()))
    except RegistryError as error:
        sys.exit(f"error: {error.message}")
