"""Many agents in one process: `python -m tests.robustness.crowd OPTIONS`, a JSON object, see `Options`.

As somebody would write them who has no SDK: each has its own id, answers on its own subject and beats, and many of them
share a connection.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

PER_CONNECTION = 50
"""Agents that share a connection."""

AT_ONCE = 25
"""Registrations on their way at once."""

PATIENCE = 5.0
"""Seconds that an answer to a registration is waited for before it is sent again."""

ANSWER = json.dumps({"status": "ok", "health_score": 1.0, "load_factor": 0.5}).encode()


@dataclass(frozen=True)
class Options:
    """What to be.

    Attributes:
        url: Where NATS listens.
        name: How the agents' ids begin.
        count: How many.
        interval: Seconds between two beats of one.
        lease: Seconds of silence after which one counts as offline.
        ready_file: Written when all are registered.
    """

    url: str
    name: str
    count: int
    interval: float
    lease: float
    ready_file: str

    def agents(self) -> list[str]:
        """Return their ids."""
        return [f"{self.name}-{number}" for number in range(self.count)]


async def main(options: Options) -> None:
    """Register all, and beat until this process is ended."""
    agents = options.agents()
    connections = [await _connect(options.url) for _ in range(0, options.count, PER_CONNECTION)]
    ways = {agent_id: connections[number // PER_CONNECTION] for number, agent_id in enumerate(agents)}

    async def answer(msg: Msg) -> None:
        await msg.respond(ANSWER)

    for agent_id, nc in ways.items():
        await nc.subscribe(_health_subject(agent_id), cb=answer)
    for nc in connections:
        await nc.flush()
        await nc.flush()  # nats-py's first ping may overtake the subscriptions
    turns = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(_register(nc, agent_id, options, turns) for agent_id, nc in ways.items()))
    Path(options.ready_file).write_text("true")
    await _beat(ways, options.interval)


async def _connect(url: str) -> Client:
    async def expected(_: Exception) -> None:
        """NATS is taken away on purpose."""

    return await nats.connect(url, max_reconnect_attempts=-1, error_cb=expected)


def _health_subject(agent_id: str) -> str:
    return f"crowd.{agent_id}.health"


async def _register(nc: Client, agent_id: str, options: Options, turns: asyncio.Semaphore) -> None:
    registration: dict[str, Any] = {
        "agent_id": agent_id, "agent_type": "crowd", "capabilities": ["trading"], "instance_id": "run-1",
        "heartbeat_interval": options.interval, "heartbeat_timeout": options.lease,
        "health_subject": _health_subject(agent_id),
    }  # fmt: skip
    async with turns:
        while True:
            try:
                msg = await nc.request(f"registry.register.{agent_id}", json.dumps(registration).encode(), PATIENCE)
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
                continue
            answer = json.loads(msg.data)
            if "error" not in answer:
                return
            if not answer["error"]["retryable"]:
                raise RuntimeError(answer)


async def _beat(ways: dict[str, Client], interval: float) -> None:
    """Beat, evenly spread. While NATS is away nothing is sent, and nothing is kept for later."""
    pause, due = interval / len(ways), time.monotonic()
    while True:
        for agent_id, nc in ways.items():
            due = max(due + pause, time.monotonic() - interval)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if nc.is_connected:
                await nc.publish(f"registry.heartbeat.{agent_id}", b"")


if __name__ == "__main__":
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
