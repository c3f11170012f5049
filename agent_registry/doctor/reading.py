"""From what NATS answers to facts: pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from agent_registry.doctor.facts import Peer, Permissions, Server, Stream, Unseen, Usage
from agent_registry.doctor.inquiry import unix_time
from agent_registry.doctor.settings import NANOSECONDS

Answers = list[dict[str, Any]] | Unseen
"""Of all servers."""


def connected_server(info: Mapping[str, Any], varz: Answers) -> Server:
    """Return the server that was connected to."""
    name = str(info.get("server_name") or info.get("server_id", ""))
    return Server(
        name,
        str(info.get("version", "")),
        str(info.get("host", "")),
        str(info.get("cluster", "")),
        bool(info.get("jetstream")),
        _syncs(varz).get(name),
    )


def servers_in(statz: Answers, varz: Answers) -> tuple[Server, ...] | Unseen:
    """Return every server that has the account, by name."""
    if isinstance(statz, Unseen):
        return statz
    syncs = _syncs(varz)
    servers = [
        Server(
            server["name"],
            server.get("ver", ""),
            server.get("host", ""),
            server.get("cluster", ""),
            bool(server.get("jetstream")),
            syncs.get(server["name"]),
        )
        for server in (answer["server"] for answer in statz)
    ]
    return tuple(sorted(servers, key=lambda server: server.name))


def _syncs(varz: Answers) -> dict[str, float]:
    """Return how long it takes at most until each server has a write on disk, in seconds."""
    return {
        answer["server"]["name"]: 0.0 if config.get("sync_always") else config["sync_interval"] / NANOSECONDS
        for answer, config in _jetstream_configs(varz)
        if "sync_interval" in config
    }


def _jetstream_configs(varz: Answers) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for answer in () if isinstance(varz, Unseen) else varz:
        config = answer.get("data", {}).get("jetstream", {}).get("config")
        if config:
            yield answer, config


def usages_of_servers(varz: Answers) -> Iterator[Usage]:
    """Yield what is used of the limits of each server."""
    for answer, config in _jetstream_configs(varz):
        stats, of = answer["data"]["jetstream"].get("stats", {}), f"server {answer['server']['name']}"
        yield from _usages(of, stats, config)


def usages_of_account(account: dict[str, Any] | Unseen) -> Iterator[Usage]:
    """Yield what is used of the limits of the account, or of each of its tiers."""
    if isinstance(account, Unseen):
        return
    for tier, used in (account.get("tiers") or {"": account}).items():
        yield from _usages(f"the account, tier {tier}" if tier else "the account", used, used.get("limits", {}))


def _usages(of: str, used: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[Usage]:
    for kind, name in (
        ("file storage", "storage"),
        ("memory", "memory"),
        ("streams", "streams"),
        ("consumers", "consumers"),
    ):
        limit = limits.get(f"max_{name}", -1)
        if limit > 0:
            yield Usage(kind, of, used.get(name, 0), limit, used.get(f"reserved_{name}", 0))


def permissions_in(found: Mapping[str, Any] | None) -> Permissions | None:
    """Return the permissions of a user; None if it is not restricted."""
    if not found:
        return None

    def patterns(kind: str, verdict: str) -> tuple[str, ...]:
        # One that is for a queue group has the group's name behind it.
        return tuple(pattern.split(" ")[0] for pattern in (found.get(kind) or {}).get(verdict) or ())

    return Permissions(
        patterns("publish", "allow"),
        patterns("publish", "deny"),
        patterns("subscribe", "allow"),
        patterns("subscribe", "deny"),
    )


def stream_in(info: dict[str, Any] | Unseen) -> Stream | Unseen:
    """Return a stream as JetStream describes it."""
    if isinstance(info, Unseen):
        return info
    state, cluster = info["state"], info.get("cluster") or {}
    peers = (
        Peer(peer["name"], bool(peer.get("current")), bool(peer.get("offline")), peer.get("lag", 0))
        for peer in cluster.get("replicas") or ()
    )
    return Stream(
        info["config"]["name"],
        info["config"],
        state["bytes"],
        state["messages"],
        state["first_seq"],
        state["last_seq"],
        cluster.get("leader", ""),
        tuple(sorted(peers, key=lambda peer: peer.name)),
    )


def server_time(*infos: dict[str, Any] | Unseen) -> float:
    """Return what time it is for the servers, whose times everything else has; ours if none says."""
    told = [unix_time(info["ts"]) for info in infos if not isinstance(info, Unseen) and "ts" in info]
    return max(told, default=time.time())
