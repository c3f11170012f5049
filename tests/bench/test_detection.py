"""The measurement of losses of agents measures; how long each takes on this machine is its own affair."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.running import ROOT, environment


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
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
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
