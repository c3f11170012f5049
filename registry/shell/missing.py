"""A bucket or stream that is not there any more: waited for, and then made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.shell.clock import uptime
from registry.shell.logs import get_logger
from registry.shell.trouble import Trouble

if TYPE_CHECKING:
    from registry.shell.store import Store

log = get_logger(__name__)

PATIENCE = 10.0
"""Seconds from when something is first missed until it is made anew: whoever removed it may put it back before."""


class Missing:
    """How long one bucket or stream has been missing.

    Args:
        store: Makes it anew.
        name: Its name.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._trouble = Trouble(log)
        self._store = store
        self._name = name
        self._since: float | None = None

    async def missed(self) -> None:
        """Take note that it is not there. Once that has been so at every look for long enough, it is made, empty.

        Raises:
            StoreError: If it cannot be made anew now.
        """
        now = uptime()
        if self._since is None:
            self._since = now
        self._trouble.warning("missing", name=self._name, made_anew_after=PATIENCE)
        if now - self._since >= PATIENCE:
            await self._store.make(self._name)
            log.warning("made_anew", name=self._name)

    def unknown(self) -> None:
        """Take note that it cannot be told whether it is there: patience begins anew with the next answer."""
        self._since = None

    def found(self) -> None:
        """Take note that it is there."""
        self._since = None
        self._trouble.over("missing")
