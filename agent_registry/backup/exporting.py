"""The export command: the whole state, into a file or a pipe."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from agent_registry import environment
from agent_registry.atomic import replacing
from agent_registry.failure import CommandError, Exit
from agent_registry.options import aimed
from agent_registry.output import screen
from agent_registry.session import stored
from agent_registry.target import Target
from agent_registry.wording import count

if TYPE_CHECKING:
    from agent_registry.backup.cut import Cut

STANDARD_OUTPUT = Path("-")

MAX_TOLD = 20
"""At most this many entries that are left out are named."""


@aimed
def export(
    target: Target,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to, as a whole or not at all; - is standard output.")
    ] = STANDARD_OUTPUT,
) -> None:
    """Save every agent, scaling policy and rule on conflicts as lines of JSON, for import.

    All agents are as of one moment, with the vitals that were saved last.

    NATS is asked, not a registry: none need run.
    """
    from agent_registry.backup import cut
    from agents_sdk.protocol.subjects import Subjects

    environment.settings(prefix=target.prefix)
    subjects = Subjects(target.prefix)
    with _destination(file) as to, tempfile.TemporaryFile() as lines:
        taken = asyncio.run(_take(target, lines))
        lines.seek(0)
        cut.write(taken, subjects, lines, to)
    for key, why in list(taken.left_out.items())[:MAX_TOLD]:
        sys.stderr.write(f"left out: {key}: {why}\n")
    if len(taken.left_out) > MAX_TOLD:
        sys.stderr.write(f"left out: {len(taken.left_out) - MAX_TOLD} more\n")
    if file != STANDARD_OUTPUT:
        settings = f"{count(len(taken.policies), 'scaling policy')} and {count(len(taken.rules), 'rule')}"
        saved = f"{count(len(taken.agents), 'agent')}, {settings}"
        screen().print(f"{saved} as of revision {taken.revision} saved to {file}", markup=False, soft_wrap=True)


async def _take(target: Target, lines: BinaryIO) -> Cut:
    from agent_registry.backup.cut import take
    from agents_sdk.protocol.subjects import Subjects

    subjects = Subjects(target.prefix)
    async with stored(target, replicas=1) as store:
        if not await store.made(subjects.agents_bucket):
            raise CommandError(
                f"there is nothing of a registry with prefix {target.prefix!r} at {target.shown}: "
                f"no bucket {subjects.agents_bucket}",
                "name another one with --nats, --context or --prefix",
            )
        return await take(store, subjects, lines)


@contextmanager
def _destination(file: Path) -> Iterator[BinaryIO]:
    try:
        if file == STANDARD_OUTPUT:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        else:
            with replacing(file) as to:
                yield to
    except OSError as error:
        where = "standard output" if file == STANDARD_OUTPUT else file
        raise CommandError(f"cannot write {where}: {error.strerror}", code=Exit.USAGE) from error
