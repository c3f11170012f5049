"""The measurement of assignments measures; how long they take on this machine is its own affair."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.policies import POLICIES, arrivals, responses
from tests.cli.running import ROOT, environment


@pytest.mark.timeout(90)
def test_no_slot_has_two_tasks() -> None:
    command = [sys.executable, "-m", "bench", "--only", "assign", "--rounds", "200", "--json"]
    found = subprocess.run(
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=80, check=False
    )
    assert found.returncode == 0, found.stderr
    [measured] = json.loads(found.stdout)["assigning"]
    assert measured["twice"] == 0
    assert [each["tasks"] for each in measured["waited"]] == [200, 40, 200, 200, 200, 200]
    assert all(0.0 < each["mean"] < each["p99"] for each in measured["waited"])
    assert all(each["per_second"] > 0 for each in measured["speeds"])


def test_stale_loads_mislead_as_is_known() -> None:
    """Mitzenmacher's order: the better of two random agents, then any, and last the one that looked least loaded."""
    tasks = arrivals(5_000, 10, 1.0, 0.8, seed=3)
    means = {policy: sum(responses(policy, tasks, 10, 10.0, seed=5)) / len(tasks) for policy in POLICIES}
    assert means["round robin"] < means["best of two"] < means["random"] * 1.1 < means["least loaded"]
    fresh = {policy: sum(responses(policy, tasks, 10, 0.001, seed=5)) / len(tasks) for policy in POLICIES}
    assert fresh["least loaded"] < fresh["best of two"] < fresh["random"]
