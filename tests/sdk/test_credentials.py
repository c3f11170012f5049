"""What a credentials file must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents_sdk import Agent
from agents_sdk.credentials import Credentials, CredentialsError
from tests.login import Login


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_login_of_a_user_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.creds", Login().credentials.replace("\n", "\r\n"))
    Credentials(path).check()
    token = Credentials(path).token()
    assert token.count(b".") == 2
    assert token in path.read_bytes()


@pytest.mark.parametrize(
    ("begin", "end", "missing"),
    [("-----BEGIN NATS", "-----BEGIN USER", "seed"), ("-----BEGIN USER", "", "token"), ("", "-----BEGIN", "token")],
    ids=["token alone", "seed alone", "nothing"],
)
def test_half_a_login_is_none(tmp_path: Path, begin: str, end: str, missing: str) -> None:
    """nats-py never comes back from a seed alone."""
    text = Login().credentials
    half = text[text.index(begin) : text.index(end) if end else None]
    with pytest.raises(CredentialsError, match=f"a.creds' is no credentials file of a NATS user: it has no {missing}"):
        Credentials(written(tmp_path / "a.creds", half)).check()


def test_a_seed_that_is_none_is_refused(tmp_path: Path) -> None:
    login = Login().credentials
    seed = login.splitlines()[5]
    with pytest.raises(CredentialsError, match="its seed is none"):
        Credentials(written(tmp_path / "a.creds", login.replace(seed, seed[:-9]))).check()


async def test_an_agent_that_is_given_a_bad_file_says_so_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "a.creds", "nothing of the kind")
    with pytest.raises(ValueError, match="no credentials file"):
        await Agent("t", ["trading"], nats="nats://127.0.0.1:1", credentials=path).start()
