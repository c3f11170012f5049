"""Settings that cannot be used are refused before anything starts, by the name of their variable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry import AgentRegistry, CommunicationBus
from registry.settings import SettingsError, read


@pytest.fixture(autouse=True)
def _silent_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AGENT_REGISTRY_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KV_REPLICAS", "many", "must be a whole number; got 'many'"),
        ("KV_REPLICAS", "9", "must be at most 5; got '9'"),
        ("LOG_LEVEL", "loud", "must be 'debug', 'info', 'warning' or 'error'; got 'loud'"),
        ("AUTO_SCALING_ENABLED", "perhaps", "must be true or false; got 'perhaps'"),
        ("HEARTBEAT_INTERVAL", "nan", "must be a finite number; got 'nan'"),
        ("PROBE_TIMEOUT", "0", "must be above 0; got '0'"),
        ("PREFIX", "a..b", "'a..b' must be letters, digits, _ and -, in tokens joined by dots"),
        ("CREDENTIALS", "/no/such/file", "there is no file '/no/such/file'"),
        ("CAPABILITIES", "weather,a b", "'a b' must be 1 to 64 characters of a-z, 0-9, _ and -, a letter or digit"),
        ("SCALE_UP", "0.7", "is not a setting; did you mean AGENT_REGISTRY_SCALE_UP_LOAD?"),
        ("JUGGLING", "on", "is not a setting; after AGENT_REGISTRY_ comes PREFIX, CREDENTIALS, "),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"AGENT_REGISTRY_{name}", value)
    with pytest.raises(SettingsError) as refused:
        read()
    assert str(refused.value).startswith(f"AGENT_REGISTRY_{name}: {said}")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MIN_AGENTS_PER_CAPABILITY": "20"},
         "MIN_AGENTS_PER_CAPABILITY: must be at most AGENT_REGISTRY_MAX_AGENTS_PER_CAPABILITY, 10; got 20"),
        ({"SCALE_DOWN_LOAD": "0.9"}, "SCALE_DOWN_LOAD: must be below AGENT_REGISTRY_SCALE_UP_LOAD, 0.8; got 0.9"),
        ({"SCALE_DOWN_LOAD": "0.5", "MIN_AGENTS_PER_CAPABILITY": "1"}, "SCALE_DOWN_LOAD: would oscillate: one of 2"),
    ],
    ids=["fewest above most", "low above high", "oscillates"],
)  # fmt: skip
def test_what_scaling_set_would_refuse_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"AGENT_REGISTRY_{name}", value)
    with pytest.raises(SettingsError) as refused:
        read()
    assert str(refused.value).startswith(f"AGENT_REGISTRY_{said}")


def test_what_is_set_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names of the same prefix that are no settings are let be, and an empty value says nothing."""
    creds = tmp_path / "user.creds"
    creds.touch()
    for name, value in {
        "NATS_SERVER": "/usr/bin/nats-server", "NATS_CLI": "/usr/bin/nats", "CREDENTIALS": str(creds),
        "CAPABILITIES": " Options, *,", "LOG_LEVEL": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AGENT_REGISTRY_{name}", value)
    settings = read(prefix="team-a")
    assert (settings.prefix, settings.credentials, settings.log_level) == ("team-a", creds, "info")
    assert settings.extra_capabilities() == ["options", "*"]


def test_a_registry_in_process_is_as_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_REGISTRY_SCALE_UP", "0.7")
    with pytest.raises(ValueError, match="did you mean AGENT_REGISTRY_SCALE_UP_LOAD"):
        AgentRegistry(CommunicationBus("nats://127.0.0.1:4222"))
