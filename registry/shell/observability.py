"""OpenTelemetry traces and metrics, for deployments that configure an `OTEL_*` exporter; nothing is paid otherwise.

Spans follow the messaging conventions (semconv 1.44, development). `traceparent` is read from a request's headers.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.core.state import RegistryState

from registry.core.protection import CAUSES
from registry.shell.logs import get_logger

log = get_logger(__name__)

Read = Callable[[], list[tuple[float, dict[str, str]]]]
"""Reads an instrument: values, each with its attributes."""

OnEnd = Callable[[str | None], None]
"""Ends a span; takes the error code, or None."""

_OTLP = "otlp_proto_http"
"""What `otlp` stands for: the protocol that the extra `otlp` brings."""

TRACEPARENT = "traceparent"
_WELL_FORMED = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_of(headers: Mapping[str, str] | None) -> str | None:
    """Return the W3C `traceparent` that a message carries, if it is one."""
    given = headers.get(TRACEPARENT) if headers else None
    return given if given is not None and _WELL_FORMED.fullmatch(given) else None


_EXPORTERS = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER")


def is_configured() -> bool:
    """Return whether an exporter is named in the environment."""
    return os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true" and any(
        os.environ.get(name, "none") not in ("", "none") for name in _EXPORTERS
    )


def configure() -> None:
    """Set OpenTelemetry up as the `OTEL_*` environment variables say; what is unsent at exit is sent then.

    Raises:
        ValueError: If an exporter is named that is not installed.
    """
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ.setdefault("OTEL_SERVICE_NAME", "agent-registry")
    tracers = TracerProvider()
    for exporter in _exporters("OTEL_TRACES_EXPORTER", "opentelemetry_traces_exporter"):
        tracers.add_span_processor(BatchSpanProcessor(exporter()))
    trace.set_tracer_provider(tracers)
    exporters = _exporters("OTEL_METRICS_EXPORTER", "opentelemetry_metrics_exporter")
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(exporter()) for exporter in exporters]))


def _exporters(variable: str, group: str) -> list[Any]:
    """Return the exporters that a variable names, comma-separated, as the packages that bring them announce them."""
    installed = {point.name: point for point in entry_points(group=group)}
    named = [name.strip() for name in os.environ.get(variable, "").split(",")]
    wanted = [_OTLP if name == "otlp" else name for name in named if name not in ("", "none")]
    for name in wanted:
        if name not in installed:
            hint = "; pip install 'agent-registry[otlp]' brings it" if name == _OTLP else ""
            raise ValueError(f"{variable}: {name!r} is not installed; there are {', '.join(sorted(installed))}{hint}")
    return [installed[name].load() for name in wanted]


class Observability:
    """Spans and metrics of one replica. Make one only when somebody will see them.

    Args:
        state: Where the gauges read.
        queue_group: Queue group of the replica's subscriptions.
    """

    def __init__(self, state: RegistryState, queue_group: str) -> None:
        from opentelemetry import metrics, trace

        self._trace = trace
        self._tracer = trace.get_tracer("agent-registry")
        self._queue_group = queue_group
        meter = metrics.get_meter("agent-registry")
        self._duration = meter.create_histogram(
            "messaging.process.duration", unit="s", description="From the arrival of a request to its answer"
        )

        def gauge(name: str, unit: str, read: Read, instrument: Any = meter.create_observable_gauge) -> None:
            def observe(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
                return [metrics.Observation(value, labels) for value, labels in read()]

            instrument(name, [observe], unit=unit)

        def counter(name: str, unit: str, read: Callable[[], int]) -> None:
            gauge(name, unit, lambda: [(read(), {})], meter.create_observable_counter)

        counts, statuses, path = state.statistics, state.catalog.statuses, state.path
        gauge("registry.agents", "{agent}", lambda: [(n, {"agent.status": str(each)}) for each, n in statuses.items()])
        gauge("registry.leader", "", lambda: [(int(state.leading), {})])
        gauge("registry.agents.late", "{agent}", lambda: [(len(state.leases.late), {})])
        gauge(
            "registry.protection",
            "",
            lambda: [(int(cause in state.protection.causes), {"cause": cause}) for cause in CAUSES],
        )
        gauge("registry.judge.lag", "s", lambda: [(path.lag, {})])
        gauge("registry.judge.allowance", "s", lambda: [(path.allowance, {})])
        gauge("registry.assignments", "{assignment}", lambda: [(len(state.ledger), {})])
        gauge("registry.assignments.waiting", "{request}", lambda: [(len(state.waiters), {})])
        counter("registry.assignments.made", "{assignment}", lambda: counts.assignments)
        counter("registry.heartbeats", "{beat}", lambda: counts.heartbeats)
        counter("registry.agents.returns", "{agent}", lambda: counts.returns)

    def begin(
        self, operation: str, subject: str, size: int, headers: Mapping[str, str] | None
    ) -> tuple[OnEnd, str | None]:
        """Begin the span of a request; return what to call when it has been answered, and the span's `traceparent`."""
        from opentelemetry.propagate import extract, inject

        attributes: dict[str, Any] = {
            "messaging.system": "nats",
            "messaging.operation.name": operation,
            "messaging.operation.type": "process",
            "messaging.destination.name": subject,
            "messaging.consumer.group.name": self._queue_group,
            "messaging.message.body.size": size,
        }
        started = time.perf_counter()
        span = self._tracer.start_span(
            f"process {operation}",
            context=extract(dict(headers or {})),
            kind=self._trace.SpanKind.CONSUMER,
            attributes=attributes,
        )

        def end(code: str | None) -> None:
            labels = {"messaging.system": "nats", "messaging.operation.name": operation}
            if code is not None:
                labels["error.type"] = code
                span.set_attribute("error.type", code)
                span.set_status(self._trace.StatusCode.ERROR, code)
            span.end()
            self._duration.record(time.perf_counter() - started, labels)

        carrier: dict[str, str] = {}
        inject(carrier, self._trace.set_span_in_context(span))
        return end, carrier.get(TRACEPARENT)
