"""Trace context crosses NATS for applications that trace, and costs nothing for others."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from nats.aio.client import Client
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from agents_sdk import Agent, RegistryClient
from agents_sdk.tracing import continued, outgoing_headers
from registry.shell.embedded import NatsServer


@pytest.fixture
def tracer() -> trace.Tracer:
    return TracerProvider().get_tracer("test")


def test_without_a_span_there_is_nothing_to_carry() -> None:
    assert outgoing_headers() is None


def test_a_span_is_carried_on_and_continued(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("caller") as span:
        headers = outgoing_headers()
    assert headers is not None
    assert f"{span.get_span_context().trace_id:032x}" in headers["traceparent"]
    with continued(headers):
        assert trace.get_current_span().get_span_context().trace_id == span.get_span_context().trace_id
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("headers", [None, {}, {"other": "x"}, {"traceparent": "nonsense"}])
def test_headers_without_a_trace_do_no_harm(headers: dict[str, str] | None) -> None:
    with continued(headers):
        assert not trace.get_current_span().get_span_context().is_valid


async def test_a_handler_runs_in_its_callers_trace(
    client: RegistryClient, nats_server: NatsServer, tracer: trace.Tracer
) -> None:
    agent = Agent("t", ["trading"], nats=nats_server.url)
    for topic in ("async", "sync"):

        def current(request: dict[str, Any]) -> int:
            return trace.get_current_span().get_span_context().trace_id % 10**9

        async def current_on_the_loop(request: dict[str, Any]) -> int:
            return current(request)

        agent.handle(topic)(current if topic == "sync" else current_on_the_loop)
    async with agent:
        with tracer.start_as_current_span("caller") as span:
            for topic in ("async", "sync"):
                assert await client.call("trading", topic) == span.get_span_context().trace_id % 10**9


async def test_a_reply_does_not_send_the_requests_headers_back(
    client: RegistryClient, nats_server: NatsServer, nc: Client
) -> None:
    agent = Agent("t", ["trading"], agent_id="a", nats=nats_server.url)
    agent.handle("quote")(lambda request: 1)
    async with agent:
        reply = await nc.request("agent.a.quote", b"{}", headers={"Secret": "x"}, timeout=5)
        assert not reply.headers


def test_who_does_not_trace_does_not_pay() -> None:
    code = (
        "import sys, agents_sdk.tracing as t; assert t.outgoing_headers() is None\n"
        "with t.continued({'traceparent': 'x'}): pass\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
