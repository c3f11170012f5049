"""Asking the registry: the one place where a request is repeated."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from nats.errors import NoRespondersError

from agents_sdk.connection import Connection
from agents_sdk.protocol.codec import check_finite, decode_reply, encode
from agents_sdk.protocol.discovery import REVISION_WAIT
from agents_sdk.protocol.errors import (
    Detail,
    ForbiddenError,
    InvalidRequestError,
    RegistryError,
    UnavailableError,
)
from agents_sdk.protocol.fields import AGENT_ID_PATTERN, MAX_TEXT
from agents_sdk.protocol.statistics import Presence
from agents_sdk.protocol.subjects import (
    AGENT_BOUND,
    ASSIGN,
    COMMANDS,
    CONFLICT_SET,
    MESSAGE_ID,
    RELEASE,
    REPLICAS,
    REPORT,
    SCALING_SET,
    SHARED,
    TELEMETRY,
    Subjects,
)
from agents_sdk.retry import Backoff
from agents_sdk.tracing import outgoing_headers

ATTEMPTS_ON_SILENCE = 2
"""How many times a request that may be lost is sent within its time."""

ON_ITS_WAY = 0.25
"""Seconds that an answer is given beyond those for which the registry may hold it back."""

MAX_PATIENCE = 0.75
"""Share of its time that one attempt may take: a replica that stands still must leave time for another one."""

ROLL_CALL = 0.5
"""Seconds to wait for any replica to say that it is there."""

REGISTER_TIMEOUT = 10.0
"""Seconds that registering takes at most: the present holder of the id may have to be probed, and the record written by
a JetStream that is choosing its leader."""

ASK_AGAIN = 3.5
"""Seconds after which a registry that may still wait for an agent to be free is asked whether it is still there."""

CHANGES = frozenset((*COMMANDS, *TELEMETRY, SCALING_SET, CONFLICT_SET, ASSIGN, RELEASE))

_AGENT_ID = re.compile(AGENT_ID_PATTERN)

Failure = NoRespondersError | TimeoutError | RegistryError

logger = logging.getLogger(__name__)


class Requester:
    """Sends requests to one registry and raises its errors.

    When nobody listens, or the registry says that trying again may help, the request is repeated
    after a jittered wait until its time is over. Silence is another matter: the registry may have
    done what it was asked, so only what can be asked twice without harm is repeated. Commands can:
    their message id makes one of them. And the replica that NATS chose may stand still, so the
    second time a replica is asked that has just said that it is there. When the connection is lost,
    the answer is: what can be asked twice is not waited for any longer.

    What is raised in the end is what was heard last. Silence after an answer is no news of a query.

    Args:
        connection: The way to NATS.
        subjects: Subjects of the registry.
        timeout: Seconds that a request takes at most, unless it says otherwise.
    """

    def __init__(self, connection: Connection, subjects: Subjects, timeout: float) -> None:
        self.subjects = subjects
        self._connection = connection
        self._timeout = timeout

    async def ask(
        self,
        operation: str,
        fields: Mapping[str, Any],
        *,
        idempotent: bool = True,
        within: float | None = None,
        repeat: bool = True,
        wait: float = 0.0,
    ) -> dict[str, Any]:
        """Return the registry's answer.

        Args:
            operation: A name from `agents_sdk.protocol.subjects`.
            fields: The request.
            idempotent: Whether asking twice is the same as asking once.
            within: Seconds that this takes at most, repetitions included.
            repeat: Whether to try again at all; not for who has a plan of its own for that.
            wait: Seconds, beyond those, for which the registry may wait for an agent to be free. Each request has what
                is left of them as its field `wait`; that nobody was free in that time is not asked again.

        Raises:
            RegistryError: What the registry answered; `UnavailableError` if it did not in time.
        """
        subject = self._subject(operation, fields)
        payload, headers = encode_fields(fields), _headers(operation)
        backoff = Backoff()
        total = wait + (self._timeout if within is None else within)
        deadline, until = time.monotonic() + total, time.monotonic() + wait
        again = idempotent and repeat
        patience = _patience(fields, total, ASK_AGAIN if wait else total) if again else total
        failure: Failure | None = None
        while True:
            remaining = deadline - time.monotonic()
            outcome = await self._attempt(subject, payload, headers, min(patience, remaining), again)
            if isinstance(outcome, dict):
                return outcome
            silent = isinstance(outcome, TimeoutError)
            if not (silent and isinstance(failure, RegistryError)) or operation in CHANGES:
                failure = outcome
            pause = 0.0 if silent else backoff.next()
            is_over = deadline - time.monotonic() <= pause
            if is_over or not repeat or (silent and not idempotent):
                if isinstance(failure, UnavailableError):
                    raise failure
                raise _gave_up(failure, operation, total) from failure
            await asyncio.sleep(pause)
            replica = None
            if silent and operation in SHARED:
                replica = await self._who_answers(min(ROLL_CALL, (deadline - time.monotonic()) / 2))
            subject = self._subject(operation, fields, replica)
            if wait:
                payload = encode_fields({**fields, "wait": max(0.0, until - time.monotonic())})

    async def hint(self, agent_id: str, problem: str) -> None:
        """Report a problem with an agent and wait for nothing: a hint that is lost is no harm."""
        with contextlib.suppress(UnavailableError):  # who was asking is told so himself
            subject = self.subjects.operation(REPORT, agent_id)
            await self._connection.publish(subject, encode({"problem": problem[:MAX_TEXT]}))

    async def withdraw(self, task_id: str) -> None:
        """Say that a task needs no agent any more, and wait for nothing: what is lost ends by itself."""
        with contextlib.suppress(UnavailableError):
            await self._connection.publish(self.subjects.operation(RELEASE), encode({"task_id": task_id}))

    async def _attempt(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, within: float, again: bool
    ) -> dict[str, Any] | Failure:
        """Ask once; return the answer, or a failure after which asking again may help.

        With `again`, whoever asks will: a lost connection ends the waiting.
        """
        try:
            async with asyncio.timeout(None) as patience:

                def changed(connected: bool) -> None:
                    if again and not connected:
                        self._connection.unlisten(changed)  # once: what has expired cannot be rescheduled
                        patience.reschedule(0.0)

                self._connection.listen(changed)
                try:
                    reply = await self._connection.request(subject, payload, within, headers)
                finally:
                    self._connection.unlisten(changed)
            return decode_reply(reply.data)
        except (NoRespondersError, TimeoutError) as failure:
            return failure
        except RegistryError as error:
            if error.retryable and not is_final(error):
                return error
            raise

    async def _who_answers(self, within: float) -> str | None:
        """Return a replica that is there now; None if none says so."""
        try:
            reply = await self._connection.request(self.subjects.operation(REPLICAS), b"", within)
            return Presence.model_validate(decode_reply(reply.data)).replica
        except (NoRespondersError, TimeoutError, ForbiddenError, UnavailableError) as failure:
            logger.debug("no replica says that it is there: %r", failure)
            return None

    def _subject(self, operation: str, fields: Mapping[str, Any], replica: str | None = None) -> str:
        agent_id = fields.get("agent_id")
        # An ill-formed id cannot be part of a subject; the plain form carries it to the registry,
        # which says what is wrong with it.
        if operation in AGENT_BOUND and isinstance(agent_id, str) and _AGENT_ID.fullmatch(agent_id):
            return self.subjects.operation(operation, agent_id, replica)
        return self.subjects.operation(operation, None, replica)


def _headers(operation: str) -> dict[str, str] | None:
    headers = outgoing_headers()
    if operation in COMMANDS:
        headers = {**(headers or {}), MESSAGE_ID: secrets.token_hex(8)}
    return headers


def encode_fields(fields: Mapping[str, Any]) -> bytes:
    """Return a request as JSON; what is a set becomes a sorted array.

    Raises:
        InvalidRequestError: If JSON has no form for something in it.
    """
    try:
        payload = encode(
            {name: sorted(value) if isinstance(value, set | frozenset) else value for name, value in fields.items()}
        )
    except TypeError as error:
        message = f"must be JSON: {error}"
        raise InvalidRequestError(f"payload: {message}", [Detail("payload", message)]) from error
    # JSON has no form for NaN and infinity: `null` is written in their place, which means that nothing was given.
    if b"null" in payload:
        check_finite(fields)
    return payload


def is_final(error: RegistryError) -> bool:
    """Return whether a registry has looked for an agent for as long as it was to: then it names the field."""
    return any(detail.field == "wait" for detail in error.details)


def _patience(fields: Mapping[str, Any], total: float, most: float) -> float:
    """Return how many seconds of its time a request spends on one attempt, `most` at most."""
    patience = min(total / ATTEMPTS_ON_SILENCE, most)
    if fields.get("min_revision"):  # else the registry's "not yet" would come too late, and be taken for silence
        patience = max(patience, REVISION_WAIT + ON_ITS_WAY)
    return min(patience, total * MAX_PATIENCE)


def _gave_up(failure: Failure, operation: str, total: float) -> UnavailableError:
    if isinstance(failure, NoRespondersError):
        return UnavailableError(f"no registry serves {operation!r} now")
    if isinstance(failure, TimeoutError):
        unknown = "; whether it was done is unknown" if operation in CHANGES else ""
        return UnavailableError(f"no answer to {operation!r} within {total:g} s{unknown}")
    return UnavailableError(f"{operation!r} was put off for {total:g} s: {failure}")
