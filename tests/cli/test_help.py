"""What a person who knows nothing is told; and a wrong command line."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.cli.conftest import Do
from tests.cli.running import ROOT, environment, finished

COMMANDS = (
    "up", "serve", "orchestrate", "mcp", "demo", "agents", "discover", "get", "assignments", "stats", "capabilities",
    "schema", "watch", "doctor", "suspend", "resume", "drain", "deregister", "release", "conflicts", "scaling",
    "export", "import",
)  # fmt: skip

ALL = [*((name,) for name in COMMANDS), ("conflicts", "set"), ("scaling", "set")]


def test_help_names_every_command_and_the_exit_codes(do: Do) -> None:
    code, out, _ = do("--help")
    assert code == 0
    for name in COMMANDS:
        assert f" {name} " in out
    assert "Exit codes: 0 done" in out


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_each_command_explains_itself(do: Do, words: tuple[str, ...]) -> None:
    code, out, _ = do(*words, "--help")
    assert code == 0
    assert "Usage:" in out
    if words[0] == "schema":
        assert "--prefix" in out
    elif words[0] not in ("up", "demo"):
        for option in ("--nats", "--context", "--creds", "--prefix"):
            assert option in out


def test_without_a_command_there_is_the_help_and_nothing_else(do: Do) -> None:
    code, out, err = do()
    assert (code, err) == (2, "")
    assert "Usage: agent-registry [OPTIONS] COMMAND" in out


def test_it_knows_its_version(do: Do) -> None:
    assert do("--version") == (0, f"agent-registry {version('agent-registry')}\n", "")


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_speaks_of_what_is_written_not_of_types(do: Do, words: tuple[str, ...]) -> None:
    """But for typer's own `--help <bool>`, and the type of an argument, which it takes no other word for."""
    _, out, _ = do(*words, "--help")
    options = [line for line in out.splitlines() if "--" in line and "--help" not in line]
    assert [line for line in options if re.search(r"<[a-z]", line)] == []


def test_help_waits_for_nothing_heavy() -> None:
    """Nobody waits for nats, pydantic or rich tables to be told what there is."""
    probe = (
        "import sys; from agent_registry.main import run; run(['--help']); "
        "heavy = {'nats', 'pydantic', 'structlog', 'registry', 'mcp', 'a2a'} & set(sys.modules); "
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
        (("discover", "--min-health", "7"), "'--min-health': must be at most 1; got '7'"),
        (("discover", "--limit", "many"), "'--limit': must be a whole number; got 'many'"),
        (("discover", "--sort", "beauty"), "'--sort': 'beauty' is not one of 'performance', "),
        (("discover", "--metadata", "novalue"), "NAME=VALUE"),
        (("agents", "--status", "asleep"), "'--status': 'asleep' is not one of 'registering', "),
        (("agents", "--prefix", "a..b"), "--prefix"),
        (("agents", "--creds", "/no/such/file"), "/no/such/file"),
        (("doctor", "--system-creds", "/no/such/file"), "/no/such/file"),
        (("doctor", "--system-context", "a/b"), "a/b"),
        (("up", "--port", "70000"), "--port"),
        (("scaling", "set", "trading"), "nothing to set"),
        (("scaling", "--nats", "nats://127.0.0.1:1", "set", "trading", "--min", "1"), "after `set`"),
        (("demo", "--seconds", "1"), "--seconds"),
        (("schema", "Registraton"), "did you mean 'Registration'?"),
        (("schema", "a b"), "MESSAGE"),
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
    assert not [word for word in ("Input", "Value error", "should be", "valid integer") if word in error]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("no-such-command",), "agent-registry"),
        (("get",), "agent-registry get"),
        (("agents", "--jsn"), "agent-registry agents"),
        (("discover", "--limit", "0"), "agent-registry discover"),
        (("discover", "--metadata", "novalue"), "agent-registry discover"),
        (("scaling", "set", "trading", "--min", "few"), "agent-registry scaling set"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_hint_leads_to_the_help_of_the_command(do: Do, words: tuple[str, ...], command: str) -> None:
    assert do(*words).err.splitlines()[1] == f"hint: see: {command} --help"
