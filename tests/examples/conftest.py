"""The examples as a person runs them: against a registry that somebody started with `agent-registry up`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agents_sdk import RegistryClient
from tests.cli.running import ROOT, Running, Up, environment

EXAMPLES = ROOT / "examples"

Example = Callable[..., Running]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A registry that looks often, so that nobody waits long for a scaling order."""
    quick = environment(AGENT_REGISTRY_SCALING_INTERVAL="0.5")
    with Up(tmp_path / "up", env=quick) as up:
        yield up


@pytest.fixture
async def client(up: Up) -> AsyncIterator[RegistryClient]:
    """A client of it."""
    async with RegistryClient(up.url, timeout=10.0) as client:
        yield client


@pytest.fixture
def example(up: Up, tmp_path: Path) -> Iterator[Example]:
    """Runs an example by its path under `examples/`; what still runs is ended with the test."""
    running: list[Running] = []

    def run(path: str, *arguments: str) -> Running:
        words = [sys.executable, str(EXAMPLES / path), *arguments]
        running.append(Running(words, tmp_path / f"example-{len(running)}", environment(NATS_URL=up.url)))
        return running[-1]

    yield run
    for process in running:
        with process:
            pass
