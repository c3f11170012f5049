"""A reader that has had enough, as `agent-registry agents | head` has."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import ROOT, Up, command, environment, is_alive, until


@pytest.mark.parametrize("words", [("agents",), ("agents", "--json"), ("watch",), ("watch", "--json")], ids=" ".join)
def test_who_reads_no_further_ends_it_quietly(up: Up, words: tuple[str, ...]) -> None:
    for n in range(30):
        up.register(f"many-{n}", metadata={"note": "x" * 5000}, instance_id="i")
    count = itertools.count()
    with subprocess.Popen(
        command(*words, "--nats", up.url), env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        until(lambda: up.register("one", instance_id="i", tags=[f"t{next(count)}"]) or process.poll() is not None)
        assert (process.returncode, process.stderr.read()) == (0, b"")


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["words", "json"])
def test_an_orchestrator_that_nobody_reads_ends_its_agents_in_order(tmp_path: Path, form: tuple[str, ...]) -> None:
    """Whatever it would have said next: of an order, or of a process, as here of one that crashes."""
    program = tmp_path / "agent.sh"
    program.write_text("""
        echo begins $$
        trap 'echo told to end; exit 0' TERM
        [ $AGENT_REGISTRY_AGENT_ID = trading-1-1 ] && exit 9
        while :; do sleep 0.05; done
    """)
    log = tmp_path / "agents" / "trading-1-0.log"
    with Up(tmp_path / "up", env=environment(AGENT_REGISTRY_SCALING_INTERVAL="0.5")) as up:
        up.ask(lambda registry: registry.set_scaling("trading", min_agents=2))
        words = ("--launch", f"sh {program}", "--log-dir", log.parent, "-c", "trading", "--nats", up.url, *form)
        process = subprocess.Popen(
            command("orchestrate", *words), env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            process.stdout.read(1)
            until(lambda: log.exists() and "begins" in log.read_text())
            process.stdout.close()
            process.stdout = None  # what is not read is not asked for either
            assert (process.communicate(timeout=30)[1], process.returncode) == (b"", 0)
            assert log.read_text().endswith("told to end\n")
        finally:
            process.kill()
            for pid in map(int, re.findall(r"begins (\d+)", log.read_text())):
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)
