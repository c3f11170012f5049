"""The measurement of losses measures; what it finds on this machine is its own affair."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.cli.running import ROOT, environment


def test_a_leader_is_killed_and_replaced_and_nobody_fails() -> None:
    command = [sys.executable, "-m", "bench", "--only", "leader-killed", "--rounds", "1", "--json"]
    found = subprocess.run(
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert found.returncode == 0, found.stderr
    (losses,) = json.loads(found.stdout)["losses"]
    for spans in losses["spans"]:
        (seconds,) = spans["seconds"]
        assert seconds > 0.0
    for noticed in losses["noticed"]:
        assert noticed["calls"]["count"] > 0
        assert noticed["calls"]["failures"] == []
        assert not noticed["wrong"]
