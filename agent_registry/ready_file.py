"""The ready file: says that requests are answered, and by whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_registry.atomic import replacing
from agent_registry.failure import CommandError, Exit


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write the ready file in one step, so that who waits for it never reads half of it.

    Args:
        path: Where it goes; a file that is there is replaced.
        content: What it says: where NATS is, and the process ids.

    Raises:
        CommandError: If it cannot be written there.
    """
    try:
        with replacing(path) as file:
            file.write(json.dumps(content).encode() + b"\n")
    except OSError as error:
        raise _not_writable(path, error) from error


def withdraw(path: Path | None) -> None:
    """Take the ready file away: what it says is not true any more.

    Raises:
        CommandError: If it cannot be.
    """
    if path is not None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _not_writable(path, error) from error


def _not_writable(path: Path, error: OSError) -> CommandError:
    return CommandError(f"--ready-file: cannot write {path}: {error.strerror}", code=Exit.USAGE)
