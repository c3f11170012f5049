"""`watch`: who is there, then every change, until Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.cli.running import Running, Up, command, environment, until


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
