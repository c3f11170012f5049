"""The three NATS servers: one configuration file, and what differs from node to node."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from registry.shell.child import ServerError
from registry.shell.embedded import is_taken
from registry.shell.nats_process import NatsProcess, find_binary

CONFIG = Path(__file__).with_name("nats-server.conf")

NAMES = ("registry-1", "registry-2", "registry-3")

ROUTE_OFFSET = 2000
"""From a node's port for clients to the one for other nodes, as from NATS' usual 4222 to its usual 6222."""


def make_nodes(folder: Path, port: int) -> list[NatsProcess]:
    """Return the nodes of a cluster on loopback, not started yet.

    Args:
        folder: Where they keep everything, each in a folder of its name.
        port: Where the first one listens for clients, the others on the ports that follow; 0 picks free ports.

    Raises:
        ServerError: If a port is taken, or there is no usable nats-server.
    """
    binary = find_binary()
    if port:
        clients = [port + number for number in range(len(NAMES))]
        routes = [client + ROUTE_OFFSET for client in clients]
        for each in clients + routes:
            if is_taken(each):
                raise ServerError(f"port {each} is in use on 127.0.0.1; use --port 0 for free ones")
    else:
        ports = free_ports(2 * len(NAMES))
        clients, routes = ports[: len(NAMES)], ports[len(NAMES) :]
    password = secrets.token_urlsafe(24)
    nodes = []
    for name, client, route in zip(NAMES, clients, routes, strict=True):
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        nodes.append(NatsProcess(name, binary, CONFIG, own, _environment(own, client, route, routes, password)))
    return nodes


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that were free a moment ago."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _environment(folder: Path, client: int, route: int, routes: Sequence[int], password: str) -> dict[str, str]:
    """Return what the configuration file asks for; nats-server reads each as if it stood there."""
    return {
        "NODE": folder.name,
        "CLIENTS": f"127.0.0.1:{client}",
        "NODES": f"127.0.0.1:{route}",
        "ROUTES": f"[{', '.join(f'nats://127.0.0.1:{each}' for each in routes)}]",
        "STORE": json.dumps(str(folder), ensure_ascii=False),
        "SYSTEM_PASSWORD": json.dumps(password),
    }
