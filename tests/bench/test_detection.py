"""The measurement of losses of agents measures; how long each takes on this machine is its own affair."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.spans import Detection
from tests.cli.running import ROOT, environment


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("loss", "event", "reasons"),
    [
        ("agent-killed", "offline", {"no_responders", "disconnected"}),
        ("agent-killed-unwatched", "offline", {"no_responders"}),
        ("agent-stopped", "degraded", {"probe_timeout"}),
    ],
)
def test_an_agent_is_lost_and_told_of(loss: str, event: str, reasons: set[str]) -> None:
    command = [sys.executable, "-m", "bench", "--only", loss, "--quick", "--rounds", "1", "--json"]
    found = subprocess.run(
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=80, check=False
    )
    assert found.returncode == 0, found.stderr
    measured = json.loads(found.stdout)
    (detection,) = measured["detections"]
    (seconds,) = detection["seconds"]
    assert seconds > 0.0
    assert detection["until"] == event
    assert set(detection["reasons"]) <= reasons
    assert detection["p50"] == detection["p99"] == seconds
    assert measured["rows"] == []


@pytest.mark.parametrize(
    ("seconds", "told", "ok"),
    [([0.1] * 99 + [9.0], [], True), ([0.1] * 98 + [9.0] * 2, [], False), ([0.1] * 100, ["agent-1: offline/x"], False)],
)
def test_one_of_a_hundred_may_take_longer_and_nobody_may_be_told_of_in_vain(
    seconds: list[float], told: list[str], ok: bool
) -> None:
    found = Detection("a loss", "offline", 0.25, seconds, [], told)
    assert (found.percentile(50), found.percentile(100)) == (0.1, max(seconds))
    assert found.ok is ok
