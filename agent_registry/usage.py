"""A wrong command line, in one line: typer's own way is a box of five, in the words of what checks the values."""

from __future__ import annotations

from typing import Any

import typer

from agent_registry.failure import CommandError, Exit


def usage_error(error: typer.TyperException, program: str) -> CommandError:
    """Return what to say of a command line that typer refuses.

    Args:
        error: Why it does.
        program: What the program is called there.
    """
    message = error.format_message()
    if isinstance(error, typer.BadParameter) and error.__cause__ is not None:
        message = message.replace(error.message, _in_words(error.__cause__))
    context: Any = getattr(error, "ctx", None)
    command = program if context is None else context.command_path
    return CommandError(message, f"see: {command} --help", Exit.USAGE)


def _in_words(cause: BaseException) -> str:
    """Return why a value is refused."""
    from pydantic import ValidationError

    from agents_sdk.protocol.faults import fault_in_words

    if isinstance(cause, ValidationError):
        return fault_in_words(cause.errors(include_url=False)[0])
    return str(cause)
