"""One conversation with a registry: connect, ask, close; and what a failure means in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from agent_registry.failure import CommandError, Exit

if TYPE_CHECKING:
    from nats.aio.client import Client

    from agent_registry.target import Target
    from agents_sdk.client import RegistryClient
    from agents_sdk.connection import Connection
    from agents_sdk.denials import Denials
    from agents_sdk.protocol.errors import RegistryError
    from registry.shell.store_nats import Store

T = TypeVar("T")

NAME = "agent-registry command line"
"""Of the connection, for who looks at NATS."""
IS_NATS_THERE = "is NATS running there? agent-registry up brings its own"

CONNECT_TIMEOUT = 3.0
"""Seconds to wait for NATS."""

REPLY_TIMEOUT = 3.0
"""Seconds to wait for the registry; long enough for a restart, short enough for a person."""


def ask(target: Target, question: Callable[[RegistryClient], Awaitable[T]]) -> T:
    """Connect, ask one question, close, and return the answer.

    Args:
        target: Which registry.
        question: What to do with the client.

    Raises:
        CommandError: If NATS or the registry cannot be reached, or the registry refuses.
    """

    async def conversation() -> T:
        async with connected(target) as registry:
            return await question(registry)

    return asyncio.run(conversation())


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[RegistryClient]:
    """Yield a client of the target's registry.

    Raises:
        CommandError: If NATS or the registry cannot be reached, or the registry refuses what is asked of it.
    """
    from agents_sdk.client import RegistryClient

    async with linked(target, _start_one(target)) as connection:
        with _translated(target):
            async with RegistryClient(connection, prefix=target.prefix, timeout=REPLY_TIMEOUT) as registry:
                yield registry


@asynccontextmanager
async def stored(target: Target, replicas: int) -> AsyncIterator[Store]:
    """Yield what the target's registry keeps in JetStream, whether or not one runs.

    Args:
        target: Which registry.
        replicas: Copies that JetStream is to keep, should buckets be made.

    Raises:
        CommandError: If NATS cannot be reached, or JetStream does not do what is asked of it.
    """
    from agents_sdk.protocol.subjects import Subjects
    from registry.shell.bus_nats import Bus, UnreachableError
    from registry.shell.store_nats import Store, StoreError

    await reach(target)
    bus = Bus(target.url, NAME, target.options())
    try:
        await bus.connect()
        yield Store(bus, Subjects(target.prefix), replicas)
    except (UnreachableError, StoreError) as error:
        raise CommandError(str(error), "is NATS running, with JetStream?", Exit.UNREACHABLE) from error
    finally:
        await bus.close()


async def reach(target: Target) -> None:
    """Return if NATS can be reached and lets this user in.

    Raises:
        CommandError: If not.
    """
    async with linked(target):
        pass


@asynccontextmanager
async def linked(target: Target, hint: str = IS_NATS_THERE) -> AsyncIterator[Connection]:
    """Yield a connection to the target's NATS, which knows what NATS does not allow its user.

    Args:
        target: Where to.
        hint: What to say to whom it cannot be reached.

    Raises:
        CommandError: If NATS cannot be reached, or refuses the user.
    """
    from agents_sdk.connection import Connection
    from agents_sdk.denials import Denials

    denials = Denials()
    client = await _connect(target, hint, denials)
    connection = Connection(client)
    connection.denials = denials
    try:
        await connection.open()
        yield connection
    finally:
        await connection.close()
        await client.close()


async def _connect(target: Target, hint: str, denials: Denials) -> Client:
    from nats.aio.client import Client
    from nats.errors import Error as NatsError

    client = Client()
    servers = target.url.split(",")
    failures: list[Exception] = []
    failed = asyncio.Event()

    async def on_error(error: Exception) -> None:
        failures.append(error)
        denials.read(error)
        # Each server has said no; nats-py itself would go on without end. A connection that broke says nothing yet.
        if sum(map(_is_final, failures)) >= len(servers):
            failed.set()

    connecting = asyncio.ensure_future(
        client.connect(
            servers,
            name=NAME,
            error_cb=on_error,
            connect_timeout=int(CONNECT_TIMEOUT),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=5,
            **target.options(),
        )
    )
    waiting = asyncio.ensure_future(failed.wait())
    try:
        await asyncio.wait({connecting, waiting}, timeout=CONNECT_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            await connecting
            return client
    except (NatsError, OSError, ValueError) as error:
        raise CommandError(f"cannot reach NATS at {target.shown}: {error}", code=Exit.UNREACHABLE) from error
    finally:
        for task in (waiting, connecting):
            if not task.done():
                task.cancel()
        await asyncio.gather(waiting, connecting, return_exceptions=True)
    await client.close()
    why = _why(failures[-1]) if failures else "no answer"
    if any(map(_is_refusal, failures)):
        raise CommandError(
            f"NATS at {target.shown} refuses this user", "give the right --creds or --context", Exit.UNREACHABLE
        )
    raise CommandError(f"cannot reach NATS at {target.shown}: {why}", hint, Exit.UNREACHABLE)


def _is_final(error: Exception) -> bool:
    return isinstance(error, ConnectionRefusedError) or _is_refusal(error)


def _is_refusal(error: Exception) -> bool:
    return "authorization" in str(error).lower()  # nats-py has one class for whatever a server says


def _why(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _start_one(target: Target) -> str:
    if target.url_from:
        return IS_NATS_THERE
    return "is the registry running? try: agent-registry up; or say where NATS is with --nats URL"


@contextmanager
def _translated(target: Target) -> Iterator[None]:
    from agents_sdk.protocol.errors import RegistryError

    try:
        yield
    except RegistryError as error:
        raise _in_words(error, target) from error


def _in_words(error: RegistryError, target: Target) -> CommandError:
    from nats.errors import NoRespondersError

    from agents_sdk.protocol.errors import ForbiddenError, NotFoundError, UnavailableError

    hint, code = "", Exit.REFUSED
    if isinstance(error, UnavailableError):
        code = Exit.UNREACHABLE
        if isinstance(error.__cause__, NoRespondersError | TimeoutError):  # else somebody did answer
            hint = f"is a registry running there? try: agent-registry serve --nats {target.shown}"
    elif isinstance(error, NotFoundError):
        hint = "see who is there: agent-registry agents"
    elif isinstance(error, ForbiddenError):
        hint = "give the --creds or --context of somebody who may"
    return CommandError(f"{error.code}: {error.message}", hint, code)
