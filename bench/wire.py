"""A NATS connection on a plain, blocking socket: it renders frames and counts answers, nothing else."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

INBOX = b"_INBOX.bench"
ANSWER = b"MSG " + INBOX + b" "
"""How an answer begins; one with headers, which errors have, begins with `H` before that."""


class WireError(Exception):
    """The server, or whoever answered, said no."""


class Wire:
    """A connection that hears one inbox."""

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self.socket = socket.create_connection((at.hostname, at.port), timeout=30.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "name": "bench"}
        self.socket.recv(65536)  # INFO
        self.socket.sendall(b"CONNECT %b\r\nSUB %b 1\r\nPING\r\n" % (json.dumps(options).encode(), INBOX))
        heard = b""
        while b"PONG\r\n" not in heard:
            heard += self._recv()
            self._check(heard)
        self._buffer = bytearray(1 << 20)
        self._view = memoryview(self._buffer)
        self._kept = 0
        """Bytes, perhaps the begin of an answer that is cut off, kept at the front of the buffer."""
        self._counted = 0
        """Answers among them that were counted already."""

    def send(self, frames: bytes) -> None:
        self.socket.sendall(frames)

    def answers(self) -> int:
        """Wait for something to come; return how many answers began in it."""
        size = self.socket.recv_into(self._view[self._kept :])
        if not size:
            raise WireError("the server closed the connection")
        heard = bytes(self._view[: self._kept + size])
        count = heard.count(ANSWER) - self._counted
        if b"H" + ANSWER in heard or b"-ERR" in heard:
            raise WireError(f"refused: {_excerpt(heard)}")
        if b"\r\nPING\r\n" in heard or heard.startswith(b"PING\r\n"):
            self.socket.sendall(b"PONG\r\n")
        tail = heard[-len(ANSWER) :]
        self._kept, self._counted = len(tail), tail.count(ANSWER)
        self._view[: len(tail)] = tail
        return count

    def ask(self, subject: str, payload: bytes) -> bytes:
        """Ask once and return the whole answer."""
        self.send(request(subject, payload))
        heard = b""
        while True:
            heard += self._recv()
            self._check(heard)
            start = heard.find(ANSWER)
            end = heard.find(b"\r\n", start)
            if start >= 0 and end >= 0:
                size = int(heard[start:end].rsplit(b" ", 1)[1])
                if len(heard) >= end + size + 4:
                    return heard[end + 2 : end + 2 + size]

    def close(self) -> None:
        self.socket.close()

    def _recv(self) -> bytes:
        heard = self.socket.recv(1 << 16)
        if not heard:
            raise WireError("the server closed the connection")
        return heard

    def _check(self, heard: bytes) -> None:
        if b"-ERR" in heard or b"H" + ANSWER in heard:
            raise WireError(f"refused: {_excerpt(heard)}")


def request(subject: str, payload: bytes) -> bytes:
    return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), INBOX, len(payload), payload)


def message(subject: str, payload: bytes) -> bytes:
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)


def _excerpt(heard: bytes) -> str:
    start = max(0, heard.find(b"H" + ANSWER), heard.find(b"-ERR"))
    return heard[start : start + 400].decode(errors="replace")
