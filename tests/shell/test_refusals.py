"""What replicas tell the leader of whom they refused."""

from __future__ import annotations

import pytest

from registry.core.clash import Clash
from registry.shell.refusals import MAX_MESSAGE, encode_refusal, refusal_in

LONG = Clash("combination", "-" * 64, "a" * 128, None, " and ".join(["x" * 64] * 64))


@pytest.mark.parametrize(
    "clash",
    [
        Clash("claim", "account-7", "b", "a", "'account-7' is held by agent 'a'"),
        Clash("versions", "_one-major", "b", "_a", "rule '_one-major' lets no 1.0 run beside >=2"),
        LONG,
    ],
    ids=["claim", "rule", "the longest"],
)
def test_every_refusal_arrives(clash: Clash):
    assert refusal_in(encode_refusal(clash)) == clash


def test_one_that_says_more_than_a_replica_would_is_none():
    assert refusal_in(encode_refusal(Clash("claim", "x", "b", "a", "x" * (MAX_MESSAGE + 1)))) is None
