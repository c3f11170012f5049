"""Traces: a request's context is taken up, and goes on into the event that the request leads to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from registry.replica import Replica
from registry.shell import observability
from tests.conftest import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
AGENT = b'{"agent_type":"trading_agent","capabilities":["trading"]}'


def test_nothing_is_configured_unless_an_exporter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    monkeypatch.delenv("OTEL_METRICS_EXPORTER", raising=False)
    assert not observability.is_configured()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert not observability.is_configured()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    assert observability.is_configured()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not observability.is_configured()


async def test_an_event_carries_the_trace_of_the_request_that_led_to_it(registry: Replica, nc: Client) -> None:
    events = await nc.subscribe("registry.events.status.>")
    await nc.flush()
    await nc.request("registry.register", AGENT, headers=HEADERS)
    assert (await events.next_msg(5)).headers["traceparent"] == HEADERS["traceparent"]


async def test_a_malformed_trace_goes_nowhere(registry: Replica, nc: Client) -> None:
    events = await nc.subscribe("registry.events.status.>")
    await nc.flush()
    await nc.request("registry.register", AGENT, headers={"traceparent": "x" * 1000})
    assert "traceparent" not in (await events.next_msg(5)).headers


async def test_spans_and_metrics_are_exported_when_an_exporter_is_named(tmp_path: Path) -> None:
    """In a process of its own, with OpenTelemetry's console exporters."""
    ready, output = tmp_path / "ready.json", tmp_path / "output"
    command = [sys.executable, "-m", "agent_registry", "up", "--port", "0"]
    command += ["--store", str(tmp_path / "store"), "--ready-file", str(ready)]
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console"}
    with output.open("w") as file:
        process = subprocess.Popen(  # noqa: ASYNC220  starting it takes no time
            command, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        await eventually(ready.exists, within=30.0)
        client = await nats.connect(json.loads(ready.read_text())["nats"])
        await client.request("registry.register", AGENT, headers=HEADERS, timeout=5)
        await client.request("registry.get", b'{"agent_id":"nobody"}', timeout=5)
        await client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    told = output.read_text()
    assert '"name": "process register"' in told
    assert f"0x{TRACE}" in told, "the span belongs to the caller's trace"
    assert '"error.type": "not_found"' in told
    assert "messaging.process.duration" in told
    assert "registry.agents" in told
