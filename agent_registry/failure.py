"""What can go wrong for a person at the command line: one line, a hint, and an exit code."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes; scripts decide by these."""

    DONE = 0
    BUG = 1
    BROKEN = 1
    """What `doctor` looked at does not keep a promise. The word is its own; a bug says `error:`."""
    USAGE = 2
    """The command line is wrong, or a file that it names; nothing was sent."""
    REFUSED = 3
    """The registry answered, and said no: not found, conflict, invalid."""
    UNREACHABLE = 4
    """NATS or the registry did not answer, or cannot promise anything now."""


EXIT_CODES = (
    "Exit codes: 0 done; 1 doctor found a promise that does not hold, or a fault of this program; 2 the command line "
    "is wrong, or a file that it names; 3 the registry refused, for example because there is no such agent; 4 NATS or "
    "the registry cannot be reached or started."
)


class CommandError(Exception):
    """A command could not do what it was asked to.

    Attributes:
        message: One line: what went wrong.
        hint: What to do about it; empty when there is nothing sensible to say.
        code: The exit code.
    """

    def __init__(self, message: str, hint: str = "", code: Exit = Exit.REFUSED) -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.hint = hint
        self.code = code
