"""NATS or the registry is not there, or does not let this user in: a clear line, a hint, exit code 4."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from registry.shell.embedded import NatsServer
from tests.cli.conftest import Do
from tests.cli.running import Running, command, environment, finished, until
from tests.sdk.outage import Server


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_nats(do: Do, closed_port: int) -> None:
    code, _, err = do("agents", "--nats", f"nats://127.0.0.1:{closed_port}")
    assert code == 4
    error, hint = err.splitlines()
    assert error == f"error: cannot reach NATS at nats://127.0.0.1:{closed_port}: connection refused"
    assert "agent-registry up" in hint


def test_no_nats_for_a_replica(closed_port: int) -> None:
    found = finished("serve", "--nats", f"nats://ada:secret@127.0.0.1:{closed_port}")
    assert found.returncode == 4
    assert found.stdout == ""
    error, hint = found.stderr.splitlines()
    assert error == f"error: cannot reach NATS at nats://127.0.0.1:{closed_port}: connection refused"
    assert "agent-registry up" in hint


def test_a_url_that_is_none(do: Do) -> None:
    code, _, err = do("agents", "--nats", "nats:///nowhere")
    assert code == 4
    assert len(err.splitlines()) <= 2


async def test_nats_without_a_registry(nats_server: NatsServer) -> None:
    found = finished("agents", "--nats", nats_server.url)
    assert found.returncode == 4
    error, hint = found.stderr.splitlines()
    assert "no registry serves 'discover'" in error
    assert f"agent-registry serve --nats {nats_server.url}" in hint


@pytest.fixture
async def guarded(tmp_path: Path) -> Server:
    """A NATS server that asks for user and password."""
    return Server(tmp_path, 'authorization { user: "ada", password: "secret" }')


async def test_the_wrong_user(guarded: Server) -> None:
    await guarded.start()
    try:
        for name in ("agents", "serve"):
            found = finished(name, "--nats", guarded.url)
            assert found.returncode == 4
            assert found.stderr.splitlines()[0] == f"error: NATS at {guarded.url} refuses this user"
    finally:
        await guarded.kill()


async def test_a_context_lets_replica_and_operator_in(guarded: Server, tmp_path: Path) -> None:
    """`serve` and the operator's commands log in with what the context says."""
    folder = tmp_path / "config" / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "guarded.json").write_text(json.dumps({"url": guarded.url, "user": "ada", "password": "secret"}))
    env = environment(XDG_CONFIG_HOME=str(tmp_path / "config"))
    ready = tmp_path / "ready.json"
    await guarded.start()
    try:
        with Running(command("serve", "--context", "guarded", "--ready-file", ready), tmp_path / "serve", env) as serve:
            until(lambda: ready.exists() or serve.process.poll() is not None)
            assert json.loads(ready.read_text()) == {"nats": guarded.url, "pid": serve.process.pid, "nats_pid": None}
            assert "secret" not in serve.stdout + ready.read_text()
            found = finished("agents", "--json", "--context", "guarded", env=env)
            assert found.returncode == 0, found.stderr
            assert json.loads(found.stdout)["agents"] == []
            assert serve.end() == 0
            assert not ready.exists()
    finally:
        await guarded.kill()


async def test_a_context_with_an_nkey_lets_the_operator_in(guarded: Server, tmp_path: Path) -> None:
    nkeys = pytest.importorskip("nkeys", reason="nkeys is not installed: logging in by key is NOT tested")
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    (tmp_path / "user.nk").write_bytes(seed)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    folder = tmp_path / "config" / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "key.json").write_text(json.dumps({"url": guarded.url, "nkey": str(tmp_path / "user.nk")}))
    env = environment(XDG_CONFIG_HOME=str(tmp_path / "config"))
    ready = tmp_path / "ready.json"
    await guarded.start(f'authorization {{ users: [{{user: "ada", password: "secret"}}, {{nkey: "{public}"}}] }}')
    try:
        url = guarded.url.replace("nats://", "nats://ada:secret@")
        with Running(command("serve", "--nats", url, "--ready-file", ready), tmp_path / "serve") as serve:
            until(lambda: ready.exists() or serve.process.poll() is not None)
            assert "secret" not in serve.stdout + ready.read_text()
            found = finished("agents", "--json", "--context", "key", env=env)
            assert found.returncode == 0, found.stderr
            found = finished("serve", "--context", "key", env=env)
            assert found.returncode == 2, "a replica takes a URL and a credentials file"
    finally:
        await guarded.kill()
