"""The doctor command."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_registry import environment
from agent_registry.failure import CommandError, Exit
from agent_registry.options import AsJson, aimed
from agent_registry.output import emit, print_table
from agent_registry.session import linked
from agent_registry.target import Target

if TYPE_CHECKING:
    from agent_registry.doctor.facts import Facts
    from agents_sdk.connection import Connection

LIMIT = 20.0
"""Seconds that looking takes at most; two or three are usual."""

SystemContext = Annotated[
    str | None,
    typer.Option(
        "--system-context",
        metavar="NAME",
        help="Context of the nats CLI that logs in to the system account; shows when writes are on disk.",
        show_default=False,
    ),
]
SystemCreds = Annotated[
    Path | None,
    typer.Option(
        "--system-creds",
        metavar="FILE",
        help="The same, by a credentials file.",
        show_default=False,
    ),
]


@aimed
def doctor(
    target: Target,
    *,
    system_context: SystemContext = None,
    system_creds: SystemCreds = None,
    as_json: AsJson = False,
) -> None:
    """Say what an acknowledgement is worth here, what which accident would lose, and what to change.

    Changes nothing. Ends with 0 when every promise of README holds, as far as can be seen; notes do not count.
    """
    system = None
    if system_context or system_creds:
        given = Target.resolve(None, system_context, system_creds, target.prefix, "system-")
        system = replace(given, url=target.shown)  # the same servers, without the other user's password
    facts = asyncio.run(_look(target, system))
    from agent_registry.doctor.diagnosis import diagnose
    from agent_registry.doctor.report import document, report

    diagnosis = diagnose(facts)
    if as_json:
        emit(document(facts, diagnosis))
    else:
        print_table(lambda width: report(facts, diagnosis, width))
    if not diagnosis.holds:
        raise typer.Exit(Exit.BROKEN)


async def _look(target: Target, system: Target | None) -> Facts:
    """Return what can be seen.

    Raises:
        CommandError: If NATS cannot be reached, or does not answer any more.
    """
    from agents_sdk.protocol.errors import UnavailableError

    try:
        async with asyncio.timeout(LIMIT):
            async with linked(target) as connection:
                if system is None:
                    return await _survey(target, connection, None)
                async with linked(system) as of_system:
                    return await _survey(target, connection, of_system)
    except (TimeoutError, UnavailableError) as error:
        message = f"NATS at {target.shown} does not answer any more: {str(error) or f'nothing within {LIMIT:g} s'}"
        raise CommandError(message, code=Exit.UNREACHABLE) from error


async def _survey(target: Target, connection: Connection, system: Connection | None) -> Facts:
    from agent_registry.doctor.inquiry import Inquiry
    from agent_registry.doctor.survey import survey
    from agents_sdk.protocol.subjects import Subjects

    settings = environment.settings()
    # The default says nothing of the registries, which may run with settings of their own.
    wanted_copies = settings.kv_replicas if "kv_replicas" in settings.model_fields_set else None
    of_system = None if system is None else Inquiry(system)
    return await survey(target.shown, Subjects(target.prefix), Inquiry(connection), of_system, wanted_copies)
