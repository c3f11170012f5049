"""A child process: started, waited for, ended; it does not outlive the process that started it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import orjson

START_TIMEOUT = 15.0
STOP_TIMEOUT = 5.0

PR_SET_PDEATHSIG = 1


class ServerError(Exception):
    """A server process cannot be had; the message says why and what to do."""


class Child(ABC):
    """A server process of ours.

    Args:
        name: What it is called in errors.
        command: Program and arguments.
        log: Where it writes what a person should read when it does not start.
        environment: What it finds in its environment, beside what this process has.
        with_parent: Signal that the kernel sends it when this process is killed.
        start_timeout: Seconds until it must be ready.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        with_parent: signal.Signals = signal.SIGTERM,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment or {}
        self._with_parent = with_parent
        self._start_timeout = start_timeout
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Process id; of the one that ended, when it has ended."""
        assert self._process is not None, "start it first"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.returncode is None

    @abstractmethod
    async def start(self) -> None:
        """Start it, or start it again after it has ended, and return when it is ready.

        Raises:
            ServerError: If it does not.
        """

    async def ended(self) -> int:
        """Wait until it has ended and return how: the exit code, or minus the number of the signal that ended it."""
        assert self._process is not None, "start it first"
        return await self._process.wait()

    async def stop(self) -> None:
        """End it: politely, and after `STOP_TIMEOUT` not."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _begin(self, output: IO[bytes] | int = subprocess.DEVNULL, inherited: Sequence[int] = ()) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, **self._environment},
            pass_fds=inherited,
            preexec_fn=ends_with_parent(self._with_parent),
            start_new_session=True,  # Ctrl-C is for us: servers have to outlive the draining of their clients
        )  # fmt: skip

    async def _written(self, path: Path) -> Any:
        """Wait for the JSON file that it writes when it is ready, and return what is in it.

        Raises:
            ServerError: If it ends before, or takes longer than its time; then it is ended.
        """
        deadline = asyncio.get_running_loop().time() + self._start_timeout
        while True:
            if not self.runs:
                raise ServerError(f"{self.name} ended by {ending(await self.ended())}; see {self.log}")
            try:
                return orjson.loads(path.read_bytes())
            except (FileNotFoundError, orjson.JSONDecodeError):
                await asyncio.sleep(0.02)
            if asyncio.get_running_loop().time() > deadline:
                await self.stop()
                raise ServerError(f"{self.name} did not start within {self._start_timeout:g} s; see {self.log}")


def ends_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child does before its program begins, so that the kernel sends it a signal when its parent ends.

    For `preexec_fn` of `subprocess`; to be called by a thread that lasts, for the kernel means the thread that started
    the child. None where the kernel cannot do that: only Linux can.

    Args:
        number: The signal.
    """
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)  # now: between fork and exec as little as possible may happen

    def prepare() -> None:
        library.prctl(PR_SET_PDEATHSIG, number)

    return prepare


def ending(code: int) -> str:
    """Return how a process ended, in words: a negative code is a signal."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
