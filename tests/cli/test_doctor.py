"""The doctor at real deployments: what it sees of them, how it says so, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import KeyValueConfig, StorageType

from registry.shell.embedded import NatsServer
from tests import nats_cli
from tests.cli.cluster import Cluster
from tests.cli.conftest import Do
from tests.cli.running import Running, Up, command, environment, finished, until
from tests.cluster.running import STREAMS
from tests.contract.wire import told
from tests.login import Login
from tests.sdk.outage import Server


class Serve(Running):
    """A running `agent-registry serve`; made, it answers requests."""

    def __init__(self, url: str, folder: Path, **env: str) -> None:
        ready = folder / "ready.json"
        super().__init__(command("serve", "--nats", url, "--ready-file", ready), folder, environment(**env))
        until(lambda: ready.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.stderr


def seen(url: str, *options: str | Path, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Return the doctor's exit code and what it says as JSON."""
    done = finished("doctor", "--nats", url, "--json", *options, env=env)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def broken(document: dict[str, Any]) -> list[str]:
    """Return the messages of everything that is broken."""
    return [finding["message"] for finding in document["findings"] if finding["severity"] == "broken"]


def said(document: dict[str, Any], check: str, severity: str) -> list[str]:
    """Return the messages of one check and severity."""
    return [
        finding["message"]
        for finding in document["findings"]
        if (finding["check"], finding["severity"]) == (check, severity)
    ]


