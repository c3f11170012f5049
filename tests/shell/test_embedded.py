"""The embedded server: what is done when it ends by itself, and what is left when it does not start."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
from pathlib import Path

import pytest

from registry.shell import embedded
from registry.shell.child import ServerError
from registry.shell.embedded import MAX_RESTARTS, NatsServer
from tests.conftest import eventually


async def kill(server: NatsServer) -> None:
    """End the server as a crash would, and wait until another one runs in its place."""
    pid, url = server.pid, server.url
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: server.pid != pid)
    await eventually(lambda: listens(url))


async def listens(url: str) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_a_server_that_ends_again_and_again_is_given_up(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each restart waits longer than the one before; the first is at once."""
    monkeypatch.setattr(embedded, "RESTART_WAIT", 0.02)
    failed: list[str] = []
    nats_server.on_failed = failed.append
    for _ in range(MAX_RESTARTS):
        await kill(nats_server)
    assert not failed
    os.kill(nats_server.pid, signal.SIGKILL)
    await eventually(lambda: bool(failed))
    assert "nats-server.log" in failed[0]
    lines = "\n".join(record.getMessage() for record in caplog.records)
    waits = [float(wait) for wait in re.findall(r"'wait': ([0-9.]+)", lines)]
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    assert waits[-1] > waits[1] > 0.0


async def test_a_server_that_ends_now_and_then_is_not_given_up(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "RESTART_WINDOW", 0.0)
    failed: list[str] = []
    nats_server.on_failed = failed.append
    for _ in range(MAX_RESTARTS + 2):
        await kill(nats_server)
    assert not failed


async def test_a_server_that_does_not_start_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says why it does not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(embedded, "_CONFIG", "port: {port}\ncluster: 7\n")
    with pytest.raises(ServerError, match=r"nats-server ended by exit code 1.*said"):
        await NatsServer.start(port=0, store=None)
    assert list(tmp_path.iterdir()) == []


async def test_a_binary_that_went_away_is_an_end_too(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "RESTART_WAIT", 0.001)
    monkeypatch.setattr(nats_server._process, "_command", ("/nowhere/nats-server",))
    failed: list[str] = []
    nats_server.on_failed = failed.append
    os.kill(nats_server.pid, signal.SIGKILL)
    await eventually(lambda: bool(failed))
