"""A launcher that runs agents as processes on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import shlex
import shutil
import signal
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from agents_sdk.agent import AGENT_ID_VARIABLE, REFUSED
from agents_sdk.child import LOCK, LOG, Child, last_line, left_behind
from agents_sdk.launcher import LauncherFullError, LaunchError
from agents_sdk.protocol.fields import AGENT_ID_PATTERN, PATTERN_IN_WORDS
from agents_sdk.retry import Backoff
from agents_sdk.telling import unfailing

PLACEHOLDERS = ("agent_id", "capability")

CAPABILITY_VARIABLE = "AGENT_REGISTRY_CAPABILITY"

DEFAULT_GRACE = 35.0
"""Seconds; an agent of the SDK gives the work in flight 30 s when it is told to end."""

MAX_RESTARTS = 5
RESTART_FLOOR, RESTART_CEILING = 0.5, 30.0
"""Seconds from a crash to the next start."""

STEADY = 60.0
"""Seconds of life after which earlier crashes count no more."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kept:
    """An agent that is kept running, or being ended."""

    child: Child
    keeping: asyncio.Task[None] = field(init=False)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


class ProcessLauncher:
    """Runs agents as processes on this machine, from one command; see `Launcher` for the contract.

        async with ProcessLauncher("python my_agent.py", folder=Path("agents"), max_processes=10) as launcher:
            await Orchestrator(registry, launcher, ["trading"], durable="trading").run()

    Each process is told who it is by the placeholders `{agent_id}` and `{capability}` of its command, and by the
    variables `AGENT_REGISTRY_AGENT_ID`, which an `Agent` without an id of its own takes, and
    `AGENT_REGISTRY_CAPABILITY`. What it writes goes to the end of `<agent_id>.log`.

    One that crashes is started again under its id, after a wait that grows; after `max_restarts` crashes within a
    minute of their starts it is given up. One that ends with 0 has left, and one that ends with 3 was refused by the
    registry: neither is started again.

    When the block ends, by an exception too, every agent is told to end and finishes its work. When this process is
    killed, they work on: whoever uses the folder next finds them there, counts them, and ends them when that is wanted.
    Only, such a one that crashes is not started again, for nobody learns how it ended.

    Args:
        command: What starts an agent, split as a shell would, but run without one; or its words.
        folder: For logs, and for the locks by which processes are found again; made if it is not there. One launcher
            at a time uses it.
        max_processes: How many may run at once, of all capabilities together, those that are ending included.
        environment: The environment of the agents; this process's own when left out. `NATS_URL` in it tells an `Agent`
            where NATS is.
        grace: Seconds from SIGTERM to SIGKILL.
        max_restarts: How often in a row one that crashes is started again.
        say: Told in words what happens to processes; what it raises is logged once.
        standard_input: What `asyncio.create_subprocess_exec` is to make of it.

    Raises:
        ValueError: If the command cannot be run, or a number is out of range; it names what.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        folder: Path,
        max_processes: int,
        environment: Mapping[str, str] | None = None,
        grace: float = DEFAULT_GRACE,
        max_restarts: int = MAX_RESTARTS,
        say: Callable[[str], None] = logger.info,
        standard_input: int = DEVNULL,
    ) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        self._command = _checked(command, self._environment.get("PATH"))
        if max_processes < 1:
            raise ValueError(f"max_processes: must be at least 1; got {max_processes}")
        if max_restarts < 0 or grace < 0:
            raise ValueError(f"max_restarts and grace: must be 0 or more; got {max_restarts} and {grace:g}")
        self._folder = folder
        self._max_processes = max_processes
        self._grace = grace
        self._max_restarts = max_restarts
        self._say = unfailing(say)
        self._standard_input = standard_input
        self._kept: dict[str, _Kept] = {}
        self._starting: set[str] = set()
        self._held: IO[bytes] | None = None

    async def __aenter__(self) -> Self:
        """Take the folder, and the agents that an earlier launcher has left at work.

        Raises:
            LaunchError: If another launcher uses the folder, or it cannot be used.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._held = (self._folder / "launcher").open("ab")
        except OSError as error:
            raise LaunchError(f"folder: cannot use {self._folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._held.close()
            raise LaunchError(f"folder: {self._folder} is in use by another launcher") from None
        for child in left_behind(self._folder):
            self._keep(child)
        if self._kept:
            self._say(f"{', '.join(self._kept)} still at work from an earlier run")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, None  # nothing is started any more
        try:
            await asyncio.gather(*(self._end(agent_id) for agent_id in list(self._kept)))
        finally:
            self.kill()
            if held is not None:
                held.close()

    @property
    def agents(self) -> list[str]:
        """Every agent whose process runs or is about to be started again, those that are ending included."""
        return list(self._kept)

    async def start(self, agent_id: str, capability: str) -> str:
        """Start an agent's process, unless one runs under this id; see `Launcher.start`."""
        if re.fullmatch(AGENT_ID_PATTERN, agent_id) is None:
            raise ValueError(f"agent_id: must be {PATTERN_IN_WORDS[AGENT_ID_PATTERN]}; got {agent_id!r}")
        if agent_id in self._kept or agent_id in self._starting:
            return agent_id
        if len(self._kept) + len(self._starting) >= self._max_processes:
            raise LauncherFullError(
                f"as many processes run as may: {self._max_processes}; more do with a higher max_processes (--max)"
            )
        self._starting.add(agent_id)
        try:
            child = await self._begin(agent_id, capability)
        except OSError as error:
            raise LaunchError(f"cannot start {self._command[0]}: {error.strerror}") from error
        finally:
            self._starting.discard(agent_id)
        self._keep(child)
        return agent_id

    async def stop(self, agent_id: str) -> None:
        """Send SIGTERM, and SIGKILL when the grace has passed; return when it has ended; see `Launcher.stop`."""
        kept = self._kept.get(agent_id)
        if kept is None:
            return
        if kept.child.pid is None:
            lock = self._folder / f"{agent_id}{LOCK}"
            raise LaunchError(f"{agent_id} runs, but nobody knows in which process: end the one that holds {lock}")
        kept.stopping.set()
        kept.child.terminate()
        done, _ = await asyncio.wait((kept.keeping,), timeout=self._grace)
        if not done:
            self._say(f"{agent_id} has not ended {self._grace:g} s after SIGTERM and is killed")
            kept.child.kill()
            done, _ = await asyncio.wait((kept.keeping,), timeout=self._grace)
            if not done:
                raise LaunchError(f"{agent_id} has not ended {self._grace:g} s after SIGKILL")

    async def running(self, capability: str) -> list[str]:
        """Return whose process runs, is being started, or is about to be started again; see `Launcher.running`."""
        return [
            agent_id
            for agent_id, kept in self._kept.items()
            if not kept.stopping.is_set() and kept.child.capability == capability
        ]

    def kill(self, agent_id: str | None = None) -> None:
        """Send SIGKILL to one process, as a crash would end it, or to all of them; safe in a signal handler."""
        for each, kept in list(self._kept.items()):
            if agent_id in (None, each):
                kept.child.kill()

    def log(self, agent_id: str) -> Path:
        """Return where what an agent writes is kept."""
        return self._folder / f"{agent_id}{LOG}"

    async def _end(self, agent_id: str) -> None:
        try:
            await self.stop(agent_id)
        except LaunchError as error:
            self._say(f"{error}; it is left at work")

    def _keep(self, child: Child) -> None:
        kept = self._kept[child.agent_id] = _Kept(child)
        kept.keeping = asyncio.create_task(self._keep_running(kept))

    async def _keep_running(self, kept: _Kept) -> None:
        """Start an agent again whenever it crashes, until it has ended for good."""
        agent_id, capability = kept.child.agent_id, kept.child.capability
        backoff, restarts = Backoff(RESTART_FLOOR, RESTART_CEILING), 0
        try:
            while True:
                began = time.monotonic()
                code = await kept.child.ended()
                if time.monotonic() - began >= STEADY:
                    backoff.reset()
                    restarts = 0
                if kept.stopping.is_set() or not self._is_crash(agent_id, code):
                    return
                how = f"{agent_id} {_how(code)}{self._last_words(agent_id)}"
                if restarts >= self._max_restarts:
                    self._say(f"{how}; given up after {restarts} restarts" if restarts else how)
                    return
                pause, restarts = backoff.next(), restarts + 1
                self._say(f"{how}; starts again in {pause:.1f} s, restart {restarts} of {self._max_restarts}")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await kept.stopping.wait()
                        return
                kept.child = await self._begin(agent_id, capability)
                if kept.stopping.is_set():
                    kept.child.terminate()
        except (OSError, LaunchError) as error:
            self._say(f"{agent_id} cannot be started again: {error}")
        finally:
            self._kept.pop(agent_id, None)

    def _is_crash(self, agent_id: str, code: int | None) -> bool:
        """Return whether an end calls for another start; say so of one that does not."""
        if code == 0:
            self._say(f"{agent_id} has ended")
        elif code is None:
            self._say(f"{agent_id}, of an earlier run, has ended")
        elif code == REFUSED:
            self._say(f"{agent_id} is refused by the registry and not started again{self._last_words(agent_id)}")
        else:
            return True
        return False

    async def _begin(self, agent_id: str, capability: str) -> Child:
        """Start a process.

        Raises:
            LaunchError: If this launcher is not in use, or the id has a process that is not ours.
            OSError: If it cannot be started.
        """
        if self._held is None:
            raise LaunchError("the launcher is closed; nothing is started any more")
        values = {"{agent_id}": agent_id, "{capability}": capability}
        command = [_PLACEHOLDER.sub(lambda found: values[found[0]], word) for word in self._command]
        environment = {**self._environment, AGENT_ID_VARIABLE: agent_id, CAPABILITY_VARIABLE: capability}
        child = await Child.start(agent_id, capability, command, self._folder, environment, self._standard_input)
        if child is None:
            raise LaunchError(f"{agent_id}: something that an earlier process of it started still runs")
        return child

    def _last_words(self, agent_id: str) -> str:
        line = last_line(self.log(agent_id))
        return f": {line}" if line else " without a word"


_PLACEHOLDER = re.compile(r"\{[A-Za-z_]\w*\}")


def _checked(command: str | Sequence[str], path: str | None) -> list[str]:
    """Return the words of a command.

    Raises:
        ValueError: If it cannot be run.
    """
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise ValueError(f"command: {error} in {command!r}") from error
    if not words:
        raise ValueError("command: is empty")
    known = [f"{{{name}}}" for name in PLACEHOLDERS]
    for word in words:
        for placeholder in _PLACEHOLDER.findall(word):
            if placeholder not in known:
                raise ValueError(f"command: {placeholder} is no placeholder; known are {' and '.join(known)}")
    if shutil.which(words[0], path=path) is None:
        raise ValueError(f"command: {words[0]!r} is not found, or cannot be run")
    return words


def _how(code: int | None) -> str:
    """Return how a process ended."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"
