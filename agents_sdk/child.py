"""One agent's process on this machine: started, told to end, made to end; and found again by whoever comes after us."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

LOCK = ".lock"
LOG = ".log"

LOOK_INTERVAL = 0.2
"""Seconds between two looks at a process that is not our child, of whose end nobody tells."""

WRITTEN = 256
"""Bytes of a lock file."""

TAIL = 4096
"""Bytes at the end of a log in which its last line is looked for."""


class Child:
    """A process, and the lock that it holds for as long as it lives.

    The lock is an open file that the process inherits, so it is held exactly as long as the process runs, however it
    ends and whoever started it. That tells an orchestrator that was started anew which agents an earlier one, killed,
    has left at work: a process id alone may be another process's by then.

    Args:
        agent_id: The agent.
        capability: What it was started for.
        pid: Of the process; None when whoever started it was killed before it could be written down, and it is not
            found.
        process: The process, when it is our child.
        lock: Its lock file.
    """

    def __init__(self, agent_id: str, capability: str, pid: int | None, process: Process | None, lock: Path) -> None:
        self.agent_id = agent_id
        self.capability = capability
        self.pid = pid
        self.process = process
        self._lock = lock

    @classmethod
    async def start(
        cls,
        agent_id: str,
        capability: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        standard_input: int = DEVNULL,
    ) -> Child | None:
        """Start a process in a session of its own, its output at the end of a log in `folder`.

        Returns:
            None if one runs that was started for this id.

        Raises:
            OSError: If it cannot be started.
        """
        path = folder / f"{agent_id}{LOCK}"
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as lock:
            if not _take(lock):
                return None
            _write(lock, capability, None)
            with (folder / f"{agent_id}{LOG}").open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=standard_input,
                    stdout=log,
                    stderr=STDOUT,
                    env=environment,
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,  # Ctrl-C is for the orchestrator, which ends its agents in order
                )
            _write(lock, capability, process.pid)
        return cls(agent_id, capability, process.pid, process, path)

    async def ended(self) -> int | None:
        """Wait for its end and return its exit code; None when nobody knows it, for it was not our child."""
        if self.process is not None:
            code = await self.process.wait()
        else:
            code = None
            while _is_held(self._lock):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(LOOK_INTERVAL)
        self.clear_away()
        return code

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None if self.process is not None else _is_held(self._lock)

    def terminate(self) -> None:
        """Ask it to finish its work and end. It alone, not its group: whom it started it ends itself."""
        if self.pid is not None and self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with whatever it started and has left in its group."""
        if self.pid is not None and self.runs:
            _kill_group(self.pid)

    def clear_away(self) -> None:
        """End what it has left in its group, now that it has ended itself, and let go of its id."""
        if self.pid is not None and self.process is not None:
            _kill_group(self.pid)
        self._lock.unlink(missing_ok=True)


def left_behind(folder: Path) -> Iterator[Child]:
    """Yield the processes that an earlier launcher on this folder has started and that still run."""
    for path in sorted(folder.glob(f"*{LOCK}")):
        with path.open("r+b") as lock:
            if _take(lock):
                path.unlink(missing_ok=True)
                continue
            said = json.loads(lock.read() or "{}")
        pid = said.get("pid") or _holder(path)
        yield Child(path.name.removesuffix(LOCK), said.get("capability", ""), pid, None, path)


def last_line(log: Path) -> str:
    """Return the last line of a log, shortened; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1].strip()[:300] if lines else ""


def _take(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(path: Path) -> bool:
    try:
        with path.open("r+b") as lock:
            return not _take(lock)
    except FileNotFoundError:
        return False


def _holder(lock: Path) -> int | None:
    """Return which process holds a lock: of all that have inherited it, the one that leads them.

    Linux says so of one's own processes, in /proc; elsewhere nobody does.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            pid = int(folder.name)
            if os.getsid(pid) == pid and any(os.path.samefile(each, lock) for each in (folder / "fd").iterdir()):
                return pid
    return None


def _write(lock: IO[bytes], capability: str, pid: int | None) -> None:
    """Write down whose lock it is, in one piece and always as long: half of it would tell nobody anything."""
    said = json.dumps({"capability": capability, "pid": pid})
    os.pwrite(lock.fileno(), said.ljust(WRITTEN).encode("ascii"), 0)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
