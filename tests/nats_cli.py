"""The real `nats` command, where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

VARIABLE = "AGENT_REGISTRY_NATS_CLI"
"""Names the command. `.ci/run` sets it where it builds one, so that a build that failed fails the tests, too."""

TIMEOUT = "20s"
"""How long it waits for an answer: a busy machine may need longer than its own 5 s."""


def find() -> str:
    """Return the path of the command; without one the test is skipped."""
    named = os.environ.get(VARIABLE)
    if named:
        assert shutil.which(named), f"{VARIABLE}: {named} is not there, or cannot be run"
        return named
    found = shutil.which("nats")
    if found is None:
        pytest.skip(f"NOT TRIED: there is no `nats` command; put it on PATH, or name it in {VARIABLE}")
    return found


def environment(home: Path, url: str | None = None) -> Mapping[str, str]:
    """Return an environment without contexts and settings of whoever runs the tests.

    Args:
        home: Where contexts are kept.
        url: Of NATS; a context is to say it when left out.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "AGENT_REGISTRY_"))}
    where = {} if url is None else {"NATS_URL": url}
    return {**kept, **where, "NATS_TIMEOUT": TIMEOUT, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
