"""Saving and putting back against a real NATS, with replicas that run and without, by the commands themselves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from agents_sdk import Joined, RegistryClient, ServiceQuery, Snapshot
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.backup.lines import agent, header, stored
from tests.cli.conftest import Outcome
from tests.cli.running import command, environment, run_here
from tests.conftest import Start, eventually
from tests.contract.wire import (
    AGENTS_STREAM,
    TRADER,
    ask,
    decoded,
    everything,
    payloads,
    stored_events,
    told,
)

CONTROL_STREAM = "KV_registry_control"


class CommandLine:
    """Runs commands against one NATS."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capsys = capsys

    async def __call__(self, *words: str | Path) -> Outcome:
        """Run one in this process, where replicas may log at the same time."""
        self._capsys.readouterr()
        code = await asyncio.to_thread(run_here, *words, "--nats", self._url)
        return Outcome(code, *self._capsys.readouterr())

    async def apart(self, *words: str | Path, stdin: bytes = b"") -> Outcome:
        """Run one in a process of its own."""
        process = await self.begin(*words)
        out, err = await asyncio.wait_for(process.communicate(stdin), 50)
        assert process.returncode is not None
        return Outcome(process.returncode, out.decode(), err.decode())

    async def begin(self, *words: str | Path) -> asyncio.subprocess.Process:
        """Start one in a process of its own."""
        return await asyncio.create_subprocess_exec(
            *command(*words), "--nats", self._url, env=environment(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def counts(self, *words: str | Path) -> dict[str, int]:
        """Import, and return what became of the agents, without zeros."""
        ended = await self("import", *words, "--json")
        assert ended.code == 0, ended.err
        return {name: count for name, count in ended.document["agents"].items() if count}


@pytest.fixture
def line(nats_server: NatsServer, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(nats_server.url, capsys)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    return tmp_path / "backup.jsonl"


@pytest.fixture(autouse=True)
def _quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas notice sooner than in life that a bucket is another one."""
    monkeypatch.setattr("registry.shell.tail.WATCH_INTERVAL", 0.2)


async def register(nc: Client, *agent_ids: str, **fields: Any) -> None:
    for agent_id in agent_ids:
        await told(
            nc, f"registry.register.{agent_id}", {**TRADER, "agent_id": agent_id, "instance_id": "run-1", **fields}
        )


async def lose_buckets(nc: Client) -> None:
    """Lose what NATS keeps of agents and policies; the events stay."""
    assert await nc.jetstream().delete_stream(AGENTS_STREAM)
    assert await nc.jetstream().delete_stream(CONTROL_STREAM)


async def last_revision(nc: Client) -> int:
    return (await nc.jetstream().stream_info(AGENTS_STREAM)).state.last_seq


async def records(nc: Client) -> dict[str, dict[str, Any]]:
    """Every record in the bucket, without what tells one write of it from another."""
    bucket = await nc.jetstream().key_value("registry_agents")
    return {key: plain(decoded((await bucket.get(key)).value)) for key in await bucket.keys()}


def plain(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what tells one write of it from another."""
    kept: dict[str, Any] = json.loads(json.dumps(record))
    for name in ("change", "change_revision", "claims_since", "write_id"):
        kept.pop(name, None)
    return kept


def lines_in(backup: Path) -> list[dict[str, Any]]:
    return [json.loads(each) for each in backup.read_bytes().splitlines()]


RULE = {"name": "four-eyes", "kind": "combination", "capabilities": ["execution", "trading"]}


async def a_fleet(nc: Client) -> None:
    """Agents in every condition that a backup can find them in."""
    await register(nc, "plain")
    await register(
        nc, "rich", version="2.1.0", tags=["eu", "gpu"], metadata={"desk": {"floor": [1, 2.5, None]}}, claims=["db"],
        max_concurrency=4, heartbeat_interval=600, connection={"server_id": "S", "client_id": 9},
    )  # fmt: skip
    await register(nc, "held", "degraded", "leaving", "gone", "newer")
    await told(nc, "registry.suspend.held", {"reason": "audit"})
    await told(nc, "registry.health.degraded", {"health_score": 0.6, "load_factor": 0.4, "queue": 7})
    await told(nc, "registry.drain.leaving")
    await told(nc, "registry.deregister.gone")
    await told(nc, "registry.register.newer", {**TRADER, "agent_id": "newer", "instance_id": "run-2", "takeover": True})
    await told(nc, "registry.scaling.set", {"capability": "trading", "max_agents": 4, "min_agents": 1})
    await told(nc, "registry.scaling.set", {"capability": "research", "high_load": 0.9})
    await told(nc, "registry.conflict.set", RULE)


async def test_everything_comes_back_on_every_running_replica(
    start: Start, nc: Client, line: CommandLine, backup: Path
) -> None:
    replicas = [await start(), await start()]
    await a_fleet(nc)
    told_before = len(await stored_events(nc, 12))  # then the leader has moved whom it was to move
    before, (_, agents) = await records(nc), await everything(nc)
    saved = await line("export", backup)
    assert saved.code == 0, saved.err
    assert saved.out.startswith("6 agents, 2 scaling policies and 1 rule as of revision ")
    await lose_buckets(nc)
    done = await line("import", backup)
    assert done.code == 0, done.err
    assert "6 agents: 6 restored" in done.out
    assert "2 scaling policies: 2 restored" in done.out
    assert "1 rule: 1 restored" in done.out
    assert await records(nc) == before
    for replica in replicas:
        await eventually(lambda replica=replica: replica.log.revision == 6 and len(replica.state.agents) == 6)
        await eventually(lambda replica=replica: len(replica.state.scaler.policies.own) == 2)
        assert {key: plain(one.record.to_json()) for key, one in replica.state.agents.items()} == before
        assert replica.state.scaler.policies.own["trading"] == {"max_agents": 4, "min_agents": 1}
        await eventually(lambda replica=replica: set(replica.state.catalog.rules.own) == {"four-eyes"})
    # As anybody sees them, but for where they stand in the bucket; and replicas hear a beat each at its own time.
    _, after = await everything(nc)
    for agent_id, one in after.items():
        assert one.pop("last_heartbeat") == pytest.approx(agents[agent_id].pop("last_heartbeat"), abs=0.5)
        del one["revision"], agents[agent_id]["revision"]
    assert after == agents
    assert (after["held"]["status"], after["held"]["status_reason"]) == ("suspended", "operator")
    assert after["newer"]["incarnation"] == 2
    # Each is told of once, as the beginning of a life.
    events = payloads(await stored_events(nc, told_before + 6))[told_before:]
    assert {event["agent_id"]: (event["from"], event["to"], event["reason"]) for event in events} == {
        agent_id: ("registering", one["status"], "restored") for agent_id, one in agents.items()
    }
    assert {event["previous_revision"] for event in events} == {0}
    # And lives on: who beats is heard, an operator's word holds, the chain goes on.
    assert (await told(nc, "registry.heartbeat.newer", {"incarnation": 2}))["status"] == "active"
    assert (await ask(nc, "registry.heartbeat.newer", {"incarnation": 1})).code == "stale_incarnation"
    await told(nc, "registry.health.held", {"health_score": 1.0})
    resumed = await told(nc, "registry.resume.held")
    assert resumed["status"] == "active"
    last = payloads(await stored_events(nc, told_before + 7))[-1]
    restored = next(event for event in events if event["agent_id"] == "held")
    assert (last["reason"], last["previous_revision"]) == ("operator", restored["revision"])


async def test_an_export_of_what_was_imported_is_the_same(
    start: Start, nc: Client, line: CommandLine, backup: Path, tmp_path: Path
) -> None:
    await start()
    await a_fleet(nc)
    await stored_events(nc, 12)
    await line("export", backup)
    await lose_buckets(nc)
    await line("import", backup)
    again = tmp_path / "again.jsonl"
    await line("export", again)

    def comparable(path: Path) -> list[Any]:
        return sorted((entry["kind"], entry["key"], plain(entry["record"])) for entry in lines_in(path)[1:])

    assert comparable(again) == comparable(backup)


async def test_into_a_nats_where_no_registry_has_been(
    nats_server: NatsServer, nc: Client, line: CommandLine, backup: Path
) -> None:
    """None runs meanwhile; the first one that starts knows everybody, tells of them, and leases are full."""
    backup.write_bytes(header(2) + agent("a", heartbeat_timeout=0.3, status="active", health_score=1.0) + agent("b"))
    assert await line.counts(backup) == {"restored": 2}
    replica = Replica(Settings(), nats_server.url)
    await replica.start()
    try:
        assert set(replica.state.agents) == {"a", "b"}
        assert replica.state.agents["a"].heard >= replica.state.agents["a"].since
        events = payloads(await stored_events(nc, 2))
        assert [(event["agent_id"], event["reason"]) for event in events] == [("a", "restored"), ("b", "restored")]
        await told(nc, "registry.suspend.b")
    finally:
        await replica.stop()
    config = (await nc.jetstream().stream_info(AGENTS_STREAM)).config
    assert (config.max_msgs_per_subject, config.allow_direct) == (8, True), "as a registry would have made it"


async def test_who_is_there_is_left_alone(start: Start, nc: Client, line: CommandLine, backup: Path) -> None:
    await start()
    await register(nc, "a", "b", "c")
    await line("export", backup)
    await register(nc, "a", metadata={"newer": True})
    await told(nc, "registry.deregister.b")
    _, before = await everything(nc)
    assert await line.counts(backup) == {"restored": 1, "there": 2}
    _, after = await everything(nc)
    assert set(after) == {"a", "b", "c"}
    assert {key: after[key] for key in ("a", "c")} == before


async def test_who_is_there_is_replaced_if_asked_for_and_goes_on(
    start: Start, nc: Client, line: CommandLine, backup: Path
) -> None:
    one, two = await start(), await start()
    await register(nc, "a", metadata={"desk": 7}, heartbeat_interval=600)
    await told(nc, "registry.suspend.a")
    await line("export", backup)
    again = {**TRADER, "agent_id": "a", "instance_id": "run-2", "takeover": True, "metadata": {"desk": 8}}
    assert (await told(nc, "registry.register.a", again))["incarnation"] == 2
    await told(nc, "registry.resume.a")
    assert await line.counts(backup, "--overwrite") == {"replaced": 1}
    await eventually(lambda: one.log.revision == two.log.revision == 5)
    seen = await told(nc, "registry.get.a")
    assert (seen["metadata"], seen["status"], seen["status_reason"]) == ({"desk": 7}, "suspended", "operator")
    assert (seen["incarnation"], seen["instance_id"]) == (2, "run-2"), "who runs stays who it is"
    assert (await told(nc, "registry.heartbeat.a", {"incarnation": 2}))["status"] == "suspended"
    assert (await ask(nc, "registry.heartbeat.a", {"incarnation": 1})).code == "stale_incarnation"
    event = payloads(await stored_events(nc, 5))[-1]
    assert (event["from"], event["to"], event["reason"]) == ("active", "suspended", "restored")
    assert (event["revision"], event["previous_revision"]) == (5, 4)
    assert await line.counts(backup, "--overwrite") == {"same": 1}, "nothing is written twice"
    assert await last_revision(nc) == 5


async def test_who_was_removed_does_not_come_back_as_somebody_older(
    start: Start, nc: Client, line: CommandLine, backup: Path
) -> None:
    await start()
    await register(nc, "a")
    await line("export", backup)
    await told(nc, "registry.register.a", {**TRADER, "agent_id": "a", "instance_id": "run-2", "takeover": True})
    await told(nc, "registry.deregister.a")
    assert await line.counts(backup) == {"restored": 1}
    assert (await told(nc, "registry.get.a", {"min_revision": 4}))["incarnation"] == 2
    event = payloads(await stored_events(nc, 4))[-1]
    assert (event["reason"], event["previous_revision"]) == ("restored", 0)


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
async def test_a_dry_run_says_what_would_be_and_changes_nothing(
    start: Start, nc: Client, line: CommandLine, backup: Path, overwrite: tuple[str, ...]
) -> None:
    await start()
    await register(nc, "a", "b")
    await told(nc, "registry.scaling.set", {"capability": "trading", "max_agents": 4})
    await line("export", backup)
    await told(nc, "registry.deregister.a")
    await register(nc, "b", tags=["newer"])
    before = await everything(nc), len(await stored_events(nc, 4))
    control = await nc.jetstream().key_value("registry_control")
    policy = await control.get("policy.trading")
    done = await line("import", backup, "--dry-run", *overwrite)
    assert done.code == 0, done.err
    b = "replaced" if overwrite else "there already"
    assert done.out.splitlines()[:3] == [
        "line 2: agent a: restored", f"line 3: agent b: {b}", "line 4: scaling policy trading: the same already",
    ]  # fmt: skip
    assert "nothing was written" in done.out
    assert f"  2 agents: 1 restored, 1 {b}\n" in done.out
    assert (await everything(nc), len(await stored_events(nc, 4))) == before
    assert (await control.get("policy.trading")).revision == policy.revision


async def test_a_dry_run_makes_no_buckets(nc: Client, line: CommandLine, backup: Path) -> None:
    backup.write_bytes(header(1) + agent("a", claims=["db"]))
    assert await line.counts(backup, "--dry-run") == {"restored": 1}
    assert await nc.jetstream().streams_info() == []


async def test_a_registry_that_is_not_the_backups_is_named(nc: Client, line: CommandLine, backup: Path) -> None:
    """A mistyped prefix makes a registry of its own; whoever mistyped it sees that, best in a dry run."""
    backup.write_bytes(header(1) + agent("a"))
    which = "into the registry with prefix othr; the backup is of the one with prefix registry\n"
    buckets = "buckets of prefix othr that {}: othr_agents, othr_control\n"
    tried = await line("import", backup, "--dry-run", "--prefix", "othr")
    assert which + buckets.format("are not there, and would be made") in tried.out
    for words in (("--dry-run",), ()):
        document = (await line("import", backup, "--prefix", "third", "--json", *words)).document
        assert (document["prefix"], document["new_buckets"]) == ("third", ["third_agents", "third_control"])
    done = await line("import", backup, "--prefix", "othr")
    assert which + buckets.format("were not there, and have been made") in done.out
    again = await line("import", backup, "--prefix", "othr")
    assert which in again.out
    assert "buckets" not in again.out
    assert "into the registry" not in (await line("import", backup)).out


async def test_nothing_is_written_of_a_file_with_a_bad_line(
    start: Start, nc: Client, line: CommandLine, backup: Path
) -> None:
    await start()
    backup.write_bytes(header(3) + agent("a") + agent("b", heartbeat_timeout="long") + agent("c"))
    done = await line.apart("import", backup)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: {backup}, line 3: record.heartbeat_timeout: must be a number; got 'long'\nhint: nothing was written\n"
    )
    assert await last_revision(nc) == 0


async def test_a_file_that_was_cut_off_is_recognised(start: Start, nc: Client, line: CommandLine, backup: Path) -> None:
    await start()
    whole = header(2, 0) + agent("a") + agent("b")
    for end in (0, 5, len(header(2)), len(header(2) + agent("a")), len(whole) - 20):
        backup.write_bytes(whole[:end])
        done = await line("import", backup)
        assert done.code == 2, f"cut off at {end}"
        assert "cut off" in done.err or "is empty" in done.err
    assert await last_revision(nc) == 0


async def test_a_backup_through_pipes(start: Start, nc: Client, line: CommandLine) -> None:
    await start()
    await register(nc, "a", "b")
    saved = await line.apart("export")
    assert saved.err == ""
    assert len(saved.out.splitlines()) == 3
    await told(nc, "registry.deregister.a")
    done = await line.apart("import", "-", "--json", stdin=saved.out.encode())
    assert done.document["agents"]["restored"] == 1


async def test_a_claim_has_one_holder(start: Start, nc: Client, line: CommandLine, backup: Path) -> None:
    await start()
    await register(nc, "a", claims=["db", "queue"])
    await register(nc, "b")
    await line("export", backup)
    await told(nc, "registry.deregister.a")
    await told(nc, "registry.deregister.b")
    await register(nc, "c", claims=["db"])
    done = await line("import", backup)
    assert done.code == 3
    assert "line 2: agent a: refused, 'db' is held by 'c'\n" in done.err
    assert "2 agents: 1 restored, 1 refused" in done.out
    await told(nc, "registry.deregister.c")
    assert await line.counts(backup) == {"restored": 1, "there": 1}


async def test_records_of_newer_versions_come_back_as_they_were(
    start: Start, nc: Client, line: CommandLine, backup: Path
) -> None:
    """Also in a form that nobody here knows; one that is there is left alone."""
    await start()
    bucket = await nc.jetstream().key_value("registry_agents")
    healthy = {**stored("v2.json"), "health_score": 1.0}  # or else the leader moves its status meanwhile
    await bucket.put("trader-2", json.dumps(healthy).encode())
    await bucket.put("trader-3", json.dumps(stored("v3.json")).encode())
    await line("export", backup)
    assert await line.counts(backup, "--overwrite") == {"same": 1, "newer": 1}
    await bucket.purge("trader-2")
    await bucket.purge("trader-3")
    assert await line.counts(backup) == {"restored": 2}
    kept = decoded((await bucket.get("trader-2")).value)
    assert (kept["v"], kept["region"]) == (2, {"name": "eu-west", "zone": 3})
    assert decoded((await bucket.get("trader-3")).value) == stored("v3.json")


async def test_what_is_no_record_is_not_saved_and_can_be_written_over(
    start: Start, nc: Client, line: CommandLine, backup: Path
) -> None:
    await start()
    await register(nc, "a")
    bucket = await nc.jetstream().key_value("registry_agents")
    await bucket.put("b", b"not a record")
    saved = await line("export", backup)
    assert saved.code == 0
    assert "left out: b: is not JSON" in saved.err
    assert [entry["key"] for entry in lines_in(backup)[1:]] == ["a"]
    backup.write_bytes(header(1) + agent("b"))
    assert await line.counts(backup) == {"restored": 1}
    assert (await told(nc, "registry.get.b", {"min_revision": 3}))["incarnation"] == 3


async def test_an_export_while_agents_change_is_of_one_moment(
    start: Start, nc: Client, line: CommandLine, backup: Path
) -> None:
    """Two agents change in turns, so at every revision they differ by one at most."""
    replica = await start()
    stop = asyncio.Event()

    async def change() -> None:
        number = 0
        while not stop.is_set():
            for agent_id in ("a", "b"):
                await register(nc, agent_id, metadata={"n": number})
            number += 1

    changing = asyncio.ensure_future(change())
    await eventually(lambda: replica.log.revision > 10)
    for _ in range(3):
        assert (await line("export", backup)).code == 0
        head, *entries = lines_in(backup)
        assert head["revision"] == max(entry["revision"] for entry in entries)
        n = {entry["key"]: entry["record"]["metadata"]["n"] for entry in entries}
        assert n["a"] - n["b"] in (0, 1)
    stop.set()
    await changing


async def test_interrupted_and_run_again_it_does_the_rest(
    start: Start, nc: Client, line: CommandLine, backup: Path
) -> None:
    """Of 5,000 agents; killed in the middle, and nobody is there twice or told of twice."""
    replica = await start()
    total = 5_000
    backup.write_bytes(header(total) + b"".join(agent(f"a-{number}") for number in range(total)))
    first = await line.begin("import", backup)
    await eventually(lambda: replica.log.revision > 500, within=30.0)
    os.kill(first.pid, signal.SIGKILL)
    await first.wait()
    there = await last_revision(nc)
    assert 500 < there < total
    counts = await line.counts(backup)
    assert counts["restored"] + counts["there"] == total
    assert there <= counts["there"] < total, "what was on its way when it was killed may arrive after that"
    assert await last_revision(nc) == total
    await eventually(lambda: len(replica.state.agents) == total, within=30.0)
    events = payloads(await stored_events(nc, total))
    assert len(events) == total
    assert {event["agent_id"] for event in events} == set(replica.state.agents)


async def test_a_watch_sees_who_is_put_back(
    start: Start, nc: Client, nats_server: NatsServer, line: CommandLine, backup: Path
) -> None:
    """Also in a bucket that was made anew, whose revisions it has seen before."""
    await start()
    await register(nc, "a", "b", "c", tags=["eu"])
    await line("export", backup)
    await told(nc, "registry.deregister.b")
    async with RegistryClient(nats_server.url) as client, aclosing(client.watch(ServiceQuery())) as changes:
        seen = await anext(changes)
        assert isinstance(seen, Snapshot)
        assert {one.agent_id for one in seen.agents} == {"a", "c"}
        await line("import", backup)
        joined = await anext(changes)
        assert isinstance(joined, Joined)
        assert (joined.agent.agent_id, joined.agent.tags) == ("b", {"eu"})
        await lose_buckets(nc)
        await line("import", backup)
        agents: set[str] = set()
        async with asyncio.timeout(20):
            while agents != {"a", "b", "c"}:
                change = await anext(changes)
                if isinstance(change, Snapshot):
                    agents = {one.agent_id for one in change.agents}
                elif isinstance(change, Joined):
                    agents.add(change.agent.agent_id)


async def test_an_import_that_cannot_go_on_says_how_far_it_came(
    start: Start, nc: Client, line: CommandLine, backup: Path
) -> None:
    replica = await start()
    total = 20_000
    backup.write_bytes(header(total) + b"".join(agent(f"a-{number}") for number in range(total)))
    process = await line.begin("import", backup)
    await eventually(lambda: replica.log.revision > 500, within=30.0)
    await nc.jetstream().delete_stream(AGENTS_STREAM)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 4
    assert f"of {total} entries were done" in err.decode()
    assert "import it again" in err.decode()
