"""How far a log has been applied, for whoever waits for a revision."""

from __future__ import annotations

import asyncio


class Progress:
    """Everything up to `revision` is applied."""

    def __init__(self) -> None:
        self.revision = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def advance(self, revision: int) -> None:
        """Take note that everything up to a revision is applied."""
        self.revision = max(self.revision, revision)
        for wanted, future in self._waiting:
            if wanted <= self.revision and not future.done():
                future.set_result(None)

    def begin_anew(self) -> None:
        """Nothing is applied: the log is another one."""
        self.revision = 0

    async def reached(self, revision: int, within: float) -> bool:
        """Wait until a revision is applied; return whether it came within so many seconds."""
        if revision <= self.revision:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, future))
        try:
            await asyncio.wait_for(future, within)
        except TimeoutError:
            return False
        finally:
            self._waiting = [entry for entry in self._waiting if entry[1] is not future]
        return True
