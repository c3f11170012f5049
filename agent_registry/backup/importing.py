"""The import command: a backup, checked as a whole and then put back."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from agent_registry import environment
from agent_registry.failure import CommandError, Exit
from agent_registry.options import AsJson, aimed
from agent_registry.output import emit, screen
from agent_registry.session import stored
from agent_registry.target import Target
from agent_registry.wording import count

if TYPE_CHECKING:
    from agent_registry.backup.account import Account
    from agent_registry.backup.form import Header

STANDARD_INPUT = Path("-")


@aimed
def import_(
    target: Target,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What export wrote; - is standard input.", show_default=False)
    ],
    *,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", metavar="", help="Replace what is there; agents that run go on as who they are."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put back what export saved; what is there is left alone.

    The whole file is checked before anything is written. Interrupted and run again, it does the rest.

    Registries may run or not. Each agent that is put back is an event with the reason restored.
    """
    from agent_registry.backup.account import Account

    settings = environment.settings(prefix=target.prefix)
    with _opened(file) as stream:
        contents = _check(file, stream)
        account = Account(target.prefix, dry_run, quiet=as_json)
        stream.seek(0)
        asyncio.run(_import(target, stream, contents, account, overwrite, settings.kv_replicas))
    if as_json:
        emit(account.document())
    else:
        console = screen()
        for line in account.summary(contents.header):
            console.print(line, markup=False, soft_wrap=True)
    if account.refused:
        raise CommandError(
            f"not put back: {count(account.refused, 'agent')}, because another one holds a claim of theirs",
            "with --dry-run it says which; deregister the other one, and import again",
        )


@dataclass(frozen=True)
class _Contents:
    """What a backup that was checked has in it, but for the records."""

    header: Header
    claims: set[str]


def _check(file: Path, stream: BinaryIO) -> _Contents:
    """Read the whole backup.

    Raises:
        CommandError: If it is wrong.
    """
    from agent_registry.backup.contents import read
    from agent_registry.backup.form import BackupError, SavedAgent

    claims = set[str]()
    try:
        header, entries = read(stream)
        for saved in entries:
            if isinstance(saved, SavedAgent) and saved.record is not None:
                claims.update(saved.record.claims)
    except BackupError as error:
        raise CommandError(f"{_name(file)}, {error}", "nothing was written", Exit.USAGE) from error
    return _Contents(header, claims)


async def _import(
    target: Target, stream: BinaryIO, contents: _Contents, account: Account, overwrite: bool, replicas: int
) -> None:
    from agent_registry.backup.contents import read
    from agent_registry.backup.form import BackupError
    from agent_registry.backup.restorer import Restorer, holders
    from agents_sdk.protocol.subjects import Subjects
    from registry.shell.jetstream_nats import StoreError

    subjects = Subjects(target.prefix)
    async with stored(target, replicas) as store:
        opened = [] if account.dry_run else await store.open()
        buckets = (subjects.agents_bucket, subjects.control_bucket)
        there = {bucket: bool(await store.made(bucket)) for bucket in buckets}
        account.new_buckets = [bucket for bucket in buckets if bucket in opened or not there[bucket]]
        restorer = Restorer(
            store,
            f"import-{secrets.token_hex(4)}",
            await holders(store, contents.claims) if contents.claims else {},
            overwrite=overwrite,
            dry_run=account.dry_run,
            has_agents=there[subjects.agents_bucket],
            has_settings=there[subjects.control_bucket],
        )
        try:
            _, entries = read(stream)  # again, for they were not kept; that they are right is known
            await restorer.run(entries, account.note)
        except (StoreError, BackupError) as error:
            total = contents.header.agents + contents.header.policies + contents.header.rules
            what = f"the backup has changed meanwhile, {error}" if isinstance(error, BackupError) else str(error)
            raise CommandError(
                f"{what}; {account.total} of {total} entries were done",
                "import it again when all is well: what has been put back is left alone",
                Exit.USAGE if isinstance(error, BackupError) else Exit.UNREACHABLE,
            ) from error


def _opened(file: Path) -> BinaryIO:
    """Return the backup as a file that can be read twice.

    Raises:
        CommandError: If it cannot be read.
    """
    try:
        stream = sys.stdin.buffer if file == STANDARD_INPUT else file.open("rb")
        if file != STANDARD_INPUT and stream.seekable():
            return stream
        with stream:
            copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's to close
            shutil.copyfileobj(stream, copy)
    except OSError as error:
        raise CommandError(f"cannot read {_name(file)}: {error.strerror}", code=Exit.USAGE) from error
    copy.seek(0)
    return copy


def _name(file: Path) -> str:
    return "standard input" if file == STANDARD_INPUT else str(file)
