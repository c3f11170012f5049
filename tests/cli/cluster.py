"""Three nats-servers that make one cluster, all on this machine."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from pathlib import Path

import nats
import nats.errors

from tests.conftest import eventually
from tests.sdk.outage import Server

ACCOUNTS = """
accounts {
  REG {
    jetstream: enabled, users: [ { user: reg, password: reg } ]
    imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.VARZ" } } ]
  }
  SYS { exports: [ { service: "$SYS.REQ.SERVER.PING.VARZ", response_type: stream, accounts: [ REG ] } ] }
}
system_account: SYS
no_auth_user: reg
"""


class Cluster:
    """A cluster of three servers, of one account that sees when writes are on disk, as README says how.

    Args:
        directory: Where each server keeps its files.
    """

    def __init__(self, directory: Path) -> None:
        with ExitStack() as probes:
            sockets = [probes.enter_context(socket.socket()) for _ in range(3)]
            for probe in sockets:
                probe.bind(("127.0.0.1", 0))
            ports = [probe.getsockname()[1] for probe in sockets]
        routes = json.dumps([f"nats://127.0.0.1:{port}" for port in ports])
        self.servers = []
        for number, port in enumerate(ports, 1):
            folder = directory / f"n{number}"
            folder.mkdir(parents=True)
            listen = f'listen: "127.0.0.1:{port}"'
            cluster = f"server_name: n{number}\ncluster {{ name: trio, {listen}, routes: {routes} }}"
            self.servers.append(Server(folder, f"{cluster}\n{ACCOUNTS}"))
        self.url = ",".join(server.url for server in self.servers)

    async def start(self) -> None:
        """Start the servers and wait until JetStream has a leader."""
        await asyncio.gather(*(server.start() for server in self.servers))
        client = await nats.connect(self.url.split(","))

        async def led() -> bool:
            try:
                answer = await client.request("$JS.API.STREAM.NAMES", b"", timeout=0.5)
            except nats.errors.TimeoutError:
                return False
            return "error" not in json.loads(answer.data)

        await eventually(led, within=30.0)
        await client.close()

    async def lead(self, *streams: str) -> None:
        """Have the first server lead streams, so that the death of another one stops nothing."""
        client = await nats.connect(self.servers[0].url)
        for stream in streams:
            preferred = json.dumps({"placement": {"preferred": "n1"}}).encode()

            async def led(stream: str = stream, preferred: bytes = preferred) -> bool:
                try:
                    answer = await client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=1.0)
                    leader = json.loads(answer.data).get("cluster", {}).get("leader")
                    if leader not in (None, "", "n1"):
                        await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", preferred, timeout=1.0)
                except nats.errors.TimeoutError:
                    return False  # nobody leads it just now
                return bool(leader == "n1")

            await eventually(led, within=30.0)
        await client.close()

    async def kill(self) -> None:
        """End all servers."""
        await asyncio.gather(*(server.kill() for server in self.servers))
