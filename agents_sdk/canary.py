"""Canaries on an agent's side: declaring them, and telling one from real work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from agents_sdk.protocol.canary import CANARY_HEADER
from agents_sdk.protocol.codec import adapter, check
from agents_sdk.protocol.errors import Detail, InvalidRequestError
from agents_sdk.protocol.registration import Registration

_REGISTRATION = adapter(Registration)

_is_canary = ContextVar("is_canary", default=False)


@dataclass(frozen=True, slots=True)
class Canary:
    """A request with a known answer: the registry sends it now and then, to see whether the agent does its work.

        @agent.handle("predict", canary=Canary({"text": "ping"}, expect={"ok": True}))
        async def predict(request):
            ...

    An agent that beats but fails its canary twice in a row is degraded until it passes. The handler is called as for
    any other request; `is_canary` tells it. Canaries count neither as load nor in the metrics.

    Args:
        payload: The request.
        expect: Fields that the answer must have, with equal values; without any, an answer will do that is no error.
        capability: Which capability this shows; may be left out when the agent has only one.
        timeout: Seconds that the answer may take, 0.05 to 60.
        period: Seconds between two of them, 1 to 86,400.
    """

    payload: Mapping[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    expect: Mapping[str, Any] = field(default_factory=dict)
    capability: str | None = None
    timeout: float = 2.0
    period: float = 60.0


def declaring(registration: Registration, topic: str, canary: Canary) -> Registration:
    """Return a registration that also declares a canary, which goes to a topic.

    Raises:
        InvalidRequestError: A `ValueError` that names the field.
    """
    capability = _capability_of(canary, registration)
    if capability in registration.canaries:
        raise _wrong("capability", f"{capability!r} has a canary already, on {registration.canaries[capability].topic}")
    declared = {
        "topic": topic,
        "payload": canary.payload,
        "expect": canary.expect,
        "timeout": canary.timeout,
        "period": canary.period,
    }
    known = registration.model_dump(exclude_unset=True)
    return check(_REGISTRATION, {**known, "canaries": {**known.get("canaries", {}), capability: declared}})


def _capability_of(canary: Canary, registration: Registration) -> str:
    known = registration.capabilities
    if canary.capability is None:
        if len(known) > 1:
            raise _wrong("capability", f"must be given, for the agent has several: {', '.join(known)}")
        return known[0]
    capability = str(canary.capability).strip().lower()
    if capability not in known:
        raise _wrong("capability", f"must be one of the agent's, {', '.join(known)}; got {canary.capability!r}")
    return capability


def _wrong(name: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(f"canary.{name}: {message}", [Detail(f"canary.{name}", message)])


def is_canary() -> bool:
    """Return whether the request that is being handled is a canary: a test, of which nothing must come but the answer.

    To be called in a handler, or in what it calls.
    """
    return _is_canary.get()


def says_canary(headers: Mapping[str, str] | None) -> bool:
    """Return whether a message's headers say that it is a canary."""
    return headers is not None and headers.get(CANARY_HEADER) == "1"


@contextmanager
def handling(canary: bool) -> Iterator[None]:
    """Run the body as what handles a canary, or real work."""
    token = _is_canary.set(canary)
    try:
        yield
    finally:
        _is_canary.reset(token)
