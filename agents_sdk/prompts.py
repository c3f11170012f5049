"""The prompts that an agent takes: each is answered by its handler, in one piece or as it comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from inspect import isasyncgenfunction
from typing import Any

from agents_sdk.cancelling import cancel
from agents_sdk.prompt_stream import ACK, END, MAX_PROMPT, parts, read_prompt, refusal
from agents_sdk.protocol.errors import RegistryError
from agents_sdk.served import LostAnswerError, Request, Served, call
from agents_sdk.synadia import PROMPT, QUEUE, Synadia

KEEP_ALIVE = 30.0
"""Seconds after which a caller is told again that its prompt is worked on."""

PromptHandler = Callable[[str], str] | Callable[[str], Awaitable[str]] | Callable[[str], AsyncGenerator[str, None]]
"""Takes the text of a prompt; returns the answer, or yields it part by part."""


class Prompts(Served):
    """The endpoint `prompt` of the Synadia Agent Protocol.

    Args:
        names: What the agent is called there.
        handler: Answers.
    """

    def __init__(self, names: Synadia, handler: PromptHandler) -> None:
        metadata = {"max_payload": MAX_PROMPT, "attachments_ok": "false"}
        super().__init__(PROMPT, names.subject(PROMPT), QUEUE, metadata)
        self._handler = handler
        self._yields = isasyncgenfunction(handler)

    async def answer(self, request: Request) -> None:
        """Send what the handler returns or yields."""
        prompt, answer = read_prompt(request.data), _Answer(request)
        async with _acknowledged(request), contextlib.aclosing(self._texts(prompt)) as texts:
            async for text in texts:
                await answer.send(text)
        await answer.end()

    async def _texts(self, prompt: str) -> AsyncGenerator[Any, None]:
        result: Any = self._handler(prompt) if self._yields else await call(self._handler, prompt)
        if not isinstance(result, AsyncGenerator):
            yield result
            return
        async with contextlib.aclosing(result):
            async for text in result:
                yield text

    async def refuse(self, request: Request, error: RegistryError) -> None:
        """Send an error in the protocol's form, and the end."""
        await request.reply(*refusal(error))
        await request.reply(END)


class _Answer:
    """An answer in parts: with the end goes the promise that none is missing."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._begun_after: int | None = None
        """Losses of NATS before the first part."""

    async def send(self, text: Any) -> None:
        """Send a piece of text."""
        if not isinstance(text, str):
            raise TypeError(f"a prompt handler must give text, and gave {type(text).__name__}")
        if self._begun_after is None:
            self._begun_after = self._request.losses
        for part in parts(text):
            if not await self._request.reply(part):
                raise LostAnswerError("NATS is away: a part of the answer is lost")
        self._check()

    async def end(self) -> None:
        """Say that this was all."""
        self._check()
        await self._request.reply(END)

    def _check(self) -> None:
        if self._begun_after is not None and self._begun_after != self._request.losses:
            raise LostAnswerError("NATS was away while the answer was sent: parts of it may be lost")


@contextlib.asynccontextmanager
async def _acknowledged(request: Request) -> AsyncIterator[None]:
    """Tell the caller at once, and now and then while the body runs, that its prompt is worked on."""

    async def keep_alive() -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE)
            await request.reply(ACK)

    await request.reply(ACK)
    telling = asyncio.create_task(keep_alive())
    try:
        yield
    finally:
        await cancel(telling)
