"""What goes wrong in a run, drawn from its seed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

import nats
from nats.js.errors import NotFoundError

from tests.robustness.replicas import ReplicaProcess
from tests.sdk.outage import Server

PAUSE = (1.0, 4.0)
"""Seconds between two faults."""


class Faults:
    """Kills, stops and starts replicas and the NATS server, one thing after the other.

    Args:
        random: Where chance comes from.
        server: The NATS server.
        replicas: The replicas.
        stream: The stream of the replicas' log.
        longest_stop: Seconds for which a process is stopped at most.
    """

    def __init__(
        self, random: Random, server: Server, replicas: list[ReplicaProcess], stream: str, longest_stop: float
    ) -> None:
        self.done: Counter[str] = Counter()
        self._random = random
        self._server = server
        self._replicas = replicas
        self._stream = stream
        self._longest_stop = longest_stop
        self._kinds = (
            (self.kill_replica, 4),
            (self.stop_replica, 3),
            (self.end_replica, 1),
            (self.kill_all_replicas, 1),
            (self.kill_server, 2),
            (self.stop_server, 1),
            (self.lose_consumers, 1),
        )

    async def run(self, over: Callable[[], bool]) -> None:
        """Go on until it is over."""
        kinds, weights = zip(*self._kinds, strict=True)
        while not over():
            await asyncio.sleep(self._random.uniform(*PAUSE))
            (kind,) = self._random.choices(kinds, weights)
            self.done[kind.__name__] += 1
            await kind()

    async def heal(self) -> None:
        """Have everything run again."""
        self._server.resume()
        await self._server.kill()
        await self._server.start()
        for replica in self._replicas:
            replica.resume()
        for replica in self._replicas:
            await replica.serving()

    async def kill_replica(self) -> None:
        """One replica crashes and is started again after a while."""
        replica = self._random.choice(self._replicas)
        await replica.kill()
        await asyncio.sleep(self._random.uniform(0.0, 2.0))
        await replica.serving()

    async def kill_all_replicas(self) -> None:
        """All crash at once."""
        for replica in self._replicas:
            await replica.kill()
        for replica in self._replicas:
            await replica.serving()

    async def end_replica(self) -> None:
        """One replica is asked to end, as in an upgrade."""
        replica = self._random.choice(self._replicas)
        await replica.terminate()
        await replica.serving()

    async def stop_replica(self) -> None:
        """One replica stands still, and goes on where it was."""
        replica = self._random.choice(self._replicas)
        replica.pause()
        await asyncio.sleep(self._random.uniform(0.5, self._longest_stop))
        replica.resume()

    async def kill_server(self) -> None:
        """NATS crashes and comes back on its store; replicas that could not start meanwhile are started again."""
        await self._server.kill()
        await asyncio.sleep(self._random.uniform(0.0, 2.0))
        await self._server.start()
        for replica in self._replicas:
            await replica.serving()

    async def lose_consumers(self) -> None:
        """The server forgets who follows the log; nobody is told."""
        nc = await nats.connect(self._server.url)
        js = nc.jetstream()
        for consumer in await js.consumers_info(self._stream):
            try:
                await js.delete_consumer(self._stream, consumer.name)
            except NotFoundError:
                continue  # a replica has just let go of it
        await nc.close()

    async def stop_server(self) -> None:
        """NATS stands still; connections stay open."""
        self._server.pause()
        await asyncio.sleep(self._random.uniform(0.2, 3.0))
        self._server.resume()
