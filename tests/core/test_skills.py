"""The skills of an agent card, whatever stands there."""

from __future__ import annotations

from typing import Any

import pytest

from agents_sdk.protocol import discovery
from agents_sdk.protocol.discovery import AgentInfo
from registry.core import skills
from registry.core.skills import NONE, skills_in

CARDS: list[tuple[Any, set[str]]] = [
    ({"skills": [{"id": "quote"}, {"id": "book"}, {"id": "quote"}]}, {"quote", "book"}),
    ({"skills": [{"id": 5}, {"name": "x"}, "quote", None, {"id": "book"}]}, {"book"}),
    ({"skills": {"id": "quote"}}, set()),
    ({"skills": "quote"}, set()),
    ({"skills": None}, set()),
    ({}, set()),
    ([{"skills": [{"id": "quote"}]}], set()),
    ("card", set()),
    (None, set()),
]


@pytest.mark.parametrize(("card", "expected"), CARDS, ids=[str(card) for card, _ in CARDS])
def test_what_is_an_id_counts(card: Any, expected: set[str]):
    """Nothing in the bucket can be so wrong that the registry stumbles; and clients read a card the same way."""
    metadata = {"a2a_card": card}
    assert skills_in(metadata) == expected
    assert AgentInfo("a", "worker", set(), metadata=metadata).skills == expected
    assert skills.AGENT_CARD == discovery.AGENT_CARD


def test_agents_without_skills_share_one_empty_set():
    """Most agents have none, and there may be very many of them."""
    assert skills_in({}) is NONE
    assert skills_in({"a2a_card": {"skills": []}}) is NONE
