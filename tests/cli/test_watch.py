"""`watch`: who is there, then every change, until Ctrl-C."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_registry.watching import _Teller
from agents_sdk import AgentInfo, AgentStatus, Joined, RegistryClient, Snapshot
from registry.replica import Replica
from registry.settings import Settings
from tests.cli.running import Running, Up, command, environment, until
from tests.conftest import eventually
from tests.sdk.outage import Server


def watching(up: Up, folder: Path, *arguments: str) -> Running:
    return Running(command("watch", "--nats", up.url, *arguments), folder)


def seen(watch: Running, change: str, agent_id: str) -> list[dict[str, Any]]:
    """Return what was seen of one agent."""

    def subject(line: dict[str, Any]) -> str | None:
        return line.get("agent_id") or line.get("agent", {}).get("agent_id")

    return [line for line in watch.lines() if line["change"] == change and subject(line) == agent_id]


def test_json_has_a_snapshot_then_changes_one_a_line(up: Up, tmp_path: Path) -> None:
    up.register("ada")
    with watching(up, tmp_path, "--json") as watch:
        until(watch.lines)
        first = watch.lines()[0]
        assert first["change"] == "snapshot"
        assert [agent["agent_id"] for agent in first["agents"]] == ["ada"]
        up.register("bob")
        until(lambda: seen(watch, "joined", "bob"))
        up.ask(lambda registry: registry.suspend_agent("bob", "lunch"))
        until(lambda: seen(watch, "changed", "bob"))
        event = seen(watch, "changed", "bob")[0]["event"]
        assert (event["from"], event["to"], event["reason"], event["note"]) == (
            "active",
            "suspended",
            "operator",
            "lunch",
        )
        up.ask(lambda registry: registry.deregister_agent("bob"))
        until(lambda: seen(watch, "left", "bob"))
        assert watch.end(signal.SIGINT) == 0
        assert watch.stderr == ""


def test_people_get_a_line_for_each(up: Up, tmp_path: Path) -> None:
    up.register("carol")
    with watching(up, tmp_path) as watch:
        until(lambda: "carol" in watch.stdout)
        up.ask(lambda registry: registry.drain_agent("carol", "goodbye"))
        until(lambda: "active → deregistering" in watch.stdout)
        line = next(line for line in watch.stdout.splitlines() if "deregistering" in line)
        assert "draining: goodbye" in line
        assert "\x1b" not in watch.stdout, "no colours in a file"
        up.ask(lambda registry: registry.deregister_agent("carol"))
        until(lambda: "- gone" in watch.stdout)
        assert watch.end(signal.SIGINT) == 0
        assert "Traceback" not in watch.stderr


def test_the_first_listing_is_no_news(tmp_path: Path) -> None:
    """A heading says what is watched, also when nobody is there; who was there already has no time of day."""
    with Up(tmp_path / "up") as up:
        with watching(up, tmp_path / "empty") as watch:
            until(lambda: "no agents yet" in watch.stdout)
            assert watch.stdout.splitlines()[0] == f"watching {up.url}: no agents yet  (+ came, - gone; Ctrl-C ends)"
            up.register("ada")
            until(lambda: "+ active" in watch.stdout)
        with watching(up, tmp_path / "one") as watch:
            until(lambda: "ada" in watch.stdout)
            heading, line = watch.stdout.splitlines()
            assert heading.startswith(f"watching {up.url}: 1 agent ")
            assert re.fullmatch(r" {10}ada +active +registered  \[trading\]", line)


def test_after_an_outage_people_are_told_what_is_new(tmp_path: Path) -> None:
    with Up(tmp_path / "up") as up, watching(up, tmp_path / "watch") as watch:
        up.register("ada")
        up.register("bob")
        until(lambda: watch.stdout.count("[trading]") == 2)
        port = up.url.rpartition(":")[2]
        up.process.kill()
        up.process.wait()
        with Up(tmp_path / "up", "--port", port):
            until(lambda: "connected again" in watch.stdout)
            told = watch.stdout
            assert re.search(r"registry +connected again +2 agents, 0 changes meanwhile\n", told)
            assert told.count("ada") == told.count("bob") == 1
            assert watch.stderr.count("\n") == 1, "the loss is told once"
            assert "is lost; reconnecting" in watch.stderr


def test_being_connected_again_is_told_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One restart may bring two snapshots; the second one says nothing new. A later one does."""
    ada = AgentInfo("ada", "trader", {"trading"}, AgentStatus.ACTIVE)
    tell = _Teller("nats://127.0.0.1:4222")
    for _ in range(3):
        tell(Snapshot((ada,), 1))
    assert capsys.readouterr().out.count("connected again") == 1
    monkeypatch.setattr("agent_registry.watching.SETTLING", -1.0)
    tell(Snapshot((ada,), 1))
    assert capsys.readouterr().out.count("connected again") == 1


