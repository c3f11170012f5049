"""An agent: registers, serves its topics, is heard of, drains and leaves."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from agents_sdk.canary import Canary, declaring
from agents_sdk.client import RegistryClient
from agents_sdk.condition import OWN_METRICS, Condition
from agents_sdk.connection import Connection
from agents_sdk.dial import DEFAULT_INBOX_PREFIX, Address
from agents_sdk.health import HealthCheck, HealthFunction
from agents_sdk.heart import Heart, Signal
from agents_sdk.life import Life
from agents_sdk.micro import MicroService
from agents_sdk.presence import Presence
from agents_sdk.prompts import PromptHandler, Prompts
from agents_sdk.protocol.codec import adapter, check
from agents_sdk.protocol.errors import Detail, InvalidRequestError, RegistryError
from agents_sdk.protocol.fields import SUBJECT_PATTERN
from agents_sdk.protocol.registration import Registration
from agents_sdk.protocol.subjects import DEFAULT_PREFIX, DRAIN, Subjects, agent_topic
from agents_sdk.protocol.telemetry import Heartbeat
from agents_sdk.protocol.topics import HEALTH_CHECK
from agents_sdk.pulse import Pulse
from agents_sdk.reach import Reach
from agents_sdk.served import Handler, Served, Topic
from agents_sdk.servers import server_urls
from agents_sdk.serving import Service
from agents_sdk.signals import on_stop_signal
from agents_sdk.synadia import PROMPT, SYNADIA, Synadia, spoken
from agents_sdk.vitals import Vitals

DEFAULT_MAX_CONCURRENCY = 64
DEFAULT_DRAIN_TIMEOUT = 30.0

AGENT_ID_VARIABLE = "AGENT_REGISTRY_AGENT_ID"
"""Variable that names an agent whose program does not."""

REFUSED = 3
"""Exit code of an agent that the registry refuses or has replaced: to start it again as it is does not help."""

_REGISTRATION = adapter(Registration)
_REPORT = adapter(Heartbeat)
_OURS = (HEALTH_CHECK, DRAIN)
"""Topics that the SDK serves itself."""

HandlerT = TypeVar("HandlerT", bound=Handler)
HealthT = TypeVar("HealthT", bound=HealthFunction)
PromptT = TypeVar("PromptT", bound=PromptHandler)

logger = logging.getLogger(__name__)


class Agent:
    """An agent that others find by what it can do.

        agent = Agent("trading_agent", capabilities=["trading"])

        @agent.handle("quote")
        async def quote(request):
            return {"symbol": request["symbol"], "price": 42.0}

        agent.run()

    It registers, answers on `agent.<id>.<topic>`, measures its own load, and beats from a thread of its own, so that a
    handler which blocks the loop makes it busy, not dead. When another instance takes its id over, it stops.

    Args:
        agent_type: Type of agent, for example `trading_agent`.
        capabilities: What it can do; at least one.
        agent_id: Stable id. When left out, what the variable `AGENT_REGISTRY_AGENT_ID` says, by which whoever starts a
            program many times names each; else one made from the type, new with each process.
        tags: Labels to search by.
        metadata: Free-form object, at most 16 KiB as JSON; `a2a_card` in it must be an A2A agent card.
        version: Version of its software.
        nats: URLs of NATS servers, comma-separated; `NATS_URL`, else this machine's when left out.
        credentials: NATS credentials file.
        prefix: First token or tokens of the registry's subjects.
        inbox_prefix: First tokens of the subjects on which replies arrive.
        heartbeat_interval: Seconds between heartbeats, 0.1 to 3600; the registry's setting when left out.
        heartbeat_timeout: Seconds of silence after which it counts as offline; three intervals when left out.
        max_concurrency: Requests that it does at once; further ones are told to try another agent.
        claims: Resources that it holds alone.
        takeover: Take the id over from a live instance, which is stopped then.
        drain_timeout: Seconds that the work in flight gets when the agent stops.
        speak: `synadia`, or names as `Synadia(...)`: it is also an agent of the Synadia Agent Protocol, whose clients
            discover and prompt it; see `prompt`. The registration's metadata has its prompt subject as `synadia` then.

    Raises:
        InvalidRequestError: A `ValueError` that names the fields.
    """

    def __init__(
        self,
        agent_type: str,
        capabilities: Iterable[str],
        *,
        agent_id: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        version: str = "1.0.0",
        nats: str | None = None,
        credentials: str | Path | None = None,
        prefix: str = DEFAULT_PREFIX,
        inbox_prefix: str = DEFAULT_INBOX_PREFIX,
        heartbeat_interval: float | None = None,
        heartbeat_timeout: float | None = None,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        claims: Iterable[str] = (),
        takeover: bool = False,
        drain_timeout: float = DEFAULT_DRAIN_TIMEOUT,
        speak: Literal["synadia"] | Synadia | None = None,
    ) -> None:
        self.agent_id = agent_id if agent_id is not None else os.environ.get(AGENT_ID_VARIABLE) or _new_id(agent_type)
        self.instance_id = secrets.token_hex(8)
        """This life of the agent."""
        self._subjects = Subjects(prefix)
        fields = {
            "agent_type": agent_type,
            "capabilities": _array(capabilities),
            "agent_id": self.agent_id,
            "tags": _array(tags),
            "metadata": _object({} if metadata is None else metadata),
            "version": version,
            "instance_id": self.instance_id,
            "heartbeat_interval": heartbeat_interval,
            "heartbeat_timeout": heartbeat_timeout,
            "health_subject": agent_topic(self.agent_id, HEALTH_CHECK),
            "max_concurrency": max_concurrency,
            "claims": _array(claims),
            "takeover": takeover,
        }
        self._registration = check(_REGISTRATION, fields)
        self._synadia = spoken(speak, self._registration.agent_type, self.agent_id)
        if self._synadia is not None:
            spoken_of = {SYNADIA: self._synadia.subject(PROMPT), **self._registration.metadata}
            self._registration = check(_REGISTRATION, {**fields, "metadata": spoken_of})
        _check_drain_timeout(drain_timeout)
        self._vitals = Vitals(max_concurrency)
        self._metric_names: set[str] = set()
        self._endpoints: dict[str, Served] = {}
        """What it serves, by subject: its topics, and prompts if it takes any."""
        self._health: HealthFunction | None = None
        path = None if credentials is None else Path(credentials)
        self._servers = (server_urls(nats), path, inbox_prefix)
        self._connection = Connection(self._address(f"work:{self.agent_id}"))
        self._service = Service(self.agent_id, self._endpoints.values(), self._vitals, max_concurrency, self._worked)
        self.client = RegistryClient(self._connection, prefix=prefix)
        """The registry, and through `call` other agents; on the agent's own connection."""
        self._life = Life(self.agent_id, self._connection, self._service, self._make_heart, drain_timeout)

    def __repr__(self) -> str:
        return f"<Agent {self.agent_id} of type {self._registration.agent_type}>"

    def handle(self, topic: str, *, canary: Canary | None = None) -> Callable[[HandlerT], HandlerT]:
        """Have the decorated function answer requests to `topic`.

        It gets the request, a JSON object, and returns anything that is JSON. An `async` function runs on the loop,
        another one in a thread. `InvalidRequestError` tells the caller what is wrong with the request; whatever else
        is raised becomes an error reply that names only its class.

        Args:
            topic: What follows the agent's id in the subject.
            canary: A request with a known answer, with which the registry checks now and then that this works.

        Raises:
            ValueError: If the topic is no subject, is the SDK's own, or has a handler, or the canary is none.
            RuntimeError: If the agent has started.
        """
        if re.fullmatch(SUBJECT_PATTERN, topic) is None or topic in _OURS:
            raise ValueError(f"topic: {topic!r} must be a subject without wildcards, and none of {', '.join(_OURS)}")
        subject = agent_topic(self.agent_id, topic)
        if subject in self._endpoints:
            raise ValueError(f"topic: {topic!r} has a handler already")
        self._check_not_begun()

        def add(handler: HandlerT) -> HandlerT:
            if canary is not None:
                self._registration = declaring(self._registration, topic, canary)
            self._endpoints[subject] = Topic(topic, subject, handler)
            return handler

        return add

    def prompt(self, handler: PromptT) -> PromptT:
        """Have the decorated function answer prompts of the Synadia Agent Protocol; the agent must `speak` it.

        It gets the text of a prompt and returns the answer, also text; an `async` generator yields it part by part, and
        each part leaves at once. Prompts are work like requests to topics, and count as such; attachments are refused.

        Raises:
            ValueError: If prompts have a handler already, or the function is a generator without `async`.
            RuntimeError: If the agent does not speak the protocol, or has started.
        """
        if self._synadia is None:
            raise RuntimeError(f"{self.agent_id} takes no prompts; make it with speak={SYNADIA!r}")
        prompts = Prompts(self._synadia, handler)
        if prompts.subject in self._endpoints:
            raise ValueError(f"prompt: {self.agent_id} has a handler for prompts already")
        if inspect.isgeneratorfunction(handler):
            raise ValueError("prompt: a handler that yields must be async")
        self._check_not_begun()
        self._endpoints[prompts.subject] = prompts
        return handler

    def health(self, function: HealthT) -> HealthT:
        """Have the decorated function say how healthy the agent is, 0.0 to 1.0, before each heartbeat."""
        self._health = function
        return function

    def report(
        self,
        *,
        load_factor: float | None = None,
        health_score: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Report what the agent knows better than what is measured; it leaves with the next heartbeat, soon.

        Safe to call from any thread. What was reported holds until it is reported anew.

        Args:
            load_factor: 0.0 (idle) to 1.0 (full); else requests in flight by `max_concurrency`.
            health_score: 0.0 (unfit) to 1.0 (well).
            metrics: Name to number.

        Raises:
            InvalidRequestError: If a value is out of range, or there are too many metrics.
        """
        fields = {"agent_id": self.agent_id, "health_score": health_score, "load_factor": load_factor}
        names = self._metric_names.union(metrics or ())
        # The registry would refuse the whole heartbeat, again and again.
        everything = {**dict.fromkeys([*names, *OWN_METRICS], 0.0), **(metrics or {})}
        check(_REPORT, {**fields, "metrics": everything})
        self._metric_names = names
        self._vitals.report(load_factor, health_score, metrics)
        self._life.moved()

    def run(self) -> None:
        """Serve until SIGTERM, Ctrl-C or the registry's order to drain; then finish the work in flight and leave.

        A second signal ends at once. Logs to standard error if the application set up no logging.

        Raises:
            SystemExit: With `REFUSED`, after a line in the log: if the registry refuses the registration, for example
                because another live instance holds the id, or another instance has taken the id over. `start` and
                `wait` raise the error itself.
        """
        if not logging.getLogger().handlers:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        try:
            asyncio.run(self._run())
        except RegistryError as error:
            if not self._life.incarnation:  # else its end has been logged
                logger.error("%s is refused: %s: %s", self.agent_id, error.code, error.message)  # noqa: TRY400
            sys.exit(REFUSED)

    async def release(self, assignment_id: str) -> bool:
        """Say that the work of an assignment is done, so that its slots are free; returns False if it has ended before.

        `assigned_work` says which one a request is for.

        Raises:
            ForbiddenError: If it is another agent's.
        """
        return await self.client.release(assignment_id, self.agent_id)

    async def start(self) -> None:
        """Connect, register, serve; return when all of that is done, however long the registry takes to appear.

        If the agent is stopped meanwhile, or told to drain, this returns as well, and `wait` has nothing to wait for.

        Raises:
            AlreadyRegisteredError: If another live instance holds the id.
            RegistryError: If the registry refuses the registration for another reason.
            RuntimeError: If the agent has been started before, or speaks a protocol without a handler for prompts.
        """
        if self._synadia is not None and self._synadia.subject(PROMPT) not in self._endpoints:
            raise RuntimeError(f"{self.agent_id} speaks {SYNADIA}: it needs a handler decorated with `prompt`")
        await self._life.begin()
        if self._life.is_serving:
            topics = ", ".join(each.name for each in self._endpoints.values()) or "no topics"
            logger.info("%s serves %s, registered as incarnation %d", self.agent_id, topics, self._life.incarnation)

    async def stop(self) -> None:
        """Take no new work, finish what is in flight, deregister, disconnect."""
        await self._life.end()
        await self.client.close()

    async def wait(self) -> None:
        """Wait until the agent has ended.

        Raises:
            StaleIncarnationError: If another instance has taken its id over.
            RuntimeError: If it has not been started.
        """
        await self._life.over()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _run(self) -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()

        def stop(signal: str) -> None:
            logger.info("%s got %s and finishes its work; a second one ends it at once", self.agent_id, signal)
            asked.set()

        with on_stop_signal(loop, stop):
            serving, stopping = asyncio.create_task(self._serve()), asyncio.create_task(asked.wait())
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not serving.done():
                await self.stop()
            await serving

    async def _serve(self) -> None:
        await self.start()
        await self.wait()

    def _make_heart(self, loop: asyncio.AbstractEventLoop, tell: Callable[[Signal], None]) -> Heart:
        pulse = Pulse(loop)
        health = None if self._health is None else HealthCheck(self._health, loop)
        registration = self._registration
        service = MicroService(
            registration.agent_type,
            self.instance_id,
            registration.version,
            f"Agent {self.agent_id}",
            {"agent_id": self.agent_id, "agent_type": registration.agent_type, "agent_version": registration.version},
            [each for each in self._endpoints.values() if isinstance(each, Topic)],
        )
        presence = None
        if self._synadia is not None:
            prompts = self._endpoints[self._synadia.subject(PROMPT)]
            presence = Presence(self._synadia, self.agent_id, self.instance_id, registration.version, prompts)
        reach = Reach(lambda: self._connection.away_since)
        return Heart(
            registration.model_dump(exclude_none=True, exclude_unset=True),
            self._address(f"agent:{self.agent_id}"),
            self._subjects,
            Condition(self._vitals, pulse, health, reach.holds),
            pulse,
            reach,
            service,
            presence,
            tell,
        )

    def _check_not_begun(self) -> None:
        if self._life.has_begun:
            raise RuntimeError(f"{self.agent_id} has started; add handlers before")

    def _address(self, name: str) -> Address:
        servers, credentials, inbox_prefix = self._servers
        return Address(servers, name, credentials, inbox_prefix)

    def _worked(self) -> None:
        """Have the registry know soon when the load has moved."""
        if self._vitals.moved():
            self._life.moved()


def _new_id(agent_type: str) -> str:
    """Return an id for an agent that has none; what is wrong with a type is said where it is checked."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', str(agent_type))[:96]}-{secrets.token_hex(6)}"


def _check_drain_timeout(seconds: Any) -> None:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds >= 0:
        message = f"must be a number of seconds, 0 or more; got {seconds!r}"
        raise InvalidRequestError(f"drain_timeout: {message}", [Detail("drain_timeout", message)])


def _object(values: Any) -> Any:
    """Return the values as a dict; what is no mapping stays as it is, to be refused."""
    return dict(values) if isinstance(values, Mapping) else values


def _array(values: Any) -> Any:
    """Return the values as a list; what is none stays as it is, to be refused. A lone string would be its letters."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping) else values