def paste(line: str, env: dict[str, str], folder: Path) -> None:
    """Run a line as it was given; an edit only as far as what it would change.

    Whoever edits a bucket is asked whether they mean it, and needs a terminal for that.
    """
    edits = line.startswith("nats stream edit")
    done = subprocess.run(
        f"{line} --dry-run" if edits else line,
        shell=True, env=env, cwd=folder, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == edits, f"{line}: {done.stdout}{done.stderr}"
    assert not edits or "Differences" in done.stdout, line


# One machine.


def test_up_keeps_every_promise(do: Do, up: Up) -> None:
    """What the registry makes is what the doctor expects; the open account sees when writes are on disk."""
    up.register("ada")
    outcome = do("doctor", "--nats", up.url)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert not [line for line in lines if line.endswith(" ")]
    assert lines[0] == f"agent registry at {up.url}"
    assert lines[2].startswith("An acknowledged registration is in memory of 1 server, safe from kill -9; on disk wit")
    assert "power fails everywhere   what was acknowledged in the last 2 min at most" in lines
    assert lines[-1] == "every promise holds, as far as can be seen; 1 note"
    assert "\x1b" not in outcome.out, "no colours in a pipe"


def test_a_narrow_window(do: Do, up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = do("doctor", "--nats", up.url)
    assert max(map(len, out.splitlines())) <= 80


def test_json_has_stable_names(do: Do, up: Up) -> None:
    document = do("doctor", "--nats", up.url, "--json").document
    assert list(document) == [
        "holds", "nats", "prefix", "acknowledgement", "losses", "leader", "replicas", "findings",
    ]  # fmt: skip
    assert document["holds"] is True
    assert list(document["acknowledgement"]) == [
        "storage", "copies", "in_memory_of", "on_disk_of", "sync_interval", "text",
    ]  # fmt: skip
    assert [loss["accident"] for loss in document["losses"]] == [
        "registry_killed", "nats_killed", "machine_lost", "power_lost", "disk_lost",
    ]  # fmt: skip
    assert {tuple(loss) for loss in document["losses"]} == {("accident", "lost", "text")}
    assert list(document["leader"]) == ["replica", "epoch", "since_seconds"]
    (replica,) = document["replicas"]
    assert list(replica) == [
        "replica", "answers", "named_by", "leader", "leader_epoch", "revision", "behind", "registered_agents",
        "uptime", "version", "slow_consumer_drops", "resyncs",
    ]  # fmt: skip
    assert replica["replica"] == document["leader"]["replica"]
    assert replica["named_by"] == ["$SRV.PING", "connection", "lease", "replicas"]
    assert document["leader"]["since_seconds"] >= 0
    for finding in document["findings"]:
        assert list(finding) == ["check", "severity", "message", "promise", "change"]
        assert finding["severity"] in ("ok", "note"), finding
    assert len(said(document, "settings", "ok")) == 1


def test_another_prefix_has_no_registry(do: Do, up: Up) -> None:
    outcome = do("doctor", "--nats", up.url, "--prefix", "eu.agents")
    assert outcome.code == 1
    assert outcome.out.startswith(f"agent registry at {up.url}, prefix eu.agents\n")
    assert "no registry with prefix eu.agents answers here" in outcome.out
    assert outcome.out.splitlines()[-1] == "not all is well; 1 broken; 4 notes"
    assert f"change: agent-registry serve --nats {up.url} --prefix eu.agents" in outcome.out
    assert "KV_eu-agents_agents does not exist; the first registry that starts makes it" in outcome.out


def test_no_nats(do: Do) -> None:
    code, out, err = do("doctor", "--nats", "nats://127.0.0.1:1")
    assert (code, out) == (4, "")
    assert err.startswith("error: cannot reach NATS at nats://127.0.0.1:1: connection refused")


def test_a_system_login_that_is_none(do: Do, up: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option is named that gave it, not the one for the registry's own login."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    contexts = tmp_path / "nats" / "context"
    contexts.mkdir(parents=True)
    (contexts / "lost.json").write_text(json.dumps({"creds": "/nope"}))
    for option, name, says in (
        ("--system-creds", "/nope", "--system-creds: no such file: /nope"),
        ("--system-context", "nope", f"--system-context: no context 'nope' ({contexts / 'nope.json'} does not exist)"),
        ("--system-context", "lost", "--system-context: creds: no such file: /nope"),
        ("--context", "lost", "--context: creds: no such file: /nope"),
    ):
        code, _, err = do("doctor", "--nats", up.url, option, name)
        assert (code, err.splitlines()[0]) == (2, f"error: {says}")


def test_a_setting_that_is_none(do: Do, up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_REGISTRY_KV_REPLICAS", "many")
    assert do("doctor", "--nats", up.url).code == 2


def test_a_number_of_copies_that_is_not_the_setting(do: Do, up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_REGISTRY_KV_REPLICAS", "3")
    code, out, _ = do("doctor", "--nats", up.url)
    assert code == 0, "a note"
    assert "but AGENT_REGISTRY_KV_REPLICAS is 3" in out


# Registries that are killed, stand still, or are away.


async def test_a_registry_that_was_killed(nats_server: NatsServer, tmp_path: Path) -> None:
    """With a second one, that one leads; with none, the doctor says who led, and that nothing is lost."""
    url = nats_server.url
    with Serve(url, tmp_path / "one") as one:
        _, document = seen(url)
        first = document["leader"]["replica"]
        with Serve(url, tmp_path / "two") as two:
            assert one.end(signal.SIGKILL) == -signal.SIGKILL
            found = until(lambda: (answer := seen(url))[1]["leader"] and answer)
            assert isinstance(found, tuple)
            code, document = found
            assert code == 0, broken(document)
            assert document["leader"]["epoch"] == 2
            second = document["leader"]["replica"]
            assert second != first
            assert two.end(signal.SIGKILL) == -signal.SIGKILL
    code, document = seen(url)
    assert (code, document["holds"], document["leader"]) == (1, False, None)
    assert said(document, "registry", "broken") == ["no registry with prefix registry answers here"]
    assert said(document, "leader", "note")[0].startswith(f"{second} led last, epoch 2; it renewed its lease ")
    assert document["losses"][0]["text"] == "nothing; nobody answers until one is started"
    assert document["acknowledgement"]["on_disk_of"] == 0
    assert len(said(document, "settings", "ok")) == 1


async def test_a_registry_that_stands_still(nats_server: NatsServer, tmp_path: Path) -> None:
    """It is still connected, so NATS hands it requests; it holds the lease, so nobody leads."""
    url = nats_server.url
    long = {"AGENT_REGISTRY_LEADER_LEASE": "600"}
    with Serve(url, tmp_path / "one", **long) as one, Serve(url, tmp_path / "two", **long):
        one.process.send_signal(signal.SIGSTOP)
        try:
            code, document = seen(url)
        finally:
            one.process.send_signal(signal.SIGCONT)
    assert code == 1
    still, other = sorted(document["replicas"], key=lambda replica: replica["answers"])
    assert (still["answers"], still["named_by"]) == (False, ["connection", "lease"])
    assert (other["answers"], other["leader"]) == (True, False)
    assert said(document, "registry", "broken") == [
        f"replica {still['replica']} does not answer, though it is connected to NATS and it holds the leader's lease; "
        "requests that NATS hands to it go nowhere"
    ]
    (nobody,) = said(document, "leader", "broken")
    assert nobody.startswith("nobody leads: ")
    assert f"the lease is {still['replica']}'s, epoch 1, renewed " in nobody


# Buckets that somebody else made, or wrote to.


async def test_a_bucket_in_memory(nats_server: NatsServer, tmp_path: Path) -> None:
    client = await nats.connect(nats_server.url)
    await client.jetstream().create_key_value(
        KeyValueConfig(bucket="registry_agents", history=1, storage=StorageType.MEMORY, direct=True)
    )
    await client.close()
    with Serve(nats_server.url, tmp_path / "serve"):
        code, document = seen(nats_server.url)
    assert code == 1
    assert (document["acknowledgement"]["storage"], document["acknowledgement"]["on_disk_of"]) == ("memory", 0)
    assert [loss["lost"] for loss in document["losses"]] == [
        "nothing", "everything", "everything", "everything", "nothing",
    ]  # fmt: skip
    assert said(document, "durability", "broken") == [
        "acknowledged registrations do not survive kill -9 of nats-server: it is in memory only"
    ]
    assert len(said(document, "settings", "broken")) == 1, "history"


async def test_a_change_without_an_event(nats_server: NatsServer, tmp_path: Path) -> None:
    """As a registry leaves it that dies between the write and its event. The next leader publishes it."""
    client = await nats.connect(nats_server.url)
    with Serve(nats_server.url, tmp_path / "one") as serve:
        await told(client, "registry.register.ada", {"agent_type": "trader", "capabilities": ["trading"]})
        code, document = seen(nats_server.url)
        assert said(document, "events", "ok") == ["events are published up to the newest change"]
        serve.end()
    bucket = await client.jetstream().key_value("registry_agents")
    change = (await bucket.get("ada")).value or b""
    saved = json.dumps({**json.loads(change), "change": None, "change_revision": 1}).encode()
    await bucket.put("ada", saved)
    await bucket.put("bob", b'{"v": 1, "change": {"reason": "not a record"}}')
    assert said(seen(nats_server.url)[1], "events", "ok") == ["events are published up to the newest change"]
    revision = await bucket.put("ada", change)
    await bucket.put("ada", saved)
    code, document = seen(nats_server.url)
    assert code == 1
    (message,) = said(document, "events", "note")
    assert message.startswith(f"the change of revision {revision}, ")
    assert message.endswith(
        " ago, has no event; only those up to revision 1 were published; the next leader publishes it"
    )
    with Serve(nats_server.url, tmp_path / "two"):
        code, document = seen(nats_server.url)
        assert (code, said(document, "events", "note")) == (0, [])
    await client.close()


async def test_the_commands_that_it_gives(nats_server: NatsServer, tmp_path: Path) -> None:
    """With the real `nats` command where there is one: what cannot be edited is moved, options are known."""
    binary = nats_cli.find()
    client = await nats.connect(nats_server.url)
    js = client.jetstream(timeout=20)
    await js.add_stream(
        name="KV_registry_agents", subjects=["$KV.registry_agents.>"], storage="memory", max_msgs_per_subject=1,
        max_age=3600, max_bytes=1024**2, max_msgs=100, max_msg_size=1024, discard="old",
    )  # fmt: skip
    revision = (await js.publish("$KV.registry_agents.ada", b"{}")).seq
    await js.add_stream(
        name="REGISTRY_EVENTS", subjects=["registry.events.>"], persist_mode="async", duplicate_window=10,
        max_age=3600, max_bytes=1024**2, max_msgs=100, max_msgs_per_subject=1, discard="new",
    )  # fmt: skip
    _, document = seen(nats_server.url)
    assert [loss["lost"] for loss in document["losses"]][1] == "everything"
    given = [
        finding["change"].split("  #")[0] for finding in document["findings"] if "nats stream" in finding["change"]
    ]
    assert len(given) >= 12
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nats").symlink_to(binary)
    env = environment(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", NATS_URL=nats_server.url, HOME=str(tmp_path))
    for line in given:
        await asyncio.to_thread(paste, line, env, tmp_path)
    _, document = seen(nats_server.url)
    assert said(document, "durability", "broken") == []
    assert (await js.get_last_msg("KV_registry_agents", "$KV.registry_agents.ada")).seq == revision
    await client.close()


# What a user may see.


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with accounts of which each sees less than the one before."""
    server = Server(
        tmp_path,
        """
        accounts {
          REG { jetstream: { max_file: 2GB }, users: [
            { user: reg, password: reg },
            { user: low, password: low, permissions: { publish: "registry.>", subscribe: "_INBOX.>" } },
            { user: none, password: none, permissions: { publish: "x", subscribe: "_INBOX.>" } } ] }
          SMALL { jetstream: { max_file: 10MB }, users: [ { user: small, password: small } ] }
          BARE { users: [ { user: bare, password: bare } ] }
          SYS { users: [ { user: sys, password: sys } ] }
        }
        system_account: SYS
        """,
        jetstream="sync_interval: always",
    )
    await server.start()
    yield server
    await server.kill()


def as_user(server: Server, name: str) -> str:
    return server.url.replace("//", f"//{name}:{name}@")


async def test_the_system_account_shows_when_writes_are_on_disk(guarded: Server, tmp_path: Path) -> None:
    contexts = tmp_path / "config" / "nats" / "context"
    contexts.mkdir(parents=True)
    (contexts / "sys.json").write_text(json.dumps({"url": "nats://elsewhere", "user": "sys", "password": "sys"}))
    (contexts / "not-sys.json").write_text(json.dumps({"user": "bare", "password": "bare"}))
    env = environment(XDG_CONFIG_HOME=str(tmp_path / "config"))
    url = as_user(guarded, "reg")
    with Serve(url, tmp_path / "serve"):
        for options in ((), ("--system-context", "not-sys")):
            code, document = seen(url, *options, env=env)
            assert code == 0, broken(document)
            assert document["acknowledgement"]["on_disk_of"] is None
            assert "cannot be seen with this login" in document["acknowledgement"]["text"]
            assert document["nats"] == guarded.url, "without the password"
        code, document = seen(url, "--system-context", "sys", env=env)
        assert code == 0
        assert (document["acknowledgement"]["on_disk_of"], document["acknowledgement"]["sync_interval"]) == (1, 0.0)
        assert [loss["lost"] for loss in document["losses"]] == [
            "nothing", "nothing", "everything", "nothing", "everything",
        ]  # fmt: skip
        assert len(said(document, "power", "ok")) == 1
        code, document = seen(as_user(guarded, "none"))
        assert code == 1
        assert said(document, "registry", "broken") == [
            "whether a registry runs was not seen: NATS does not let this user ask"
        ]
        code, document = seen(as_user(guarded, "low"))
    assert code == 1
    assert len(said(document, "registry", "ok")) == 1
    assert said(document, "jetstream", "broken") == [
        "no promise can be judged: NATS does not let this user ask JetStream"
    ]
    assert document["acknowledgement"] is None


@pytest.mark.parametrize(
    ("user", "check", "message"),
    [
        ("bare", "jetstream", "JetStream is off for this account"),
        ("small", "space", "a registry cannot start: its stream of events reserves 1 GiB"),
    ],
)
async def test_an_account_in_which_no_registry_can_start(guarded: Server, user: str, check: str, message: str) -> None:
    code, document = seen(as_user(guarded, user))
    assert code == 1
    (found,) = said(document, check, "broken")
    assert found.startswith(message)


async def test_credentials_of_the_system_account(tmp_path: Path) -> None:
    login = Login()
    server = Server(tmp_path, login.config, jetstream="sync_interval: 10s")
    (tmp_path / "user.creds").write_text(login.credentials)
    (tmp_path / "system.creds").write_text(login.system_credentials)
    await server.start()
    try:
        client = await nats.connect(server.url, user_credentials=str(tmp_path / "user.creds"))
        await client.jetstream().create_key_value(KeyValueConfig(bucket="registry_agents", history=8, direct=True))
        await client.close()
        options = ("--creds", tmp_path / "user.creds", "--system-creds", tmp_path / "system.creds")
        _, document = seen(server.url, *options)
    finally:
        await server.kill()
    assert document["acknowledgement"]["sync_interval"] == 10.0


# Connections that end.

SILENT = """accounts {
  AGENTS { jetstream: enabled, users: [ { user: ada, password: a } ]
    IMPORTS }
  SYS { users: [ { user: sys, password: s } ]
    EXPORTS }
}
system_account: SYS
no_auth_user: ada"""


async def test_connection_events_that_are_not_exported(tmp_path: Path) -> None:
    """A note, and what it says to add is enough: the next look, whose own connection ended, finds them heard."""
    server = Server(tmp_path, SILENT.replace("IMPORTS", "").replace("EXPORTS", ""))
    await server.start()
    try:
        with Serve(server.url, tmp_path / "serve"):
            code, document = seen(server.url)
            assert code == 0, broken(document)
            (finding,) = (each for each in document["findings"] if each["check"] == "connections")
            assert (finding["severity"], finding["promise"]) == ("note", None)
            assert finding["message"].startswith("the registry does not hear when a connection ends: ")
            export, imported = re.findall(r"(?:ex|im)ports: \[.*?\} (?:\} )?\]", finding["change"])
            server.reload(SILENT.replace("IMPORTS", imported).replace("EXPORTS", export))
            until(lambda: said(seen(server.url)[1], "connections", "ok"), within=20.0)
    finally:
        await server.kill()


# A cluster.


async def test_a_cluster_of_three(tmp_path: Path) -> None:
    """Three copies; then one server fewer, which is a note; then two fewer, and nothing can be written."""
    cluster = Cluster(tmp_path)
    await cluster.start()
    try:
        with Serve(cluster.servers[0].url, tmp_path / "serve", AGENT_REGISTRY_KV_REPLICAS="3"):
            await cluster.lead(*STREAMS)
            code, document = seen(cluster.url)
            assert code == 0, broken(document)
            assert (document["acknowledgement"]["copies"], document["acknowledgement"]["in_memory_of"]) == (3, 2)
            assert document["acknowledgement"]["sync_interval"] == 120.0
            assert document["losses"][2]["lost"] == "everything", "they listen on loopback"
            assert "3 servers, 3 with JetStream" in said(document, "nats", "ok")[0]
            await cluster.servers[2].kill()
            code, document = seen(cluster.url)
            assert code == 0, broken(document)
            missed = said(document, "copies", "note")
            assert any("KV_registry_agents: 2 of 3 copies are there (not that of n3); " in note for note in missed)
            assert document["acknowledgement"]["sync_interval"] == 120.0, "those that answer say so"
            assert document["acknowledgement"]["text"].endswith(" (sync_interval); n3 does not answer")
            assert document["losses"][3]["lost"] == "recent"
            await cluster.servers[1].kill()
            code, document = seen(cluster.url)
            assert code == 1
            assert any("nothing can be written" in message for message in broken(document))
            # Until JetStream itself has noticed, it may say nothing of the bucket.
            found = until(lambda: (answer := seen(cluster.url)[1])["acknowledgement"] and answer)
            assert isinstance(found, dict)
            back = "until a majority of its 3 servers is back"
            assert found["acknowledgement"]["text"].endswith(f"none can be acknowledged {back}")
            assert [loss["text"].endswith(back) for loss in found["losses"][:2]] == [True, True]
    finally:
        await cluster.kill()
