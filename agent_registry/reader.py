"""Who reads what a command that stays says, until it has had enough, as `head` has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Reader:
    """Whoever reads standard output; when nobody does any more, the command is to end in order.

    Args:
        gone: Called then, once.
    """

    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone = gone
        self._error: BaseException | None = None

    def telling(self, tell: Callable[[T], None]) -> Callable[[T], None]:
        """Return a function that tells as `tell` does, and nobody when nobody reads."""

        def told(what: T) -> None:
            if self._error is not None:
                return
            try:
                tell(what)
            except (BrokenPipeError, SystemExit) as error:  # rich says it by ending the process
                self._error = error
                self._gone()

        return told

    def check(self) -> None:
        """Return if somebody reads.

        Raises:
            BrokenPipeError, SystemExit: As it was noticed; the command line ends quietly on either.
        """
        if self._error is not None:
            raise self._error
