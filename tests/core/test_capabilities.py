"""The vocabulary: which capabilities may be named."""

from __future__ import annotations

import pytest

from registry.core.capabilities import Vocabulary
from registry.core.errors import RefusedError

BUILTIN = ("trading", "analysis")


def test_known_names_pass():
    """Built-in names and the deployment's own may be used, together and none at all."""
    vocabulary = Vocabulary(BUILTIN, ["weather"])
    vocabulary.check(["analysis", "weather", "trading"])
    vocabulary.check([])
    assert vocabulary.names == ["analysis", "trading", "weather"]
    assert vocabulary.builtin == set(BUILTIN)
    assert not vocabulary.open


def test_unknown_name_is_refused_with_the_known_ones():
    """An unknown capability is refused with the list of the known ones."""
    with pytest.raises(RefusedError) as refused:
        Vocabulary(BUILTIN, ["weather"]).check(["trading", "Trading"])
    assert refused.value.code == "invalid_request"
    known = "known are analysis, trading, weather"
    assert refused.value.message == f"capabilities: 'Trading' is not known here; did you mean 'trading'? {known}"
    assert [field for field, _ in refused.value.details] == ["capabilities"]


def test_what_is_like_no_known_name_is_not_guessed():
    """A name that resembles none gets the list alone."""
    with pytest.raises(RefusedError, match=r"'juggling' is not known here; known are analysis, trading$"):
        Vocabulary(BUILTIN).check(["juggling"])


def test_star_opens_the_vocabulary():
    """With `*` every name is accepted; `*` itself is no capability."""
    vocabulary = Vocabulary(BUILTIN, ["*", "weather"])
    vocabulary.check(["anything"])
    assert vocabulary.open
    assert vocabulary.names == ["analysis", "trading", "weather"]
