"""Where NATS is, by option, context and environment; the contexts are the `nats` CLI's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_registry.context import load
from agent_registry.failure import CommandError, Exit
from agent_registry.target import Target
from agents_sdk.servers import DEFAULT_URL


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the contexts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, name: str, **fields: object) -> None:
    # All the fields that `nats context add` of 0.2 writes, most of them empty.
    empty = dict.fromkeys(
        ("description", "token", "user", "password", "creds", "nkey", "cert", "key", "ca", "nsc", "user_jwt"), ""
    )
    (folder / f"{name}.json").write_text(json.dumps({**empty, "tls_first": False, **fields}))


def refused(name: str) -> CommandError:
    with pytest.raises(CommandError) as found:
        load(name)
    assert found.value.code is Exit.USAGE
    return found.value


def test_a_context_says_where_and_as_whom(contexts: Path) -> None:
    write(contexts, "staging", url="nats://one:4222,nats://two:4222", user="ada", password="secret")
    target = Target.resolve(None, "staging", None, "registry")
    assert target.url == "nats://one:4222,nats://two:4222"
    assert target.options() == {"user": "ada", "password": "secret"}
    assert target.url_with_login() == "nats://ada:secret@one:4222,nats://ada:secret@two:4222"


def test_a_token_is_put_into_the_url_that_a_replica_gets(contexts: Path) -> None:
    write(contexts, "edge", url="127.0.0.1:4222", token="t0ken")
    target = Target.resolve(None, "edge", None, "registry")
    assert target.options() == {"token": "t0ken"}
    assert target.url_with_login() == "nats://t0ken@127.0.0.1:4222"


def test_a_password_that_a_url_cannot_carry_is_refused_for_a_replica(contexts: Path) -> None:
    write(contexts, "odd", url=DEFAULT_URL, user="ada", password="p@ss/word")
    target = Target.resolve(None, "odd", None, "registry")
    with pytest.raises(CommandError, match="cannot carry"):
        target.url_with_login()


def test_the_option_beats_the_context_beats_the_environment_beats_the_default(
    contexts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(contexts, "staging", url="nats://staging:4222")
    assert Target.resolve(None, None, None, "registry").url == DEFAULT_URL
    monkeypatch.setenv("NATS_URL", "nats://environment:4222")
    assert Target.resolve(None, None, None, "registry").url == "nats://environment:4222"
    assert Target.resolve(None, "staging", None, "registry").url == "nats://staging:4222"
    assert Target.resolve("nats://option:4222", "staging", None, "registry").url == "nats://option:4222"


def test_creds_of_the_option_beat_those_of_the_context(contexts: Path, tmp_path: Path) -> None:
    for name in ("one.creds", "two.creds"):
        (tmp_path / name).touch()
    write(contexts, "staging", url=DEFAULT_URL, creds=str(tmp_path / "one.creds"))
    assert Target.resolve(None, "staging", None, "registry").options() == {
        "user_credentials": str(tmp_path / "one.creds")
    }
    chosen = Target.resolve(None, "staging", tmp_path / "two.creds", "registry")
    assert chosen.options() == {"user_credentials": str(tmp_path / "two.creds")}


def test_a_file_that_a_context_names_must_be_there(contexts: Path) -> None:
    write(contexts, "staging", url=DEFAULT_URL, creds="/no/such/file")
    with pytest.raises(CommandError, match="/no/such/file"):
        Target.resolve(None, "staging", None, "registry")


def test_passwords_are_never_shown() -> None:
    target = Target.resolve("nats://ada:secret@one:4222,nats://two:4222", None, None, "registry")
    assert target.shown == "nats://one:4222,nats://two:4222"


def test_an_unknown_context_is_refused_with_the_known_ones(contexts: Path) -> None:
    assert "nats context add" in refused("staging").hint
    write(contexts, "production")
    write(contexts, "edge")
    error = refused("staging")
    assert "'staging'" in error.message
    assert error.hint == "there are: edge, production"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", " "])
def test_a_name_that_is_a_path_is_refused(contexts: Path, name: str) -> None:
    assert "not the name" in refused(name).message


@pytest.mark.parametrize(("content", "said"), [("{", "cannot read"), ("[]", "JSON object")])
def test_a_context_that_is_none_is_refused(contexts: Path, content: str, said: str) -> None:
    (contexts / "broken.json").write_text(content)
    assert said in refused("broken").message


def test_what_is_not_supported_is_refused_rather_than_ignored(contexts: Path) -> None:
    write(contexts, "cloud", url=DEFAULT_URL, nsc="nsc://operator/account/user")
    assert "nsc" in refused("cloud").message
