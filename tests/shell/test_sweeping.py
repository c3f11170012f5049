"""Which settings of a bucket keep removals from being swept, and what is said about it."""

from __future__ import annotations

import pytest
from nats.js.api import StreamConfig

from registry.shell.sweeping import what_hinders


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"allow_rollup_hdrs": True, "allow_msg_ttl": True}, []),
        ({"allow_rollup_hdrs": True}, ["--allow-msg-ttl"]),
        ({"allow_msg_ttl": True}, ["--allow-rollup"]),
        ({}, ["--allow-rollup", "--allow-msg-ttl"]),
        ({"allow_msg_ttl": True, "deny_purge": True}, ["export"]),
    ],
)
def test_what_hinders(settings: dict[str, bool], words: list[str]) -> None:
    told = what_hinders(StreamConfig(**settings))
    assert len(told) == len(words)
    assert all(word in line for word, line in zip(words, told, strict=True))
