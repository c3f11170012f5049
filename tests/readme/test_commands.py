"""Every command and every program in README runs as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from agent_registry.main import app
from tests import nats_cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
VENV = ROOT / ".venv" / "bin"

COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

ORCHESTRATE = "agent-registry orchestrate --launch 'python examples/worker.py' --capability trading"
LOAD = "python examples/load.py trading --shape sine --high 60"

ADOPT = "AGENT_REGISTRY_ADOPT=micro,synadia agent-registry up"
PROMPT = "nats req agents.prompt.trading-agent.acme.desk-1 'What of BTC?' --wait-for-empty --reply-timeout 30s"

STAY = {"python examples/ten_lines.py", "agent-registry watch", "nats sub 'registry.events.>'", ORCHESTRATE}
"""Commands that run until they are interrupted."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`make up`, with a port and a store of its own; yields the environment for everything else."""
    assert "make up" in COMMANDS
    folder = tmp_path_factory.mktemp("up")
    ready = folder / "ready.json"
    arguments = f"--port 0 --ready-file {ready} --store {folder / 'store'}"
    with running(f"make up ARGS={shlex.quote(arguments)}", dict(os.environ)) as up:
        wait(ready.exists, up, within=60.0)
        told = json.loads(ready.read_text())
        yield {**os.environ, "NATS_URL": told["nats"], "PATH": f"{VENV}:{os.environ['PATH']}"}


