"""A registry for the tests of the command line, and the commands run in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.cli.running import BINARIES, NO_CONTEXTS, Up, run_here


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that it printed."""
        return json.loads(self.out)


Do = Callable[..., Outcome]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A registry for the tests of one module, each of which has agents of its own."""
    with Up(tmp_path_factory.mktemp("up")) as up:
        yield up


@pytest.fixture(autouse=True)
def _silent_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("NATS_", "AGENT_REGISTRY_", "XDG_", "COLUMNS")) and name not in BINARIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", NO_CONTEXTS)


@pytest.fixture
def do(capsys: pytest.CaptureFixture[str]) -> Do:
    """Runs one command in this process."""

    def outcome(*arguments: str) -> Outcome:
        code = run_here(*arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return outcome
