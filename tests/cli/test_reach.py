"""NATS or the registry is not there, or does not let this user in: a clear line, a hint, exit code 4."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import nkeys
import pytest

from agents_sdk import Agent
from registry.shell.embedded import NatsServer
from tests.backup.lines import header
from tests.cli.conftest import Do
from tests.cli.running import Running, command, environment, finished, until
from tests.login import Login
from tests.sdk.outage import Server

BROKEN_CREDENTIALS = """-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJKV1QifQ
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
SUANOTASEED
------END USER NKEY SEED------
"""


def _saves(*login: str | Path, env: dict[str, str] | None = None) -> None:
    """A backup, which asks NATS and not the registry, is let in, too."""
    found = finished("export", *login, env=env)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[0])["agents"] == 0


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
    assert hint == "hint: is NATS running there? agent-registry up brings its own", "it was said where"


def test_where_nats_is_can_be_said(do: Do, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only to who has not said it."""
    monkeypatch.setattr("agent_registry.target.DEFAULT_URL", f"nats://127.0.0.1:{closed_port}")
    assert "with --nats URL" in do("agents").err
    monkeypatch.setenv("NATS_URL", f"nats://127.0.0.1:{closed_port}")
    assert "with --nats URL" not in do("agents").err


def test_no_nats_for_a_replica(closed_port: int) -> None:
    found = finished("serve", "--nats", f"nats://ada:secret@127.0.0.1:{closed_port}")
    assert found.returncode == 4
    assert found.stdout == ""
    error, hint = found.stderr.splitlines()
    assert error == f"error: cannot reach NATS at nats://127.0.0.1:{closed_port}: connection refused"
    assert "agent-registry up" in hint


def test_a_url_that_is_none(do: Do) -> None:
    code, _, err = do("agents", "--nats", "nats:///nowhere")
    assert code == 2
    [error] = err.splitlines()
    assert "'nats:///nowhere' is not the URL of a NATS server" in error


@pytest.mark.parametrize("name", ["agents", "serve"])
def test_a_url_of_something_else(do: Do, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "NATS is not reached by http://; known are nats://, tls://, ws://, wss://\n"
    assert do(name, "--nats", "http://ada:secret@127.0.0.1:4222")[::2] == (2, f"error: --nats: {said}")
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:4222,http://127.0.0.1:4223")
    assert do(name)[::2] == (2, f"error: NATS_URL: {said}")


async def test_another_prefix_without_a_registry(nats_server: NatsServer) -> None:
    """The command that is given starts the registry that was asked."""
    found = finished("agents", "--nats", nats_server.url, "--prefix", "other")
    assert found.stderr.splitlines()[1].endswith(f"agent-registry serve --nats {nats_server.url} --prefix other")


@pytest.mark.parametrize("name", ["serve", "import"])
async def test_more_copies_than_one_server_keeps(nats_server: NatsServer, tmp_path: Path, name: str) -> None:
    """The setting is named, not what JetStream calls it; NATS itself is well."""
    file = tmp_path / "backup.jsonl"
    file.write_bytes(header(0))
    words = [name, *([file] if name == "import" else [])]
    found = finished(*words, "--nats", nats_server.url, env=environment(AGENT_REGISTRY_KV_REPLICAS="3"))
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.splitlines()[-2:] == [
        "error: AGENT_REGISTRY_KV_REPLICAS asks for 3 copies, and this nats-server is in no cluster",
        "hint: set it to 1 here; 3 copies need a cluster of 3 servers or more",
    ]


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


async def test_what_nats_does_not_allow(tmp_path: Path) -> None:
    """Waiting for an answer that cannot come ends in the reason, not in a guess."""
    server = Server(
        tmp_path,
        'authorization { users: [ { user: low, password: low, permissions: { publish: "x", subscribe: ">" } } ] }',
    )
    await server.start()
    try:
        found = finished("agents", "--nats", server.url.replace("//", "//low:low@"))
    finally:
        await server.kill()
    assert found.returncode == 3
    error, hint = found.stderr.splitlines()
    assert error == "error: forbidden: NATS does not allow this user to publish to registry.discover"
    assert hint == "hint: give the --creds or --context of somebody who may"


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
            _saves("--context", "guarded", env=env)
            assert serve.end() == 0
            assert not ready.exists()
    finally:
        await guarded.kill()


@pytest.mark.parametrize("way", ["option", "setting"])
async def test_a_credentials_file_lets_replica_and_operator_in(tmp_path: Path, way: str) -> None:
    login = Login()
    server = Server(tmp_path, login.config)
    creds, ready = tmp_path / "user.creds", tmp_path / "ready.json"
    creds.write_text(login.credentials)
    options = ("--nats", server.url, "--creds", creds)
    await server.start()
    try:
        given = options if way == "option" else options[:2]
        env = environment() if way == "option" else environment(AGENT_REGISTRY_CREDENTIALS=str(creds))
        with Running(command("serve", *given, "--ready-file", ready), tmp_path / "serve", env) as serve:
            until(lambda: ready.exists() or serve.process.poll() is not None)
            assert serve.process.poll() is None, serve.stderr
            found = finished("agents", "--json", *options)
            assert found.returncode == 0, found.stderr
            assert json.loads(found.stdout)["agents"] == []
            _saves(*options)
            agent = Agent("trading_agent", capabilities=["trading"], nats=server.url, credentials=creds)
            await agent.start()
            found = finished("agents", "--json", *options)
            assert json.loads(found.stdout)["agents"][0]["agent_id"] == agent.agent_id
            await agent.stop()
            found = finished("agents", "--nats", server.url)
            assert (found.returncode, found.stderr.splitlines()[0]) == (
                4,
                f"error: NATS at {server.url} refuses this user",
            )
    finally:
        await server.kill()


@pytest.mark.parametrize("name", ["agents", "serve"])
@pytest.mark.parametrize("text", ["not a login", BROKEN_CREDENTIALS])
async def test_a_credentials_file_that_is_none(guarded: Server, tmp_path: Path, name: str, text: str) -> None:
    creds = tmp_path / "user.creds"
    creds.write_text(text)
    await guarded.start()
    try:
        found = finished(name, "--nats", guarded.url, "--creds", creds)
    finally:
        await guarded.kill()
    assert found.returncode == 2
    [error] = found.stderr.splitlines()
    assert error.startswith("error: ")
    assert str(creds) in error


async def test_an_nkey_that_is_none(guarded: Server, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "nats" / "context"
    folder.mkdir(parents=True)
    (tmp_path / "user.nk").write_text("nothing of the kind")
    (folder / "key.json").write_text(json.dumps({"url": guarded.url, "nkey": str(tmp_path / "user.nk")}))
    found = finished("agents", "--context", "key", env=environment(XDG_CONFIG_HOME=str(tmp_path / "config")))
    assert found.returncode == 2
    assert found.stderr == f"error: nkey: '{tmp_path}/user.nk' holds no seed of an nkey\n"


async def test_one_of_two_servers_is_enough(nats_server: NatsServer, closed_port: int) -> None:
    for url in (f"nats://127.0.0.1:{closed_port}, {nats_server.url}", f"{nats_server.url},"):
        found = finished("agents", "--nats", url)
        assert "no registry serves 'discover'" in found.stderr


async def test_a_context_with_an_nkey_lets_the_operator_in(guarded: Server, tmp_path: Path) -> None:
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
            _saves("--context", "key", env=env)
            found = finished("serve", "--context", "key", env=env)
            assert found.returncode == 2, "a replica takes a URL and a credentials file"
    finally:
        await guarded.kill()
