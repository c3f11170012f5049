"""Plays the `nats` lines of a page: with the real command, or with a plain client that does what the command would."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from tests import nats_cli
from tests.conftest import eventually
from tests.contract.wire import settle
from tests.docs.markdown import Section

READS = ("get", "discover", "stats", "capabilities", "scaling.get", "conflict.get", "assignments")
"""Operations that may be asked again until what was reported before has arrived."""


@dataclass(frozen=True)
class Step:
    """One line, and the answer that the page shows for it."""

    line: str
    answer: Any = None

    @property
    def argv(self) -> list[str]:
        """The words after `nats`, as a shell would read them."""
        command, *words = shlex.split(self.line)
        assert command == "nats", self.line
        return words

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing, so that it can be repeated."""
        verb, subject = self.argv[0], self.argv[1]
        if subject.startswith("agent."):  # whoever answers may be about to subscribe
            return True
        return verb != "req" or any(f"{subject}.".startswith(f"registry.{name}.") for name in READS)


def steps(page: list[Section]) -> list[Step]:
    """Return every line of every `sh` block, in order; a `json` block after it is the last line's answer."""
    found: list[Step] = []
    for section in page:
        for index, block in enumerate(section.blocks):
            if block.language == "sh":
                found += [Step(line) for line in block.lines]
            elif block.language == "json":
                assert section.blocks[index - 1].language == "sh", block.text
                found[-1] = Step(found[-1].line, json.loads(block.text))
    return found


class Player(Protocol):
    """Plays lines, and remembers what those that stay have heard."""

    heard: dict[str, int]
    """Subject to how many messages a line that stays has received on it."""

    async def play(self, words: list[str]) -> Any:
        """Do what a line says; return the JSON that it prints, if it prints any."""

    async def close(self) -> None:
        """End the lines that stay."""


_MADE_ID = re.compile(r"-[a-z0-9]{8}-\d+$")

VOLATILE = {
    "revision", "previous_revision", "registered_at", "last_heartbeat", "status_since", "load_age", "at", "event_id",
    "replica", "issued_at", "expires_at", "order_id", "assignment_id", "assigned_at",
    "service_discovery_requests", "silence", "lease_left", "starting",
}  # fmt: skip
"""Fields whose values differ from run to run; their types do not."""


def differences(shown: Any, got: Any, path: str = "") -> list[str]:
    """Return where a real answer differs from the shortened one on the page."""
    if isinstance(shown, dict):
        if not isinstance(got, dict):
            return [f"{path} is {got!r}, not an object"]
        lacking = [f"{path}.{name} is not there" for name in shown if name not in got]
        shared = [name for name in shown if name in got]
        return lacking + [found for name in shared for found in _differences_of(name, shown, got, path)]
    if isinstance(shown, list):
        if not isinstance(got, list) or len(got) != len(shown):
            return [f"{path} is {got!r}, not {shown!r}"]
        return [
            found
            for i, (a, b) in enumerate(zip(shown, got, strict=True))
            for found in differences(a, b, f"{path}[{i}]")
        ]
    return [] if shown == got else [f"{path} is {got!r}, not {shown!r}"]


def _differences_of(name: str, shown: dict[str, Any], got: dict[str, Any], path: str) -> list[str]:
    a, b, path = shown[name], got[name], f"{path}.{name}"
    if name in VOLATILE:
        return [] if type(a) is type(b) else [f"{path} is {b!r}, not like {a!r}"]
    if name == "agent_id" and isinstance(a, str):
        a, b = _MADE_ID.sub("", a), _MADE_ID.sub("", b)
    return differences(a, b, path)


async def check(player: Player, step: Step) -> None:
    """Play a line, and compare what it prints with what the page shows.

    Raises:
        AssertionError: If they differ; of what only reads, if they still do after a while.
    """
    got = await player.play(step.argv)
    if step.answer is None:
        return
    if step.is_read:

        async def agrees() -> bool:
            nonlocal got
            if differences(step.answer, got):
                got = await player.play(step.argv)
            return not differences(step.answer, got)

        with contextlib.suppress(AssertionError):  # said better below
            await eventually(agrees)
    assert differences(step.answer, got) == [], f"{step.line}\n{json.dumps(got)}"