@contextmanager
def running(
    command: str, environment: dict[str, str], end: signal.Signals = signal.SIGINT
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in the background, interrupt it as Ctrl-C does, and see that it ends.

    What is not ours may ignore that where whoever runs the tests does, in the background of a script; hence `end`.
    """
    process = subprocess.Popen(
        command, shell=True, cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, end)
        output, _ = process.communicate(timeout=30)
        assert "Traceback" not in output, output


def wait(condition: Callable[[], bool], process: subprocess.Popen[str], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert process.poll() is None, f"ended: {process.stdout and process.stdout.read()}"
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.05)


def run(command: str, environment: dict[str, str], folder: Path = ROOT) -> str:
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def found(environment: dict[str, str]) -> list[str]:
    listing = json.loads(run("agent-registry discover --capability trading --json", environment))
    return [agent["agent_id"] for agent in listing["agents"]]


@pytest.mark.timeout(120)
def test_the_commands_of_the_command_line(registry: dict[str, str], tmp_path: Path) -> None:
    """With the ten-line agent running and watched; it is found, and after Ctrl-C it is not."""
    with running("agent-registry watch", registry):
        with running("python examples/ten_lines.py", registry) as agent:
            wait(lambda: bool(found(registry)), agent)
            for command in COMMANDS:
                if command.startswith("agent-registry") and command not in STAY and "demo" not in command:
                    assert run(command, registry, tmp_path), command
            assert "'price': 42.0" in run("python examples/call.py", registry)
            assert "'price': 42.0" in run("python examples/assign.py", registry)
        assert found(registry) == []


def test_the_swarm(registry: dict[str, str]) -> None:
    assert "python examples/swarm.py" in COMMANDS
    assert "of 5 analysts say" in run("python examples/swarm.py", registry)


def test_agents_are_started_and_stopped_as_ordered(registry: dict[str, str], tmp_path: Path) -> None:
    """From zero: the policy of the commands before wants two."""
    assert {ORCHESTRATE, LOAD} <= set(COMMANDS)
    run("agent-registry scaling set trading --min 2 --max 6 --stabilisation-down 20", registry)
    with running(f"exec {ORCHESTRATE} --log-dir {tmp_path}", registry) as orchestrator:
        wait(lambda: len(found(registry)) >= 2, orchestrator, within=40.0)
        assert " failed    0 " in run(f"{LOAD} --seconds 3", registry)
    assert found(registry) == []


def test_services_are_adopted(tmp_path: Path) -> None:
    """Unchanged ones, of which the process says the ids."""
    assert ADOPT in COMMANDS
    ready = tmp_path / "ready.json"
    environment = {**os.environ, "PATH": f"{VENV}:{os.environ['PATH']}"}
    with running(f"exec env {ADOPT} --port 0 --ready-file {ready} --store {tmp_path / 'store'}", environment) as up:
        wait(ready.exists, up)
        where = {**environment, "NATS_URL": json.loads(ready.read_text())["nats"]}
        with running("exec python -m tests.contract.strangers $NATS_URL", where, signal.SIGTERM) as strangers:
            wait(lambda: len(found(where)) == 1, strangers, within=30.0)
            assert "claude-code" in run("agent-registry discover --capability prompt", where)


def test_the_demo(registry: dict[str, str]) -> None:
    assert "agent-registry demo" in COMMANDS
    told = run("agent-registry demo --seconds 20 --plain", registry)
    assert "Everything that was started has been ended" in told


def test_the_program_in_process(registry: dict[str, str]) -> None:
    (program,) = (each for each in PROGRAMS if "CommunicationBus" in each)
    assert "trading_agent" in run(f"python -c {shlex.quote(program)}", registry)
    assert found(registry) == [], "it leaves nothing behind"


@pytest.mark.parametrize("name", ["ten_lines", "call", "canary", "assign", "swarm", "synadia_agent"])
def test_a_program_is_the_example(name: str) -> None:
    assert (ROOT / "examples" / f"{name}.py").read_text() in PROGRAMS
    assert f"python examples/{name}.py" in COMMANDS


def test_every_example_is_named() -> None:
    for example in (ROOT / "examples").glob("[a-z]*"):
        assert f"`{example.name}" in README or f"`examples/{example.name}`" in README, example


def options_of(command: Any, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield each command and its options."""
    if path:
        yield path, {option for parameter in command.params for option in parameter.opts}
    for name, inner in getattr(command, "commands", {}).items():
        yield from options_of(inner, f"{path} {name}".strip())


def test_the_table_of_commands_says_what_there_is() -> None:
    """Every command, and which options it has."""
    commands = dict(options_of(get_command(app)))
    rows = re.findall(r"^\| (`agent-registry .*?) \|", README, re.MULTILINE)
    told = re.findall(r"`([^`]+)`", " ".join(rows))
    assert {re.sub("agent-registry | [A-Z]+$", "", name) for name in told} == set(commands)
    for name, options in commands.items():
        assert ({"--nats", "--context", "--creds"} <= options) is (name not in ("up", "demo", "schema")), name
        assert ("--prefix" in options) is (name != "demo"), name
        assert ("--json" in options) is (name not in ("up", "serve", "mcp", "demo", "schema", "export")), name


def test_the_cluster(tmp_path: Path) -> None:
    assert "make cluster" in COMMANDS
    ready = tmp_path / "ready.json"
    arguments = f"--port 0 --ready-file {ready} --store {tmp_path / 'store'}"
    with running(f"make cluster ARGS={shlex.quote(arguments)}", dict(os.environ)) as cluster:
        wait(ready.exists, cluster, within=60.0)
        told = json.loads(ready.read_text())
        where = {**os.environ, "NATS_URL": told["nats"], "PATH": f"{VENV}:{os.environ['PATH']}"}
        assert json.loads(run("agent-registry agents --json", where))["agents"] == []


def test_make_test_is_a_target() -> None:
    assert "make test" in COMMANDS
    assert "pytest" in run("make -n test", dict(os.environ))


def test_the_lines_for_the_nats_command(registry: dict[str, str]) -> None:
    """With the real `nats` command where there is one, and the agent that some of them ask."""
    lines = [command for command in COMMANDS if command.startswith("nats ") and command != PROMPT]
    assert len(lines) == 8
    nats = nats_cli.find()
    with running("python examples/canary.py", registry) as agent:
        wait(lambda: "quoter-1" in run("agent-registry agents", registry), agent)
        for line in lines:
            command = line.replace("nats ", f"{nats} ", 1)
            if line in STAY:
                with running(command, registry, signal.SIGTERM) as sub:
                    assert sub.stdout is not None
                    assert "Subscribing on registry.events.>" in sub.stdout.readline()
            else:
                assert run(command, registry), line


def test_the_prompt(registry: dict[str, str]) -> None:
    assert PROMPT in COMMANDS
    nats = nats_cli.find()
    with running("exec python examples/synadia_agent.py", registry) as agent:
        wait(lambda: "desk-1" in found(registry), agent)
        answer = run(PROMPT.replace("nats ", f"{nats} ", 1), registry)
        assert "You asked: What of BTC?" in answer
        assert "I would wait." in answer


def test_no_command_is_left_out() -> None:
    known = (ADOPT, "make ", "export PATH", "python examples/", "agent-registry ", "nats ")
    assert [command for command in COMMANDS if not command.startswith(known)] == []
