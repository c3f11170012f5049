"""Running a command line to its end: whatever goes wrong is a line, a hint, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from agent_registry.failure import CommandError, Exit
from agent_registry.usage import usage_error


def run(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; whatever went wrong has been said on standard error.

    Args:
        app: The commands.
        name: What the program is called on the command line.
        arguments: What follows its name there.
    """
    try:
        code = app(list(arguments), prog_name=name, standalone_mode=False)
    except SystemExit:
        return Exit.DONE  # so typer and rich end when whoever reads has had enough, as `head` has
    except CommandError as error:
        _say(error.message, error.hint)
        return error.code
    except typer.TyperException as error:
        if error.format_message():  # else there was no command, and the help has been shown
            refused = usage_error(error, name)
            _say(refused.message, refused.hint)
        return Exit.USAGE
    except typer.Abort:
        return 130
    except Exception as error:  # the last resort: a person gets a line, whoever looks for the fault the traceback
        if os.environ.get("AGENT_REGISTRY_LOG_LEVEL", "").lower() == "debug":
            traceback.print_exc()
        _say(
            f"this is a fault of {name}: {type(error).__name__}: {error}",
            "AGENT_REGISTRY_LOG_LEVEL=debug shows the traceback",
        )
        return Exit.BUG
    return code if isinstance(code, int) else Exit.DONE


def _say(message: str, hint: str) -> None:
    line = f"error: {' '.join(message.split())}"
    if sys.stderr.isatty():
        line = f"\x1b[31merror:\x1b[0m{line.removeprefix('error:')}"
    sys.stderr.write(line + (f"\nhint: {hint}" if hint else "") + "\n")
