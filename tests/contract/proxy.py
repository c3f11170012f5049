"""Stands between a client and its server, and does on purpose what networks and changes of leader do by chance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Loses = Callable[[str], bool]
"""Whether a message that the client publishes on this subject is lost."""


class Proxy:
    """A way to a server that can be cut, held up, and made to lose single messages."""

    def __init__(self) -> None:
        self.loses: Loses | None = None
        self.lost: list[str] = []
        """Subjects of the messages that were lost."""
        self._port = 0
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> str:
        """Listen; return the URL that leads to `port` by this way."""
        self._target = port
        await self._listen()
        return f"nats://127.0.0.1:{self._port}"

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no longer, and end every connection."""
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """End every connection, and take no new one."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def mend(self) -> None:
        """Undo `cut` and `hold`."""
        self._open.set()
        if not self._server.is_serving():
            await self._listen()

    def hold(self) -> None:
        """Keep what the client sends from now on; it arrives, in order, after `mend`, even if the client is gone."""
        self._open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        for way in (self._up(reader, server_writer), self._down(server_reader, writer)):
            task = asyncio.ensure_future(way)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one protocol message after the other, so that single ones can be lost."""
        try:
            while line := await reader.readuntil(b"\r\n"):
                words = line.split()
                frame = line
                if words and words[0] in (b"PUB", b"HPUB"):
                    frame += await reader.readexactly(int(words[-1]) + 2)
                    subject = words[1].decode()
                    if self.loses is not None and self.loses(subject):
                        self.lost.append(subject)
                        continue
                await self._open.wait()
                writer.write(frame)
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()


def once(subject: str) -> Loses:
    """Lose the first message on a subject."""
    left = [subject]

    def loses(seen: str) -> bool:
        if seen in left:
            left.remove(seen)
            return True
        return False

    return loses
