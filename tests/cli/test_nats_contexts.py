"""Contexts that the real `nats` command makes, and who is let in by them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nkeys
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent_registry.failure import Exit
from tests import nats_cli
from tests.cli.conftest import Do
from tests.cli.running import Up
from tests.login import Login
from tests.sdk.outage import Server

Nats = Callable[..., str]


@pytest.fixture
def nats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nats:
    """Runs the command, with the contexts that `agent-registry` reads in this process."""
    binary, environment = nats_cli.find(), nats_cli.environment(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", environment["XDG_CONFIG_HOME"])

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [binary, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_our_commands_and_the_nats_command_mean_the_same_registry(
    nats: Nats, do: Do, up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    up.register("trader-1")
    nats("context", "add", "nowhere", "--server", "nats://127.0.0.1:1")
    nats("context", "add", "here", "--server", up.url, "--description", "of a test")
    assert "trader-1" in do("agents", "--context", "here").out
    nats("context", "select", "nowhere")
    assert do("agents").code == Exit.UNREACHABLE
    monkeypatch.setenv("NATS_CONTEXT", "here")
    assert "trader-1" in do("agents").out
    monkeypatch.delenv("NATS_CONTEXT")
    nats("context", "select", "here")
    assert '"agent_id":"trader-1"' in nats("req", "registry.get.trader-1", "", "--raw")
    assert do("get", "trader-1", "--json").document["agent_id"] == "trader-1"
    nats("context", "unselect")
    assert do("agents", "--nats", up.url).code == Exit.DONE


def password(_folder: Path) -> tuple[str, list[str]]:
    return 'authorization { user: ada, password: "s3cret" }', ["--user", "ada", "--password", "s3cret"]


def password_elsewhere(_folder: Path) -> tuple[str, list[str]]:
    return 'authorization { user: ada, password: "s3cret" }', ["--user", "ada", "--password", "env://SECRET"]


def token(_folder: Path) -> tuple[str, list[str]]:
    # A user without a password is a token to the command, which in 0.5.1 makes nothing of --token here.
    return 'authorization { token: "t0ken" }', ["--user", "t0ken"]


def nkey(folder: Path) -> tuple[str, list[str]]:
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)
    (folder / "seed").write_bytes(seed)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    return f"authorization {{ users: [ {{ nkey: {public} }} ] }}", ["--nkey", str(folder / "seed")]


def credentials(folder: Path) -> tuple[str, list[str]]:
    login = Login()
    (folder / "login.creds").write_text(login.credentials)
    return login.config, ["--creds", str(folder / "login.creds")]


def certificate(folder: Path) -> tuple[str, list[str]]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, none))
    files = [str(folder / "cert.pem"), str(folder / "key.pem")]
    config = f'tls {{ cert_file: "{files[0]}", key_file: "{files[1]}", ca_file: "{files[0]}", verify: true, {{}} }}'
    return config, ["--tlscert", files[0], "--tlskey", files[1], "--tlsca", files[0]]


def certificate_first(folder: Path) -> tuple[str, list[str]]:
    config, options = certificate(folder)
    return config.replace("{}", "handshake_first: true"), [*options, "--tlsfirst"]


def certificate_later(folder: Path) -> tuple[str, list[str]]:
    config, options = certificate(folder)
    return config.replace(", {}", ""), options


LOGINS = [password, password_elsewhere, token, nkey, credentials, certificate_first, certificate_later]


@pytest.mark.parametrize("login", LOGINS)
async def test_whom_a_context_lets_in(
    nats: Nats, do: Do, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: Callable[[Path], tuple[str, list[str]]]
) -> None:
    """Who is let in is told that no registry is there; who is not, that."""
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.setattr("agent_registry.session.REPLY_TIMEOUT", 0.2)
    config, options = login(tmp_path)
    server = Server(tmp_path, config)
    await server.start()
    try:
        url = f"nats://localhost:{server.port}"
        nats("context", "add", "edge", "--server", url, *options)
        inside = await asyncio.to_thread(do, "agents", "--context", "edge")
        assert "is a registry running there?" in inside.err
        outside = await asyncio.to_thread(do, "agents", "--nats", url)
        assert "is a registry running there?" not in outside.err
        assert outside.code == Exit.UNREACHABLE
    finally:
        await server.kill()
