"""Refusals: what the registry answers when it does not do what was asked."""

from __future__ import annotations


class RefusedError(Exception):
    """A request is refused; nothing has changed.

    Attributes:
        code: One of the wire's error codes.
        message: One sentence naming the field, what was given and what would be accepted.
        details: Pairs of field and message.
    """

    def __init__(self, code: str, message: str, *details: tuple[str, str]) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


def invalid(field: str, message: str) -> RefusedError:
    """Return the refusal of a field's value."""
    return RefusedError("invalid_request", f"{field}: {message}", (field, message))


def not_found(agent_id: str) -> RefusedError:
    """Return the refusal to speak of an agent that is not registered."""
    return RefusedError(
        "not_found", f"agent_id: no agent {agent_id!r} is registered", ("agent_id", "is not registered")
    )
