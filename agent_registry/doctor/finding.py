"""One thing that the doctor has to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Every promise holds; but somebody should know."""
    BROKEN = "broken"
    """A promise does not hold, or it cannot be said that it does."""


@dataclass(frozen=True)
class Finding:
    """What was found, and what to do about it."""

    check: str
    """What was looked at; a stable name, for scripts."""
    severity: Severity
    message: str
    promise: int | None = None
    """Which promise of README it concerns; None for none."""
    change: str = ""
    """A command or setting that can be pasted; empty when nothing has to be changed."""


def ok(check: str, message: str, promise: int | None = None) -> Finding:
    """Return that all is well."""
    return Finding(check, Severity.OK, message, promise)


def note(check: str, message: str, promise: int | None = None, change: str = "") -> Finding:
    """Return what somebody should know."""
    return Finding(check, Severity.NOTE, message, promise, change)


def broken(check: str, message: str, promise: int | None = None, change: str = "") -> Finding:
    """Return what breaks a promise."""
    return Finding(check, Severity.BROKEN, message, promise, change)
