"""How many of those who are asked have to give a good answer.

Pure. It is a count and no consensus: who is asked is who the registry lists at that moment.
"""

from __future__ import annotations

import math
from typing import Literal

from agents_sdk.protocol.errors import Detail, InvalidRequestError

Quorum = int | float | Literal["majority", "all"]
"""So many, a share (a float above 0.0, at most 1.0), more than half, or everybody. So `1` is one, and `1.0` is all."""

_WORDS = ("majority", "all")

_ROUNDING = 1e-9
"""What a share may come out too high by: 0.7 of 10 is 7, and not the 8 that 7.000000000000001 would be."""


def check_quorum(quorum: object, n: int | None) -> None:
    """Refuse what is no quorum, and more good answers than agents are asked.

    Args:
        quorum: As in `Quorum`; None for none.
        n: How many are asked, None for all.

    Raises:
        InvalidRequestError: Naming the field.
    """
    if quorum is None or quorum in _WORDS:
        return
    if isinstance(quorum, int) and not isinstance(quorum, bool) and quorum >= 1:
        if n is not None and quorum > n:
            raise _refusal(f"must be at most n, which is {n}; got {quorum}")
        return
    if not (isinstance(quorum, float) and 0.0 < quorum <= 1.0):
        words = 'must be a whole number from 1 on, a share above 0.0 and at most 1.0, "majority" or "all"'
        raise _refusal(f"{words}; got {quorum!r}")


def needed(quorum: Quorum | None, asked: int) -> int:
    """Return how many good answers a quorum is; 0 without one, else at least 1.

    Args:
        quorum: One that was checked.
        asked: How many are to be asked.
    """
    if quorum is None:
        return 0
    if quorum == "majority":
        return asked // 2 + 1
    if quorum == "all":
        return max(1, asked)
    if isinstance(quorum, float):
        return max(1, math.ceil(quorum * asked - _ROUNDING))
    return quorum


def _refusal(message: str) -> InvalidRequestError:
    return InvalidRequestError(f"quorum: {message}", [Detail("quorum", message)])
