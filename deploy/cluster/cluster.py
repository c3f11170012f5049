"""The cluster: everything started, watched, started again on demand, ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from deploy.cluster.nodes import make_nodes
from deploy.cluster.replica import ReplicaProcess
from registry.shell.child import Child, ServerError, ending
from registry.shell.nats_process import NatsProcess

REPLICAS = 2


class Cluster:
    """Three nodes and two replicas.

    Args:
        folder: Where they keep everything.
        port: Where the first node listens for clients, the others on the ports that follow; 0 picks free ports.
        tell: Takes a line for people whenever one of the processes has ended, or is back.

    Raises:
        ServerError: If a port is taken, or there is no usable nats-server.
    """

    def __init__(self, folder: Path, port: int, tell: Callable[[str], None]) -> None:
        self.nodes: Sequence[NatsProcess] = make_nodes(folder, port)
        self.replicas: Sequence[ReplicaProcess] = ()
        self._folder = folder
        self._tell = tell
        self._again = asyncio.Event()

    @property
    def url(self) -> str:
        """Where clients find it: all nodes, comma-separated."""
        return ",".join(node.url for node in self.nodes)

    async def start(self) -> None:
        """Start everything; return when both replicas answer, which they do once the cluster has formed.

        Raises:
            ServerError: If something does not start.
        """
        await _all(node.start() for node in self.nodes)
        copies = len(self.nodes)
        self.replicas = [
            ReplicaProcess(f"replica-{number}", self._folder, self.url, copies) for number in range(1, REPLICAS + 1)
        ]
        await _all(replica.start() for replica in self.replicas)

    async def watch(self) -> None:
        """Tell, without end, whenever one of the processes has ended; it is started again when that is asked for."""
        await asyncio.gather(*(self._watch(child) for child in (*self.nodes, *self.replicas)))

    def start_again(self) -> None:
        """Start what has ended."""
        self._again.set()

    async def stop(self) -> None:
        """End everything: the replicas first, while there are still servers to say goodbye to."""
        await _all(replica.stop() for replica in self.replicas)
        await _all(node.stop() for node in self.nodes)

    def kill(self) -> None:
        """End everything at once."""
        for child in (*self.replicas, *self.nodes):
            child.kill()

    async def _watch(self, child: Child) -> None:
        while True:
            how = ending(await child.ended())
            self._again.clear()
            self._tell(f"{child.name}, pid {child.pid}, has ended by {how}; kill -USR1 {os.getpid()} starts it again")
            await self._again.wait()
            try:
                await child.start()
            except ServerError as error:
                self._tell(str(error))
            else:
                self._tell(f"{child.name} is back, pid {child.pid}")


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at once; when everything has ended, raise the first failure."""
    for failure in await asyncio.gather(*works, return_exceptions=True):
        if failure is not None:
            raise failure
