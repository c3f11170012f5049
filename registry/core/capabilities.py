"""The capability vocabulary: which names a registration and a query may use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from registry.core.errors import RefusedError, invalid

ANY = "*"
"""As an extra name: every well-formed capability is accepted."""


class Vocabulary:
    """The capabilities that a deployment knows.

    Args:
        builtin: The ones that every registry knows.
        extra: The deployment's own; `*` opens the vocabulary.
    """

    def __init__(self, builtin: Iterable[str], extra: Iterable[str] = ()) -> None:
        own = set(extra)
        self.open = ANY in own
        self.builtin = frozenset(builtin)
        self.names = sorted(self.builtin | (own - {ANY}))
        self._known = frozenset(self.names)

    def check(self, capabilities: Iterable[str], field: str = "capabilities") -> None:
        """Refuse names that are not known.

        Args:
            capabilities: The names.
            field: Where they were given.

        Raises:
            RefusedError: `invalid_request`, with the list of known names.
        """
        if not self.open:
            for name in capabilities:
                if name not in self._known:
                    raise self._unknown(name, field)

    def _unknown(self, name: str, field: str) -> RefusedError:
        near = difflib.get_close_matches(name, self.names, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        return invalid(field, f"{name!r} is not known here; {meant}known are {', '.join(self.names)}")
