"""Where NATS is, by option, context and environment; the contexts are the `nats` CLI's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_registry.context import load
from agent_registry.failure import CommandError, Exit
from agent_registry.serving import exports
from agent_registry.target import Target
from agents_sdk.servers import DEFAULT_URL
from tests.cli.conftest import Do


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the contexts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, name: str, **fields: object) -> None:
    # The fields that `nats context add` writes, most of them empty.
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
    address = target.address("test", 1.0)
    assert address.servers == ("nats://one:4222", "nats://two:4222")
    assert (address.user, address.password, address.token, address.tls) == ("ada", "secret", None, None)
    assert target.url_with_login() == "nats://ada:secret@one:4222,nats://ada:secret@two:4222"


def test_a_token_is_put_into_the_url_that_a_replica_gets(contexts: Path) -> None:
    write(contexts, "edge", url="127.0.0.1:4222", token="t0ken")
    target = Target.resolve(None, "edge", None, "registry")
    assert target.address("test", 1.0).token == "t0ken"
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


def test_what_the_environment_names_holds_as_for_the_nats_command(
    contexts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chosen", "named", "option"):
        write(contexts, name, url=f"nats://{name}:4222", user=name, password="secret")
    (contexts.parent / "context.txt").write_text("chosen\n")

    def where(nats: str | None = None, context: str | None = None) -> tuple[str, str]:
        target = Target.resolve(nats, context, None, "registry")
        return target.url.removesuffix(":4222").removeprefix("nats://"), target.context.user

    assert where() == ("chosen", "chosen")
    assert where("nats://n:4222") == ("n", ""), "a password is not for another server"
    assert where(context="option") == ("option", "option")
    monkeypatch.setenv("NATS_CONTEXT", "named")
    assert where() == ("named", "named")
    assert where("nats://n:4222") == ("n", "named")
    assert where(context="option") == ("option", "option")
    monkeypatch.setenv("NATS_URL", "nats://variable:4222")
    assert where() == ("variable", "named")
    assert where(context="option") == ("option", "option")
    monkeypatch.delenv("NATS_CONTEXT")
    assert where() == ("variable", "")
    login = Target.resolve(None, "option", None, "registry", "system-")
    assert (login.url, login.context.user) == ("nats://option:4222", "option")
    monkeypatch.delenv("NATS_URL")
    assert Target.resolve(None, None, None, "registry", "system-").context.user == ""


@pytest.mark.parametrize("variable", [True, False])
def test_a_context_of_the_environment_that_is_not_there_is_an_error(
    contexts: Path, monkeypatch: pytest.MonkeyPatch, do: Do, variable: bool
) -> None:
    """Rather than another registry than the one that was meant."""
    if variable:
        monkeypatch.setenv("NATS_CONTEXT", "gone")
    else:
        (contexts.parent / "context.txt").write_text("gone")
    code, _, err = do("agents")
    assert code == Exit.USAGE
    assert err.startswith(f"error: {'NATS_CONTEXT' if variable else 'the selected nats context'}: no context 'gone'")


def test_who_cannot_be_reached_is_said_to_be_the_selected_one(contexts: Path, do: Do) -> None:
    write(contexts, "edge", url="nats://127.0.0.1:1")
    (contexts.parent / "context.txt").write_text("edge")
    code, _, err = do("agents")
    assert code == Exit.UNREACHABLE
    assert "so says the selected nats context, 'edge'" in err


def test_up_says_where_it_is_when_another_context_is_selected(contexts: Path) -> None:
    assert not any("NATS_URL" in line for line in exports(DEFAULT_URL, "registry"))
    (contexts.parent / "context.txt").write_text("edge")
    assert exports(DEFAULT_URL, "registry")[-1].endswith(f"export NATS_URL={DEFAULT_URL}")


def test_references_to_a_file_and_to_a_variable_are_followed(
    contexts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.creds").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SECRET", "s3cret")
    for creds in (f"file://{tmp_path}/one.creds", "~/one.creds", "$HOME/one.creds"):
        write(contexts, "files", creds=creds)
        assert Target.resolve(None, "files", None, "registry").creds == str(tmp_path / "one.creds")
    write(contexts, "variable", user="ada", password="env://SECRET", token="at:home")
    context = load("variable")
    assert (context.password, context.token) == ("s3cret", "at:home")
    monkeypatch.delenv("SECRET")
    assert "password is in the variable 'SECRET', which is not set" in refused("variable").message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("creds", "op://vault/item/field"),
        ("creds", "data:;base64,eA=="),
        ("nkey", "ENV://SEED"),
        ("token", "nsc://a/b"),
    ],
)
def test_other_references_are_refused(contexts: Path, field: str, value: str) -> None:
    write(contexts, "vault", **{field: value})
    assert f"{field} is a reference to {value.partition(':')[0].lower()}:" in refused("vault").message


def test_tls_first_is_passed_on(contexts: Path) -> None:
    write(contexts, "tls", url=DEFAULT_URL, tls_first=True)
    target = Target.resolve(None, "tls", None, "registry")
    assert target.address("test", 1.0).tls_first is True
    assert target.options()["tls_handshake_first"] is True
    with pytest.raises(CommandError, match="tls_first"):
        target.url_with_login()


def test_creds_of_the_option_beat_those_of_the_context(contexts: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.creds", tmp_path / "two.creds"
    for path in (one, two):
        path.touch()
    write(contexts, "staging", url=DEFAULT_URL, creds=str(one))
    assert Target.resolve(None, "staging", None, "registry").address("test", 1.0).credentials == one
    assert Target.resolve(None, "staging", two, "registry").address("test", 1.0).credentials == two


def test_a_file_that_a_context_names_must_be_there(contexts: Path) -> None:
    write(contexts, "staging", url=DEFAULT_URL, creds="/no/such/file")
    with pytest.raises(CommandError, match="/no/such/file"):
        Target.resolve(None, "staging", None, "registry")


@pytest.mark.parametrize("field", ["ca", "cert"])
def test_a_certificate_that_is_none_is_the_contexts_fault(contexts: Path, tmp_path: Path, field: str) -> None:
    (tmp_path / "none.pem").write_text("nothing of the kind")
    write(contexts, "tls", url=DEFAULT_URL, **{field: str(tmp_path / "none.pem")})
    with pytest.raises(CommandError, match=r"certificates of context 'tls' cannot be used .*none\.pem") as found:
        Target.resolve(None, "tls", None, "registry").address("test", 1.0)
    assert found.value.code is Exit.USAGE


@pytest.mark.parametrize("url", [",", "nats://[::1", "nats:///nowhere", "nats://ada:secret@host:port"])
def test_a_url_that_is_none_is_said_before_anything_is_tried(contexts: Path, monkeypatch, url: str) -> None:
    write(contexts, "odd", url=url)
    monkeypatch.setenv("NATS_URL", url)
    for nats, context in ((url, None), (None, "odd"), (None, None)):
        with pytest.raises(CommandError, match=r"is not the URL of a NATS server|names no server") as found:
            Target.resolve(nats, context, None, "registry")
        assert found.value.code is Exit.USAGE
        assert "secret" not in found.value.message


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


@pytest.mark.parametrize(
    "field", ["nsc", "user_jwt", "user_seed", "socks_proxy", "jetstream_domain", "windows_cert_store", "of_a_newer_cli"]
)
def test_what_is_not_supported_is_refused_rather_than_ignored(contexts: Path, field: str) -> None:
    write(contexts, "cloud", url=DEFAULT_URL, **{field: "something"})
    assert f"context 'cloud' uses {field}, which agent-registry does not support" in refused("cloud").message
