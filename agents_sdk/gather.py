"""Asking everybody who listens."""

from __future__ import annotations

import asyncio

from nats.aio.msg import Msg

from agents_sdk.connection import Connection


async def gather(connection: Connection, subject: str, payload: bytes, within: float) -> list[bytes]:
    """Send one request and return every answer that comes within so many seconds.

    NATS tells a requester at most that there is nobody, not how many there are: only time ends this.

    Raises:
        UnavailableError: If NATS is away.
    """
    answers: list[bytes] = []

    async def take(msg: Msg) -> None:
        if msg.data:  # "no responders" is an empty message
            answers.append(msg.data)

    inbox = connection.client.new_inbox()
    subscription = await connection.subscribe(inbox, take)
    try:
        await connection.publish(subject, payload, reply=inbox)
        await asyncio.sleep(within)
    finally:
        await connection.unsubscribe(subscription)
    return answers