class PlainPlayer:
    """Does what the `nats` command would, with a plain client."""

    def __init__(self, nc: Client) -> None:
        self.heard: dict[str, int] = {}
        self._nc = nc
        self._js = nc.jetstream()
        self._verbs: dict[str, Callable[[list[str]], Awaitable[Any]]] = {
            "req": self._req, "pub": self._pub, "sub": self._sub, "reply": self._reply, "kv": self._kv,
            "consumer": self._consumer, "stream": self._stream, "micro": self._micro,
        }  # fmt: skip

    async def play(self, words: list[str]) -> Any:
        return await self._verbs[words[0]](words[1:])

    async def close(self) -> None:
        await settle(self._nc)

    async def _req(self, words: list[str]) -> Any:
        subject, body = words
        return json.loads((await self._nc.request(subject, _expanded(body), timeout=5)).data)

    async def _pub(self, words: list[str]) -> None:
        subject, body = words
        await self._nc.publish(subject, body.encode())
        await settle(self._nc)

    async def _sub(self, words: list[str]) -> None:
        (subject,) = words
        await self._listen(subject, None)

    async def _reply(self, words: list[str]) -> None:
        subject, body = words
        await self._listen(subject, body.encode())

    async def _listen(self, subject: str, answer: bytes | None) -> None:
        self.heard[subject] = 0

        async def hear(msg: Msg) -> None:
            self.heard[subject] += 1
            if answer is not None:
                await self._nc.publish(msg.reply, answer)

        await self._nc.subscribe(subject, cb=hear)
        await settle(self._nc)

    async def _kv(self, words: list[str]) -> Any:
        verb, name, *rest = words
        bucket = await self._js.key_value(name)
        if verb == "ls":
            assert await bucket.keys()
            return None
        if verb == "history":
            assert await bucket.history(*rest)
            return None
        key, *raw = rest
        assert (verb, raw) in (("get", []), ("get", ["--raw"]))
        value = json.loads((await bucket.get(key)).value or b"")
        return value if raw else None

    async def _consumer(self, words: list[str]) -> None:
        parser = argparse.ArgumentParser(exit_on_error=False)
        for name in ("verb", "stream", "consumer"):
            parser.add_argument(name)
        for name in ("--pull", "--defaults"):
            parser.add_argument(name, action="store_true")
        for name in ("--deliver", "--ack", "--filter", "--count"):
            parser.add_argument(name)
        asked = parser.parse_args(words)
        if asked.verb == "add":
            config = ConsumerConfig(
                durable_name=asked.consumer, deliver_policy=DeliverPolicy(asked.deliver),
                ack_policy=AckPolicy(asked.ack), filter_subject=asked.filter,
            )  # fmt: skip
            await self._js.add_consumer(asked.stream, config)
            return
        assert asked.verb == "next"
        consumer = await self._js.pull_subscribe_bind(asked.consumer, stream=asked.stream)
        for msg in await consumer.fetch(int(asked.count), timeout=5):
            await msg.ack()

    async def _stream(self, words: list[str]) -> Any:
        verb, stream, flag, subject = words
        assert (verb, flag) == ("get", "--last-for")
        return json.loads((await self._js.get_last_msg(stream, subject)).data or b"")

    async def _micro(self, words: list[str]) -> None:
        verb, *names = (word for word in words if not word.startswith("--"))
        asked = {"ls": "INFO", "info": "INFO", "stats": "STATS", "ping": "PING"}
        subject = ".".join(["$SRV", asked[verb], *names])
        assert json.loads((await self._nc.request(subject, b"", timeout=5)).data)["name"] == "registry"


def _expanded(body: str) -> bytes:
    """Return a body as the command sends it, which makes random text of its one template that a page may use."""
    return re.sub(r"\{\{ Random (\d+) \1 \}\}", lambda found: "a" * int(found[1]), body).encode()


class CliPlayer:
    """Runs the real `nats` command, each line as it stands on the page."""

    def __init__(self, binary: str, url: str, home: Path) -> None:
        self.heard: dict[str, int] = {}
        self._binary = binary
        self._environment = nats_cli.environment(home, url)
        self._staying: list[tuple[asyncio.subprocess.Process, asyncio.Task[None]]] = []

    async def play(self, words: list[str]) -> Any:
        process = await asyncio.create_subprocess_exec(
            self._binary, *words, env=self._environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        if words[0] in ("sub", "reply"):
            await self._stay(process, words[1])
            return None
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        text = output.decode()
        assert process.returncode == 0, f"nats {shlex.join(words)}\n{text}"
        if words[0] == "micro":
            assert "registry" in text
        if words[:2] == ["kv", "get"] and "--raw" not in words:
            return None  # it shows a part of the record
        return next((json.loads(line) for line in text.splitlines() if line.startswith("{")), None)

    async def _stay(self, process: asyncio.subprocess.Process, subject: str) -> None:
        assert process.stdout is not None
        self.heard[subject] = 0
        first = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        assert re.search(r"Subscribing on|Listening on", first), first
        self._staying.append((process, asyncio.ensure_future(self._hear(process.stdout, subject))))

    async def _hear(self, output: asyncio.StreamReader, subject: str) -> None:
        async for line in output:
            self.heard[subject] += b"Received on" in line

    async def close(self) -> None:
        for process, hearing in self._staying:
            process.terminate()
            await process.wait()
            await hearing