def test_who_was_offline_before_has_not_just_gone(capsys: pytest.CaptureFixture[str]) -> None:
    """Such as one that was put back from a backup. Who has just gone has a time, also in a watch of the gone."""
    ada = AgentInfo("ada", "trader", {"trading"}, AgentStatus.OFFLINE, status_reason="heartbeat_timeout")
    long_ago, now = replace(ada, status_since=time.time() - 1800), replace(ada, status_since=time.time())
    tell = _Teller("nats://127.0.0.1:4222")
    tell(Snapshot((), 1))
    tell(Snapshot((long_ago,), 2))
    tell(Joined(replace(long_ago, agent_id="bob")))
    tell(Joined(replace(now, agent_id="eve")))
    _, _, ada_line, bob_line, eve_line = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r" {10}ada +offline +heartbeat_timeout, 30 min ago  \[trading\]", ada_line)
    assert re.fullmatch(r" {10}bob +offline +heartbeat_timeout, 30 min ago  \[trading\]", bob_line)
    assert re.fullmatch(r"\d\d:\d\d:\d\d  eve +\+ offline +heartbeat_timeout  \[trading\]", eve_line)


def test_what_an_outage_hid_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    ada, bob, eve = (AgentInfo(name, "trader", {"trading"}, AgentStatus.ACTIVE) for name in ("ada", "bob", "eve"))
    tell = _Teller("nats://127.0.0.1:4222")
    tell(Snapshot((ada,), 1))
    tell(Joined(bob))
    tell(Snapshot((replace(ada, status=AgentStatus.DEGRADED), eve), 9))
    tell(Snapshot((replace(ada, status=AgentStatus.DEGRADED, load_factor=0.9), eve), 9))
    told = [line[10:] for line in capsys.readouterr().out.splitlines()[3:]]
    expected = [
        "registry +connected again +2 agents, 3 changes meanwhile",
        "ada +degraded .*",
        r"eve +\+ active .*",
        "bob +- gone",
    ]
    assert len(told) == len(expected)
    assert [line for line, wanted in zip(told, expected, strict=True) if not re.fullmatch(wanted, line)] == []


def test_only_some_agents(up: Up, tmp_path: Path) -> None:
    with watching(up, tmp_path, "--json", "--type", "risk_agent") as watch:
        until(watch.lines)
        up.register("dave")
        up.register("erin", agent_type="risk_agent", capabilities=["risk_management"])
        until(lambda: seen(watch, "joined", "erin"))
        assert not seen(watch, "joined", "dave")
        assert watch.end(signal.SIGTERM) == 0


def test_scaling_orders_are_shown(tmp_path: Path) -> None:
    with (
        Up(tmp_path / "up", env=environment(AGENT_REGISTRY_SCALING_INTERVAL="0.3")) as up,
        watching(up, tmp_path / "json", "--json") as watch,
        watching(up, tmp_path / "text") as text,
    ):
        until(watch.lines)
        # Orders are repeated when they expire, so it does not matter when each of the two begins to listen.
        up.ask(lambda registry: registry.set_scaling("research", min_agents=2, order_timeout=1.0))
        until(lambda: [line for line in watch.lines() if line["change"] == "scaling"])
        until(lambda: "scale_up 0 → 2" in text.stdout)


def test_it_outlives_a_restart_of_the_registry(tmp_path: Path) -> None:
    with Up(tmp_path / "up") as up, watching(up, tmp_path / "watch", "--json") as watch:
        until(watch.lines)
        up.register("ada")
        until(lambda: seen(watch, "joined", "ada"))
        port = up.url.rpartition(":")[2]
        up.process.kill()
        up.process.wait()
        with Up(tmp_path / "up", "--port", port) as again:
            again.register("bob")
            until(lambda: seen(watch, "joined", "bob") or "bob" in str(watch.lines()[-1]))
            assert watch.process.poll() is None
            assert watch.end(signal.SIGINT) == 0
            assert "Traceback" not in watch.stderr


async def test_it_outlives_a_login_that_does_not_work_for_a_while(tmp_path: Path) -> None:
    """The server closes the connection for good then; it says so, and goes on when the login works again."""
    logins = "authorization {{ users: [{{user: r, password: r}}, {{user: op, password: {}}}] }}"
    server = Server(tmp_path, logins.format("op"))
    await server.start()
    replica = Replica(Settings(), server.url.replace("//", "//r:r@"))
    await replica.start()
    url = server.url.replace("//", "//op:op@")
    async with RegistryClient(server.url.replace("//", "//r:r@")) as client:
        with Running(command("watch", "--json", "--nats", url), tmp_path / "watch") as watch:
            await eventually(lambda: bool(watch.lines()), within=20)
            server.reload(logins.format("other"))
            await eventually(lambda: "refuses this user" in watch.stderr, within=20)
            assert "op:op" not in watch.stderr
            server.reload(logins.format("op"))
            await client.register({"agent_type": "t", "capabilities": ["trading"], "agent_id": "ada"})
            await eventually(lambda: "ada" in watch.stdout, within=20)
            assert watch.process.poll() is None
    await replica.stop()
    await server.kill()
