"""The ready file: says that requests are answered, and by whom."""

from __future__ import annotations

import json
import os
from pathlib import Path

from agent_registry.atomic import replacing


def write(path: Path, nats: str, nats_pid: int | None) -> None:
    """Write the ready file in one step, so that who waits for it never reads half of it.

    Args:
        path: Where it goes; a file that is there is replaced.
        nats: URL at which NATS is reached.
        nats_pid: Process id of the embedded server; None when NATS is somebody else's.

    Raises:
        OSError: If it cannot be written there.
    """
    content = json.dumps({"nats": nats, "pid": os.getpid(), "nats_pid": nats_pid}) + "\n"
    with replacing(path) as file:
        file.write(content.encode())
