"""On which subjects the registry asks agents how they are.

A probe is an empty message that the registry sends with rights of its own, to a subject that the agent names. Empty is
enough to delete a key of a bucket, to delete a stream, or to deregister somebody.
"""

from __future__ import annotations

import re

_HARMLESS = re.compile(r"[^\s.*>$_][^\s.*>]*(\.[^\s.*>]+)*")
"""What begins with `$` or `_` is the server's, JetStream's or somebody's inbox."""


def may_be_asked(subject: str, prefix: str) -> bool:
    """Return whether a probe may be sent to a subject; `prefix` is that of the registry's own."""
    return _HARMLESS.fullmatch(subject) is not None and not f"{subject}.".startswith(f"{prefix}.")
