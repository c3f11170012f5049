"""Standard input, a line at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

logger = logging.getLogger(__name__)


class Incoming:
    """What comes in on standard input, until it ends or nobody wants more of it.

    Read by a thread that nobody waits for: the MCP SDK's own, once it waits for input that does not come, can be ended
    by nothing else, and Python does not end before it.
    """

    def __init__(self) -> None:
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, name="standard input", daemon=True).start()

    def end(self) -> None:
        """Let it end after what has come so far."""
        self._lines.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield each line."""
        while (line := await self._lines.get()) is not None:
            yield line

    def _read(self) -> None:
        with suppress(RuntimeError):  # the loop may have ended before
            try:
                with os.fdopen(0, "rb", closefd=False) as stdin:
                    for line in stdin:
                        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            except OSError as error:
                logger.error("standard input cannot be read: %s", error)  # noqa: TRY400 - the error says it all
            self._loop.call_soon_threadsafe(self.end)
