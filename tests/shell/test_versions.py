"""Version specifiers: what they have, and which of them have something in common."""

from __future__ import annotations

import pytest

from registry.core.errors import RefusedError
from registry.shell.versions import check_apart, version_range


@pytest.mark.parametrize(
    ("text", "accepted", "refused"),
    [
        ("<2", ("1.9", "0", "1.9rc1"), ("2", "2.1", "latest")),
        ("==2.*", ("2.0", "2.9.1"), ("1.9", "3")),
    ],
)
def test_what_a_range_has(text: str, accepted: tuple[str, ...], refused: tuple[str, ...]) -> None:
    known = version_range(text)
    assert [version for version in (*accepted, *refused) if known.accepts(version)] == list(accepted)


@pytest.mark.parametrize(
    "texts",
    [
        ("<2", ">=2"),
        ("==1.*", "==2.*", "==3.*"),
        (">=1,<2", ">=2,<3", ">=3"),
        ("~=1.4", ">=2"),
        ("==1.0", "==1.1"),
        ("<1!2", ">=1!2"),
        ("===of-may", "===of-june"),
    ],
)
def test_apart(texts: tuple[str, ...]) -> None:
    check_apart(tuple(map(version_range, texts)), "versions")


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (("<2", "<3"), "versions[1]"),
        (("<2", ">=1.5"), "versions[1]"),
        (("<2", ">=2", ">3"), "versions[2]"),
        (("==1.*", "==1.4"), "versions[1]"),
        (("~=1.4", ">1.6"), "versions[1]"),
        (("!=2", "<3"), "versions[1]"),
        (("!=1.*", ">=1.5"), "versions[1]"),
        ((">1", ">2"), "versions[1]"),
        (("", "<2"), "versions[1]"),
        (("<2", "<2"), "versions[1]"),
    ],
)
def test_overlapping(texts: tuple[str, ...], named: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_apart(tuple(map(version_range, texts)), "versions")
    assert (caught.value.code, caught.value.details[0][0]) == ("invalid_request", named)


def test_what_overlaps_is_shown() -> None:
    with pytest.raises(RefusedError, match=r"must have no version in common with versions\[0\]; '<2' and '>=1.5' both"):
        check_apart((version_range("<2"), version_range(">=1.5")), "versions")
