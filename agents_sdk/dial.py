"""Making a nats-py client: the options that matter, a time limit, a clear error."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nats.aio.client import Client, Server
from nats.errors import Error as NatsError

from agents_sdk.cancelling import cancel
from agents_sdk.credentials import Credentials, check_nkey
from agents_sdk.protocol.errors import ForbiddenError, RegistryError, UnavailableError
from agents_sdk.servers import without_password

DEFAULT_INBOX_PREFIX = "_INBOX"

PING_INTERVAL = 5
"""Seconds; with nats-py's own 120 a half-open connection would go unseen for minutes."""

MAX_OUTSTANDING_PINGS = 2

RECONNECT_WAIT = (0.1, 0.5)
"""Seconds before an attempt to reconnect, drawn anew each time: clients must not return as one."""

FIRST_WAIT = (0.0, 0.02)
"""Seconds before the first attempt: where only the connection broke, the agent is back before it is missed."""

PENDING_BYTES = 64 * 1024
"""More than this waits for the socket. nats-py also keeps as much for later while NATS is away."""

FLUSH_TIMEOUT = 10.0
"""Seconds after which nats-py does not wait for the socket any more; its default is to wait for ever."""

ClientCallback = Callable[[Client], None]
ErrorCallback = Callable[[Client, Exception], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Where to connect, and as whom."""

    servers: tuple[str, ...]
    name: str | None = None
    """What `nats server report connections` shows."""
    credentials: Path | None = None
    """NATS credentials file."""
    inbox_prefix: str = DEFAULT_INBOX_PREFIX
    """First tokens of the subjects on which replies arrive."""
    timeout: float = 2.0
    """Seconds after which an attempt at one of the servers has failed."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    nkey: Path | None = None
    """File with the seed of an nkey."""
    tls: ssl.SSLContext | None = None
    tls_first: bool = False
    """Whether the server waits for the TLS handshake before it says anything."""

    def __str__(self) -> str:
        return ", ".join(without_password(url) for url in self.servers)


@dataclass(frozen=True)
class Callbacks:
    """What a client calls when something happens to it."""

    error: ErrorCallback
    disconnected: ClientCallback
    reconnected: ClientCallback
    closed: ClientCallback


async def dial(address: Address, callbacks: Callbacks) -> Client:
    """Ask each server once for a connection; return a connected client, which reconnects without end.

    Raises:
        UnavailableError: If no server is there, or none answers in time.
        ForbiddenError: If a server refuses the user, and no other one takes him.
        FileNotFoundError: If the credentials file is not there.
        ValueError: If a URL is none, or a file holds no login.
    """
    if address.credentials is not None:
        Credentials(address.credentials).check()
    if address.nkey is not None:
        check_nkey(address.nkey)
    client, answers = Client(), _Answers(len(address.servers))
    # With endless reconnects, `connect` tries the first time without end, too.
    connecting = asyncio.create_task(_connect(client, address, callbacks, answers.add))
    try:
        within = len(address.servers) * address.timeout
        await asyncio.wait((connecting, answers.complete), timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            connecting.result()
            return client
    except NatsError as error:
        raise ValueError(f"nats: {address}: {error}") from error
    finally:
        if not connecting.done():
            await cancel(connecting)
            await hang_up(client, address.timeout)
    raise answers.error(address)


class _Answers:
    """What servers said that were asked for a connection.

    Args:
        servers: How many are asked, one after the other.
    """

    def __init__(self, servers: int) -> None:
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when each has said no."""
        self._servers = servers
        self._failures: list[Exception] = []

    def add(self, error: Exception) -> None:
        """Take an answer."""
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            return  # comes beside an answer, when its connection is closed
        self._failures.append(error)
        if len(self._failures) >= self._servers and not self.complete.done():
            self.complete.set_result(None)

    def error(self, address: Address) -> RegistryError:
        """Return what the answers amount to."""
        if any("authorization" in str(each).lower() for each in self._failures):
            return ForbiddenError(f"NATS at {address} refuses this user")
        why = _why(self._failures[-1]) if self._failures else "no answer"
        return UnavailableError(f"cannot reach NATS at {address}: {why}")


def _why(failure: Exception) -> str:
    if isinstance(failure, TimeoutError):
        return "no answer"
    if isinstance(failure, ConnectionRefusedError):
        return "connection refused"  # without the address, which asyncio adds
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror.lower()
    return str(failure) or type(failure).__name__


async def hang_up(client: Client, within: float) -> None:
    """Send what is written and close.

    Args:
        client: A client in any state.
        within: Seconds to take at most for sending; what is not sent by then is dropped.
    """
    try:
        async with asyncio.timeout(within):
            if client.is_connected:
                await client.flush()
    except Exception as error:  # whatever it is: this client is given up
        logger.warning("not all that was written has left for NATS: %r", error)
        cut(client)
    try:
        async with asyncio.timeout(within):
            await client.close()
    except Exception as error:
        logger.warning("the NATS connection did not close cleanly: %r", error)


def place_of(client: Client) -> dict[str, Any] | None:
    """Return by what the server knows a client's connection: its own id, and the connection's number there.

    None when it has not said so: while the client is away, and when the server is none of NATS' own.
    """
    server_id = client._server_info.get("server_id")  # noqa: SLF001
    if not client.is_connected or client.client_id is None or not server_id:
        return None
    return {"server_id": server_id, "client_id": client.client_id}


def has_given_up(client: Client) -> bool:
    """Return whether a client is away and has stopped trying to come back.

    nats-py says so to nobody when its reconnecting ended with an exception that it did not expect.
    """
    reconnecting = client._reconnection_task  # noqa: SLF001
    return not client.is_connected and reconnecting is not None and reconnecting.done()


def is_stuck(client: Client) -> bool:
    """Return whether a client that is away still waits for its old socket to send the rest.

    A server that stands still takes nothing more, and nats-py tries no other one meanwhile.
    """
    writer = _writer(client)
    return not client.is_connected and writer is not None and writer.transport.is_closing()


def cut(client: Client) -> None:
    """Drop what a client has not sent, and its socket."""
    client._pending.clear()  # noqa: SLF001
    client._pending_data_size = 0  # noqa: SLF001
    writer = _writer(client)
    if writer is not None:
        writer.transport.abort()


def _writer(client: Client) -> asyncio.StreamWriter | None:
    """Return what a client writes to; None for one that never had a socket, or speaks over WebSockets."""
    return getattr(client._transport, "_io_writer", None)  # noqa: SLF001


async def _connect(
    client: Client, address: Address, callbacks: Callbacks, on_failure: Callable[[Exception], None]
) -> None:
    opened = False

    async def error_cb(error: Exception) -> None:
        if opened:
            _call(callbacks.error, client, error)
        else:
            on_failure(error)

    options: dict[str, Any] = {
        "servers": list(address.servers),
        "name": address.name,
        "user": address.user,
        "password": address.password,
        "token": address.token,
        "nkeys_seed": None if address.nkey is None else str(address.nkey),
        "tls": address.tls,
        "tls_handshake_first": address.tls_first,
        "inbox_prefix": address.inbox_prefix,
        "connect_timeout": address.timeout,
        "ping_interval": PING_INTERVAL,
        "max_outstanding_pings": MAX_OUTSTANDING_PINGS,
        "pending_size": PENDING_BYTES,
        "flush_timeout": FLUSH_TIMEOUT,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_WAIT[0],
        "reconnect_to_server_handler": _next_server,
        "error_cb": error_cb,
        "disconnected_cb": _as_coroutine(callbacks.disconnected, client),
        "reconnected_cb": _as_coroutine(callbacks.reconnected, client),
        "closed_cb": _as_coroutine(callbacks.closed, client),
    }
    if address.credentials is not None:
        credentials = Credentials(address.credentials)
        options |= {"user_jwt_cb": credentials.token, "signature_cb": credentials.sign}
    await client.connect(**options)
    opened = True


def _as_coroutine(callback: ClientCallback, client: Client) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        _call(callback, client)

    return call


def _call(callback: Callable[..., None], *arguments: object) -> None:
    """Call back; what it raises would end nats-py's reconnecting, or a subscription, for good and without a word."""
    try:
        callback(*arguments)
    except Exception:
        logger.exception("a callback of the NATS client failed")


def _next_server(servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
    """Choose the server to try next and the wait before: tried least, at random among equals."""
    fewest = min(server.reconnects for server in servers)
    least = [server for server in servers if server.reconnects == fewest]
    return random.choice(least), random.uniform(*(RECONNECT_WAIT if fewest else FIRST_WAIT))
