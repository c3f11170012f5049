"""The demo: the whole loop happens, is explained, and leaves nothing behind."""

from __future__ import annotations

import io
import re
import signal
import sys
import uuid
from pathlib import Path

import pytest

from agent_registry.demo import stage
from agent_registry.demo.ledger import Ledger
from agent_registry.demo.screen import draw
from agent_registry.demo.story import OPENING, SCENES, SHORTENED, rate_at
from agent_registry.demo.telling import closing
from agents_sdk.protocol.discovery import AgentInfo
from agents_sdk.protocol.vocabulary import AgentStatus
from registry.settings import Settings
from tests.cli.running import Running, command, environment, until


class Marked:
    """Processes that have a mark in their environment, which their children inherit."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.env = environment(DEMO_TEST_MARK=self.mark)

    def alive(self) -> list[str]:
        """Return the command lines of those that run."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"DEMO_TEST_MARK={self.mark}".encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # ended while we looked, or is not ours
        return found


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
@pytest.mark.timeout(180)
def test_the_whole_loop_happens_and_leaves_nothing_behind(tmp_path: Path) -> None:
    marked = Marked()
    env = {**marked.env, "TMPDIR": str(tmp_path)}
    with Running(command("demo", "--plain", "--seconds", "25"), tmp_path / "out", env) as demo:
        assert demo.process.wait(150) == 0, demo.stderr
        told = demo.stdout
    assert demo.stderr == ""
    for scene in SCENES:
        assert f"== {scene.title} ==" in told
    in_order = (
        r"registry orders trading 0 → 2: .*min_agents",
        r"orchestrator starts trading-1-0, trading-1-1",
        r"registry orders trading 2 → \d: mean load",
        r"orchestrator starts trading-\d-0",
        r"demo kill -9 risk_management-\d-\d",
        r"risk_management-\d-\d is offline: .* after the kill",
        r"registry orders risk_management 1 → 2",
        r"orchestrator starts risk_management-2-0",
        r"research-\d-\d is suspended, by an operator: maintenance",
        r"registry orders trading \d → \d: mean load .* below 0\.3",
        r"orchestrator drains trading-\d-\d",
        r"What you saw:",
        r"was found dead \d\.\d s after kill -9",
    )
    stamps = [float(stamp) for stamp in re.findall(r"^ *(\d+\.\d) s  ", told, re.MULTILINE)]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) > len(stamps) / 4, "what happens while it starts has times of its own"
    assert stamps[0] > 0.0
    position = 0
    for pattern in in_order:
        found = re.compile(pattern).search(told, position)
        assert found, f"{pattern!r} is not told after:\n{told[:position]}\n--- but:\n{told[position:]}"
        position = found.start()
    assert marked.alive() == []
    assert list(tmp_path.glob("agent-registry-demo-*")) == []


@linux
def test_ended_by_ctrl_c_it_leaves_nothing_behind(tmp_path: Path) -> None:
    marked = Marked()
    with Running(command("demo", "--plain"), tmp_path, marked.env) as demo:
        until(lambda: "orchestrator starts" in demo.stdout)
        assert demo.end(signal.SIGINT) == 0
    assert "Traceback" not in demo.stderr
    assert marked.alive() == []


@linux
def test_killed_it_takes_everything_with_it(tmp_path: Path) -> None:
    """Each process holds one end of a pipe; the other end is gone with the demo."""
    marked = Marked()
    with Running(command("demo", "--plain"), tmp_path, marked.env) as demo:
        until(lambda: "registered for" in demo.stdout)
        demo.process.kill()
        demo.process.wait()
        until(lambda: marked.alive() == [])


def test_a_registry_that_does_not_start_is_one_clear_line(tmp_path: Path) -> None:
    env = environment(AGENT_REGISTRY_NATS_SERVER="/no/such/nats-server")
    with Running(command("demo", "--plain"), tmp_path, env) as demo:
        assert demo.process.wait(30) == 4
    assert demo.stderr.startswith("error: the registry does not start: ")
    assert "/no/such/nats-server" in demo.stderr
    assert "Traceback" not in demo.stderr


def test_it_says_that_its_times_are_shortened() -> None:
    """And what they are otherwise."""
    usual = Settings()
    health, look = re.findall(r"(\d+) s instead of (\d+)", SHORTENED)
    assert health == (f"{stage.HEALTH_CHECK_INTERVAL:g}", f"{usual.health_check_interval:g}")
    assert look == (f"{stage.SCALING_INTERVAL:g}", f"{usual.scaling_interval:g}")
    assert f"low load, not {usual.scale_down_stabilisation:g}," in SHORTENED
    assert SHORTENED in OPENING
    assert " ".join(closing(Ledger(70.0)).split()).count(SHORTENED) == 1


def test_the_load_rises_and_falls() -> None:
    rates = [rate_at(share / 10) for share in range(11)]
    assert rates[0] == rates[10] == 4.0
    assert max(rates) == 40.0
    assert rate_at(-1.0) == rate_at(2.0) == 4.0


def agent(agent_id: str, capability: str, status: AgentStatus = AgentStatus.ACTIVE) -> AgentInfo:
    return AgentInfo(agent_id, "agent", {capability}, status)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
def test_the_display_fits_its_window(width: int, height: int) -> None:
    """With more agents than there is room for, those that are not well stay in sight."""
    from rich.console import Console

    ledger = Ledger(70.0, nats="nats://127.0.0.1:4222")
    crew = [agent(f"trader-{number}", "trading") for number in range(1, 7)]
    crew += [agent(f"research-{number}", "research") for number in range(1, 4)]
    crew += [agent("risk-1", "risk_management", AgentStatus.OFFLINE), agent("risk-2", "risk_management")]
    ledger.look(crew, [])
    for number in range(60):
        ledger.note("registry", f"happening {number} " + "x" * 300)
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(draw(ledger, width, height))
    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any(line.startswith("risk-1 ") for line in lines)
    assert any("happening 59" in line for line in lines)
