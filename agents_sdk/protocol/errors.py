"""The errors of the registry: one class per code, the same on the wire and in process.

On the wire an error reply has the headers `Nats-Service-Error-Code` and `Nats-Service-Error` (ADR-32)
and the body `{"error": {"code", "message", "details", "retryable"}}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

STATUS_HEADER = "Nats-Service-Error-Code"
MESSAGE_HEADER = "Nats-Service-Error"

MAX_HEADER_LENGTH = 1024
"""Characters of the message that the header carries; the body has all of it."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing that was wrong: which field, and what would be right."""

    field: str
    message: str


class RegistryError(Exception):
    """Base of every error that the registry answers with.

    Attributes:
        code: Stable name of the error; programs decide by this.
        status: The number in the `Nats-Service-Error-Code` header.
        message: One sentence for people.
        details: What was wrong, field by field; may be empty.
        retryable: Whether the same request may succeed later, unchanged.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)

    def to_body(self) -> dict[str, Any]:
        """Return the JSON body of the error reply."""
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "details": [{"field": d.field, "message": d.message} for d in self.details],
                "retryable": self.retryable,
            }
        }

    def to_headers(self) -> dict[str, str]:
        """Return the ADR-32 headers of the error reply: one line of ASCII, cut to what a header should hold."""
        text = self.message[:MAX_HEADER_LENGTH].encode("unicode_escape").decode("ascii")
        return {STATUS_HEADER: str(self.status), MESSAGE_HEADER: text[:MAX_HEADER_LENGTH]}


class InvalidRequestError(RegistryError, ValueError):
    """The request is not what the contract asks for; `details` names the fields."""

    code = "invalid_request"
    status = 400


class ForbiddenError(RegistryError):
    """The caller may not do this to this agent."""

    code = "forbidden"
    status = 403


class NotFoundError(RegistryError):
    """No such agent, policy or assignment; an agent that reads this registers again."""

    code = "not_found"
    status = 404


class AlreadyRegisteredError(RegistryError, ValueError):
    """Another live instance holds this agent id; `details` names its `instance_id`."""

    code = "already_registered"
    status = 409


class StaleIncarnationError(RegistryError):
    """A newer registration of this agent id exists; the sender has been replaced."""

    code = "stale_incarnation"
    status = 409


class ConflictError(RegistryError):
    """The request contradicts the present state, for example a claim held by another agent."""

    code = "conflict"
    status = 409


class PayloadTooLargeError(RegistryError):
    """The payload is larger than the registry reads."""

    code = "payload_too_large"
    status = 413


class OverloadedError(RegistryError):
    """The registry has more work than it accepts; try again after a jittered wait."""

    code = "overloaded"
    status = 429
    retryable = True


class InternalError(RegistryError):
    """The registry failed; its log has the particulars under the id in the message."""

    code = "internal"
    status = 500


class UnavailableError(RegistryError):
    """Nothing can be promised now: NATS or JetStream does not answer, or nobody is free."""

    code = "unavailable"
    status = 503
    retryable = True


ERRORS: Mapping[str, type[RegistryError]] = {
    error.code: error
    for error in (
        InvalidRequestError,
        ForbiddenError,
        NotFoundError,
        AlreadyRegisteredError,
        StaleIncarnationError,
        ConflictError,
        PayloadTooLargeError,
        OverloadedError,
        InternalError,
        UnavailableError,
    )
}
"""Error code to class."""


def error_from_body(body: Mapping[str, Any]) -> RegistryError:
    """Rebuild the error of a reply body; an unknown code becomes an `InternalError` naming it.

    Args:
        body: A decoded reply that has an `error` object.
    """
    error = body["error"]
    code, message = str(error.get("code")), str(error.get("message", ""))
    details = [Detail(str(d.get("field", "")), str(d.get("message", ""))) for d in error.get("details") or ()]
    if code not in ERRORS:
        return InternalError(f"{message} (unknown error code {code!r})", details)
    return ERRORS[code](message, details)
