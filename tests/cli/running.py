"""The command line as a person runs it: in a process of its own, with an environment that says nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from agent_registry.main import run
from agents_sdk import AgentStatus, RegistryClient, ServiceQuery

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
BINARIES = ("AGENT_REGISTRY_NATS_SERVER", "AGENT_REGISTRY_NATS_CLI")
"""Variables that say what to run, not how it is to be."""

NO_CONTEXTS = os.devnull
"""For `XDG_CONFIG_HOME`: whoever runs the tests may have selected a context of the `nats` CLI."""

WITHIN = 30.0
"""Seconds that anything may take before a test gives up; all of it takes one or two."""


def environment(**changes: str) -> dict[str, str]:
    """Return this environment without what would tell the command line where NATS is or how to be."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NATS_", "AGENT_REGISTRY_", "XDG_", "OTEL_", "COLUMNS")) or name in BINARIES
    }
    silent = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "XDG_CONFIG_HOME": NO_CONTEXTS}
    return {**kept, **silent, **changes}


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of `agent-registry`."""
    return [sys.executable, "-m", "agent_registry", *map(str, arguments)]


def finished(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `agent-registry` to its end."""
    return subprocess.run(
        command(*arguments),
        env=env or environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )


def run_here(*arguments: str | Path) -> int:
    """Run `agent-registry` in this process, but for its logs: how it sets them up ends with it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        return run([str(argument) for argument in arguments])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def until(condition: Callable[[], T | bool | None], within: float = WITHIN) -> T | bool:
    """Wait until a condition holds and return what it returned."""
    deadline = time.monotonic() + within
    while not (met := condition()):
        assert time.monotonic() < deadline, f"not within {within} s: {condition}"
        time.sleep(0.02)
    return met


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be asked how it ended does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(") ")[2][0] != "Z"


class Running:
    """A process that runs while the test does.

    Args:
        arguments: Program and arguments.
        folder: Where its output goes.
        env: Its environment.
    """

    def __init__(self, arguments: list[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                arguments, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=env or environment(), cwd=ROOT
            )

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._err.read_text()

    def lines(self) -> list[Any]:
        """Return the JSON documents that it has written so far, one a line."""
        return [json.loads(line) for line in self.stdout.splitlines(keepends=True) if line.endswith("\n")]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(WITHIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Up(Running):
    """A running `agent-registry up`; made, it answers requests.

    Args:
        folder: Its store, ready file and output; another `Up` on it has everything again.
        arguments: Further arguments.
        env: Its environment.
    """

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.store, self.ready_file = folder / "store", folder / "ready.json"
        where = ("--port", "0") if "--port" not in arguments else ()
        super().__init__(
            command("up", *where, "--store", self.store, "--ready-file", self.ready_file, *arguments), folder, env
        )
        until(lambda: self._is_ready() or self.process.poll() is not None)
        assert self.process.poll() is None, self.stderr
        ready = json.loads(self.ready_file.read_text())
        self.url: str = ready["nats"]
        self.nats_pid: int = ready["nats_pid"]

    def _is_ready(self) -> bool:
        """Return whether it has written the ready file; one that a killed predecessor left names another process."""
        try:
            return bool(json.loads(self.ready_file.read_text())["pid"] == self.process.pid)
        except FileNotFoundError:
            return False

    def ask(self, question: Callable[[RegistryClient], Coroutine[Any, Any, T]]) -> T:
        """Return what a client answers."""

        async def conversation() -> T:
            async with RegistryClient(self.url, timeout=10.0) as registry:
                return await question(registry)

        return asyncio.run(conversation())

    def register(self, agent_id: str, **fields: Any) -> None:
        """Register an agent that nobody runs."""
        registration = {"agent_type": "trading_agent", "capabilities": ["trading"], "agent_id": agent_id, **fields}
        self.ask(lambda registry: registry.register(registration))

    def agents(self) -> dict[str, str]:
        """Return the status of every agent."""
        everyone = ServiceQuery(statuses=set(AgentStatus), min_health_score=0.0, max_load_factor=1.0, limit=1000)
        agents = self.ask(lambda registry: registry.discover_agents(everyone))
        return {agent.agent_id: str(agent.status) for agent in agents}
