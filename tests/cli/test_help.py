"""What a person who knows nothing is told; and a wrong command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Do
from tests.cli.running import ROOT, environment, finished

COMMANDS = (
    "up", "serve", "demo", "agents", "discover", "get", "stats", "capabilities", "watch", "doctor",
    "suspend", "resume", "drain", "deregister", "scaling", "export", "import",
)  # fmt: skip


def test_help_names_every_command_and_the_exit_codes(do: Do) -> None:
    code, out, _ = do("--help")
    assert code == 0
    for name in COMMANDS:
        assert f" {name} " in out
    assert "Exit codes: 0 done" in out


@pytest.mark.parametrize("words", [(name,) for name in COMMANDS] + [("scaling", "set")], ids=" ".join)
def test_each_command_explains_itself(do: Do, words: tuple[str, ...]) -> None:
    code, out, _ = do(*words, "--help")
    assert code == 0
    assert "Usage:" in out
    if words[0] not in ("up", "demo"):
        for option in ("--nats", "--context", "--creds", "--prefix"):
            assert option in out


def test_help_waits_for_nothing_heavy() -> None:
    """Nobody waits for nats, pydantic or rich tables to be told what there is."""
    probe = (
        "import sys; from agent_registry.main import run; run(['--help']); "
        "heavy = {'nats', 'pydantic', 'structlog', 'registry'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_the_module_is_the_command() -> None:
    found = finished("--help")
    assert found.returncode == 0
    assert "Usage: agent-registry [OPTIONS] COMMAND" in found.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no-such-command",), "no-such-command"),
        (("get",), "ID"),
        (("discover", "--min-health", "7"), "--min-health"),
        (("discover", "--sort", "beauty"), "--sort"),
        (("discover", "--metadata", "novalue"), "NAME=VALUE"),
        (("agents", "--status", "asleep"), "--status"),
        (("agents", "--prefix", "a..b"), "--prefix"),
        (("agents", "--creds", "/no/such/file"), "/no/such/file"),
        (("doctor", "--system-creds", "/no/such/file"), "/no/such/file"),
        (("doctor", "--system-context", "a/b"), "a/b"),
        (("up", "--port", "70000"), "--port"),
        (("scaling", "set", "trading"), "nothing to set"),
        (("scaling", "--nats", "nats://127.0.0.1:1", "set", "trading", "--min", "1"), "after `set`"),
        (("demo", "--seconds", "1"), "--seconds"),
        (("import",), "FILE"),
        (("import", "/no/such/file"), "cannot read /no/such/file: No such file or directory"),
        (("import", "/"), "cannot read /: Is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line_is_one_clear_line_and_a_hint(do: Do, words: tuple[str, ...], said: str) -> None:
    code, out, err = do(*words)
    assert code == 2
    assert out == ""
    error, *hint = err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert len(hint) <= 1
