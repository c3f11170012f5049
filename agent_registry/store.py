"""The folder in which `up` keeps everything, and that only one `up` may use at a time."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_registry.failure import CommandError, Exit

LEFTOVER_WAIT = 5.0
"""Seconds to let the NATS servers of a process that was killed finish with the store."""

PID_FILE = "nats-server.pid"
"""Written by each NATS server into its folder, which is the store or, where there are several, one in it."""


def default_store() -> Path:
    """Return the store of a person who does not name one."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "agent-registry"


@contextmanager
def held(store: Path, port: int, hint: str) -> Iterator[None]:
    """Hold the store for as long as the block lasts: two NATS servers on one store would destroy it.

    Args:
        store: The folder; made if it is not there.
        port: The port asked for, for the error text.
        hint: What to do if it is held.

    Raises:
        CommandError: If another process holds it, or it cannot be made.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = (store / "lock").open("a+", encoding="ascii")
    except OSError as error:
        raise CommandError(f"--store: cannot use {store}: {error.strerror}", code=Exit.USAGE) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(_in_use(store, port, _pid_in(store / "lock")), hint, Exit.UNREACHABLE) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for pid_file in (store / PID_FILE, *store.glob(f"*/{PID_FILE}")):
            _outwait(pid_file)
        yield


def _in_use(store: Path, port: int, pid: int | None) -> str:
    who = "another agent-registry" if pid is None else f"another agent-registry, pid {pid}"
    what = f"port {port} and store {store} are" if port and _listens(port) else f"store {store} is"
    return f"{what} in use by {who}"


def _outwait(pid_file: Path) -> None:
    """Wait for a NATS server that was left behind; the kernel told it to end when its parent was killed."""
    pid = _pid_in(pid_file)
    deadline = time.monotonic() + LEFTOVER_WAIT
    while pid is not None and _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)


def _pid_in(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # somebody else's, so not the server that an earlier `up` of ours left
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
