"""What NATS answers, read; the answers are as nats-server 2.15 gives them, shortened."""

from __future__ import annotations

from typing import Any

from agent_registry.doctor.facts import Peer, Permissions, Server, Unseen, Usage, Why
from agent_registry.doctor.inquiry import Entry, unix_time
from agent_registry.doctor.reading import (
    connected_server,
    permissions_in,
    server_time,
    servers_in,
    stream_in,
    usages_of_account,
    usages_of_servers,
)

NOT_SEEN = Unseen(Why.UNSERVED)


def statz(name: str) -> dict[str, Any]:
    return {"server": {"name": name, "host": "0.0.0.0", "cluster": "trio", "ver": "2.15.1", "jetstream": True}}


def varz(name: str, **config: Any) -> dict[str, Any]:
    stats = {"memory": 0, "storage": 588, "reserved_storage": 1024**3}
    return {"server": {"name": name}, "data": {"jetstream": {"config": config, "stats": stats}}}


def test_servers_with_and_without_what_the_system_account_knows() -> None:
    answers = [varz("n1", sync_interval=120_000_000_000), varz("n2", sync_interval=120_000_000_000, sync_always=True)]
    assert servers_in([statz("n3"), statz("n1"), statz("n2")], answers) == tuple(
        Server(name, "2.15.1", "0.0.0.0", "trio", True, sync)
        for name, sync in (("n1", 120.0), ("n2", 0.0), ("n3", None))
    )
    assert servers_in(NOT_SEEN, answers) is NOT_SEEN
    without_jetstream = [{"server": {"name": "n1"}, "data": {"jetstream": {}}}]
    assert servers_in([statz("n1")], without_jetstream) == (Server("n1", "2.15.1", "0.0.0.0", "trio", True, None),)


def test_the_server_that_was_connected_to_may_have_no_name() -> None:
    info = {"server_id": "NB2C", "version": "2.15.1", "host": "127.0.0.1", "jetstream": True}
    assert connected_server(info, NOT_SEEN) == Server("NB2C", "2.15.1", "127.0.0.1")


def test_only_limits_that_are_set_are_usages() -> None:
    account: dict[str, Any] = {
        "memory": 0, "storage": 104, "reserved_storage": 50, "streams": 2, "consumers": 1,
        "limits": {"max_memory": -1, "max_storage": 1024, "max_streams": 10, "max_consumers": -1},
    }  # fmt: skip
    assert list(usages_of_account(account)) == [
        Usage("file storage", "the account", 104, 1024, 50),
        Usage("streams", "the account", 2, 10),
    ]
    tiered = {"limits": {"max_storage": 0}, "tiers": {"R1": account, "R3": {**account, "storage": 7}}}
    assert [(usage.of, usage.used) for usage in usages_of_account(tiered) if usage.kind == "file storage"] == [
        ("the account, tier R1", 104),
        ("the account, tier R3", 7),
    ]
    assert list(usages_of_servers([varz("n1", max_storage=2048, max_memory=0)])) == [
        Usage("file storage", "server n1", 588, 2048, 1024**3)
    ]
    assert list(usages_of_account(NOT_SEEN)) == list(usages_of_servers(NOT_SEEN)) == []


def test_permissions() -> None:
    assert permissions_in(None) is None
    found = {
        "publish": {"allow": ["a.>"], "deny": ["a.b"]},
        "subscribe": {"allow": ["registry.> registry", "_INBOX.>"]},
    }
    assert permissions_in(found) == Permissions(("a.>",), ("a.b",), ("registry.>", "_INBOX.>"), ())


def test_a_stream_with_and_without_a_cluster() -> None:
    info: dict[str, Any] = {
        "config": {"name": "X", "num_replicas": 3, "storage": "file"},
        "state": {"messages": 2, "bytes": 104, "first_seq": 1, "last_seq": 2},
        "cluster": {
            "leader": "n1",
            "replicas": [{"name": "n3", "current": False, "offline": True, "lag": 4}, {"name": "n2"}],
        },
    }
    stream = stream_in(info)
    assert not isinstance(stream, Unseen)
    assert stream.peers == (Peer("n2", current=False, offline=False), Peer("n3", current=False, offline=True, lag=4))
    assert (stream.copies, stream.in_memory) == (3, False)
    without = stream_in({**info, "cluster": None})
    assert not isinstance(without, Unseen)
    assert (without.leader, without.peers) == ("", ())


def test_times() -> None:
    told = {"ts": "2026-11-24T23:50:05.946982192Z"}
    assert unix_time(told["ts"]) == 1795564205.946982
    assert server_time(NOT_SEEN, told) == 1795564205.946982


def test_what_is_no_json_object_is_an_empty_one() -> None:
    assert [Entry(1, 0.0, payload).document for payload in (b"", b"[]", b"{", b'{"a":1}')] == [{}, {}, {}, {"a": 1}]
