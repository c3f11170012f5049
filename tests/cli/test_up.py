"""`up`: one command, and what becomes of it when it is stopped, killed, started twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import nats
import pytest

from agent_registry.serving import banner
from tests.cli.conftest import Do
from tests.cli.running import Running, Up, command, environment, finished, is_alive, until


async def test_the_ready_file_is_true(tmp_path: Path) -> None:
    """Whoever waits for the file finds a registry that answers, at once."""
    with Up(tmp_path) as up:
        nc = await nats.connect(up.url)
        for subject in ("registry.discover", "registry.stats", "registry.capabilities", "registry.scaling.get"):
            reply = await nc.request(subject, b"", timeout=5)
            assert "error" not in json.loads(reply.data)
        await nc.close()
        assert is_alive(up.nats_pid)
        assert up.url.startswith("nats://127.0.0.1:")


def test_it_says_where_nats_listens_and_what_to_try(up: Up) -> None:
    until(lambda: "Ctrl-C" in up.stdout)
    assert f"running on {up.url}, as process {up.process.pid}\n" in up.stdout
    assert f"export NATS_URL={up.url}" in up.stdout
    assert "nats req registry.discover ''" in up.stdout
    assert str(up.store) in up.stdout
    assert "serving" in up.stderr, "logs go to standard error"
    assert "serving" not in up.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_drains_and_takes_nats_with_it(tmp_path: Path, number: signal.Signals) -> None:
    with Up(tmp_path) as up:
        up.register("ada")
        assert up.end(number) == 0
        assert not is_alive(up.nats_pid)
        assert not up.ready_file.exists()
        assert "Traceback" not in up.stderr
        assert up.stdout.endswith(f"\nstopped; everything is kept in {up.store}\n")
    with Up(tmp_path) as up:
        assert up.agents() == {"ada": "active"}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_nats_that_ends_is_started_again_and_told_of(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        os.kill(up.nats_pid, signal.SIGKILL)
        until(lambda: "nats_server_ended" in up.stderr)
        line = next(line for line in up.stderr.splitlines() if "nats_server_ended" in line)
        assert "by=SIGKILL" in line
        assert "restart='1 of 5'" in line
        until(lambda: up.agents() == {})


def test_who_has_no_nats_command_is_told_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "nats" else f"/usr/bin/{name}")
    assert "go install github.com/nats-io/natscli/nats@latest" in banner("nats://127.0.0.1:4222", "registry", None, 7)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "natscli" not in banner("nats://127.0.0.1:4222", "registry", None, 7)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        os.kill(up.nats_pid, signal.SIGSTOP)  # now draining waits for an answer that does not come
        up.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            up.process.wait(0.5)
        assert up.end(signal.SIGTERM) == -signal.SIGTERM
        until(lambda: not is_alive(up.nats_pid), within=5)


def test_killed_and_started_again_it_has_everything_acknowledged(tmp_path: Path) -> None:
    """The issue's third bullet: same agents, same incarnations, on the same port."""
    with Up(tmp_path) as up:
        for name in ("ada", "bob", "eve"):
            up.register(name)
        up.ask(lambda registry: registry.deregister_agent("bob"))
        up.ask(lambda registry: registry.suspend_agent("eve"))
        before = up.ask(lambda registry: registry.get_agent_info("ada"))
        port = up.url.rpartition(":")[2]
        up.process.kill()
        up.process.wait()
        assert up.ready_file.exists(), "a kill leaves it behind; the next start takes it away"
    with Up(tmp_path, "--port", port) as again:
        assert again.url == up.url
        assert again.agents() == {"ada": "active", "eve": "suspended"}
        after = again.ask(lambda registry: registry.get_agent_info("ada"))
        assert before is not None
        assert after is not None
        assert (after.incarnation, after.registered_at) == (before.incarnation, before.registered_at)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_killed_it_leaves_no_nats_behind(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        up.process.kill()
        up.process.wait()
        until(lambda: not is_alive(up.nats_pid), within=5)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = finished("up", "--port", str(port), "--store", tmp_path)
    assert found.returncode == 4
    assert found.stdout == ""
    assert f"port {port}" in found.stderr
    assert "--port 0" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_store_has_one_user(up: Up) -> None:
    """Two NATS servers on one store would destroy it."""
    port = up.url.rpartition(":")[2]
    for number, what in (("0", f"store {up.store} is"), (port, f"port {port} and store {up.store} are")):
        found = finished("up", "--port", number, "--store", up.store)
        assert found.returncode == 4
        error, hint = found.stderr.splitlines()
        assert error == f"error: {what} in use by another agent-registry, pid {up.process.pid}"
        assert "--port 0" in hint
    found = finished("up", "--port", "0", "--store", up.store, "--ready-file", up.ready_file)
    assert found.returncode == 4
    assert up.ready_file.exists(), "it belongs to the first one"
    assert up.agents() == {}, "the first one runs on"


def test_a_store_is_not_free_while_a_nats_server_is_left_behind(tmp_path: Path) -> None:
    """One that stands still does not hear that it is to end with its `up`."""
    with Up(tmp_path) as up:
        os.kill(up.nats_pid, signal.SIGSTOP)
        up.process.kill()
        up.process.wait()
        try:
            found = finished("up", "--port", "0", "--store", up.store)
            assert found.returncode == 4
            left = f"the nats-server, pid {up.nats_pid}, that an earlier run left behind"
            assert f"error: {up.store} is in use by {left}; kill -9 {up.nats_pid} ends it" in found.stderr
        finally:
            os.kill(up.nats_pid, signal.SIGKILL)
    with Up(tmp_path) as up:
        assert up.agents() == {}


def test_another_prefix(do: Do, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Up(tmp_path, "--prefix", "team-a") as up:
        until(lambda: "Ctrl-C" in up.stdout)
        assert "export AGENT_REGISTRY_PREFIX=team-a" in up.stdout
        assert "nats req team-a.discover ''" in up.stdout
        assert do("agents", "--nats", up.url, "--prefix", "team-a").code == 0
        monkeypatch.setenv("AGENT_REGISTRY_PREFIX", "team-a")
        assert do("agents", "--nats", up.url).code == 0


@pytest.mark.parametrize(
    ("env", "arguments", "code", "said"),
    [
        ({"AGENT_REGISTRY_KV_REPLICAS": "many"}, (), 2, "AGENT_REGISTRY_KV_REPLICAS: must be a whole number"),
        ({"AGENT_REGISTRY_SCALE_UP": "0.7"}, (), 2, "did you mean AGENT_REGISTRY_SCALE_UP_LOAD?"),
        ({"AGENT_REGISTRY_NATS_SERVER": "/no/such/nats-server"}, (), 4, "/no/such/nats-server"),
        ({}, ("--ready-file", "/no/such/folder/ready.json"), 2, "/no/such/folder"),
        ({}, ("--ready-file", "/dev/null/ready.json"), 2, "/dev/null/ready.json"),
        ({}, ("--store", "/dev/null/store"), 2, "--store"),
    ],
    ids=["setting", "name", "server", "ready file", "ready file below a file", "store"],
)
def test_what_cannot_work_is_one_clear_line(
    tmp_path: Path, env: dict[str, str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    found = finished("up", "--port", "0", "--store", tmp_path / "store", *arguments, env=environment(**env))
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr
    errors = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]


def test_the_store_of_a_person_who_names_none(tmp_path: Path) -> None:
    env = environment(XDG_DATA_HOME=str(tmp_path / "data"))
    ready = tmp_path / "ready.json"
    with Running(command("up", "--port", "0", "--ready-file", ready), tmp_path / "out", env) as up:
        until(lambda: ready.exists() or up.process.poll() is not None)
        assert (tmp_path / "data" / "agent-registry" / "jetstream").is_dir()
