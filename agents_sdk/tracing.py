"""W3C trace context in NATS headers, for applications that trace; free for all others."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping


def _tracing() -> bool:
    # An application that traces has imported the API; importing it here would cost everybody else.
    return "opentelemetry.trace" in sys.modules


def outgoing_headers() -> dict[str, str] | None:
    """Return the headers that carry the current span on, or None when there is nothing to carry."""
    if not _tracing():
        return None
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers or None


@contextlib.contextmanager
def continued(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Run the body in the trace that a message's headers name."""
    if not headers or not _tracing():
        yield
        return
    from opentelemetry import context, propagate

    token = context.attach(propagate.extract(headers))
    try:
        yield
    finally:
        context.detach(token)
