"""One conversation with a registry: connect, ask, close; and what a failure means in words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from agent_registry import context as contexts
from agent_registry.failure import CommandError, Exit
from agent_registry.target import Target, serve_command

if TYPE_CHECKING:
    from agents_sdk.client import RegistryClient
    from agents_sdk.connection import Connection
    from agents_sdk.protocol.errors import RegistryError
    from registry.shell.jetstream_nats import CopiesError
    from registry.shell.store import Store

T = TypeVar("T")

NAME = "agent-registry command line"
"""Of the connection, for who looks at NATS."""

CONNECT_TIMEOUT = 3.0
"""Seconds to wait for each NATS server."""

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
async def connected(target: Target, *, lasting: bool = False) -> AsyncIterator[RegistryClient]:
    """Yield a client of the target's registry.

    Args:
        target: Which registry.
        lasting: See `linked`.

    Raises:
        CommandError: If NATS or the registry cannot be reached, or the registry refuses what is asked of it.
    """
    from agents_sdk.client import RegistryClient

    async with linked(target, _start_one(target), lasting=lasting) as connection:
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
    from registry.shell.jetstream_nats import CopiesError, StoreError
    from registry.shell.store import Store

    await reach(target)
    bus = Bus(target.url, NAME, target.options())
    try:
        await bus.connect()
        yield Store(bus, Subjects(target.prefix), replicas)
    except CopiesError as error:
        raise too_many_copies(error) from error
    except (UnreachableError, StoreError) as error:
        raise CommandError(str(error), "is NATS running, with JetStream?", Exit.UNREACHABLE) from error
    finally:
        await bus.close()


def too_many_copies(error: CopiesError) -> CommandError:
    """Return what to say when one server is to keep several copies."""
    return CommandError(
        f"AGENT_REGISTRY_KV_REPLICAS asks for {error.wanted} copies, and this nats-server is in no cluster",
        f"set it to 1 here; {error.wanted} copies need a cluster of {error.wanted} servers or more",
        Exit.USAGE,
    )


async def reach(target: Target) -> None:
    """Return if NATS can be reached and lets this user in.

    Raises:
        CommandError: If not.
    """
    async with linked(target):
        pass


@asynccontextmanager
async def linked(target: Target, hint: str = "", *, lasting: bool = False) -> AsyncIterator[Connection]:
    """Yield a connection to the target's NATS, which knows what NATS does not allow its user.

    Args:
        target: Where to.
        hint: What to say to whom it cannot be reached; a question for the way there when left out.
        lasting: Whether it is for longer than an answer: then what happens to it is logged. Else it is only told what
            comes of it.

    Raises:
        CommandError: If NATS cannot be reached, or refuses the user.
    """
    from agents_sdk.connection import Connection
    from agents_sdk.protocol.errors import ForbiddenError, UnavailableError

    connection = Connection(target.address(NAME, CONNECT_TIMEOUT))
    with nullcontext() if lasting else _silence():
        try:
            await connection.open()
        except UnavailableError as error:
            raise CommandError(error.message, hint or _is_nats_there(target), Exit.UNREACHABLE) from error
        except ForbiddenError as error:
            raise CommandError(error.message, f"give the right {target.login_options}", Exit.UNREACHABLE) from error
        except (OSError, ValueError) as error:  # a login that is none, or cannot be read
            raise CommandError(str(error), code=Exit.USAGE) from error
        try:
            yield connection
        finally:
            await connection.close()


@contextmanager
def _silence() -> Iterator[None]:
    logger = logging.getLogger("agents_sdk")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _is_nats_there(target: Target) -> str:
    if target.url_from in (contexts.SELECTED, contexts.VARIABLE):  # which a person may have forgotten
        return f"is NATS running there? so says {target.url_from}, {target.context.name!r}; --nats URL goes first"
    return "is NATS running there? agent-registry up brings its own"


def _start_one(target: Target) -> str:
    if target.url_from:
        return _is_nats_there(target)
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
            hint = f"is a registry running there? try: {serve_command(target.shown, target.prefix)}"
    elif isinstance(error, NotFoundError):
        hint = "see who is there: agent-registry agents"
    elif isinstance(error, ForbiddenError):
        hint = "give the --creds or --context of somebody who may"
    return CommandError(f"{error.code}: {error.message}", hint, code)
