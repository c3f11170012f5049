"""How many good answers a quorum is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents_sdk import InvalidRequestError
from agents_sdk.quorum import check_quorum, needed


@pytest.mark.parametrize(
    ("quorum", "asked", "good"),
    [
        (None, 5, 0),
        (1, 5, 1),
        (3, 5, 3),
        (7, 5, 7),
        ("majority", 0, 1),
        ("majority", 1, 1),
        ("majority", 2, 2),
        ("majority", 5, 3),
        ("majority", 6, 4),
        ("all", 0, 1),
        ("all", 5, 5),
        (1.0, 5, 5),
        (0.5, 5, 3),
        (0.5, 6, 3),
        (0.7, 10, 7),
        (0.01, 5, 1),
        (0.01, 0, 1),
    ],
)
def test_what_it_comes_to(quorum, asked: int, good: int) -> None:
    assert needed(quorum, asked) == good


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_share_that_is_a_whole_number_is_that_number(part: int, asked: int) -> None:
    """However the division comes out in binary."""
    if part <= asked:
        assert needed(part / asked, asked) == part


@pytest.mark.parametrize("quorum", [0, -1, True, 0.0, 1.5, float("nan"), "most", [], {}])
def test_what_is_none_is_refused(quorum: object) -> None:
    with pytest.raises(InvalidRequestError, match="quorum: must be a whole number from 1 on, a share") as refused:
        check_quorum(quorum, None)
    assert [detail.field for detail in refused.value.details] == ["quorum"]


def test_more_than_are_asked_are_refused() -> None:
    check_quorum(3, 3)
    with pytest.raises(InvalidRequestError, match="quorum: must be at most n, which is 3; got 4"):
        check_quorum(4, 3)
