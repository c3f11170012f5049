"""An agent that speaks the Synadia Agent Protocol, and that protocol's own client, which nobody here wrote."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from opentelemetry import trace
from synadia_ai.agent_service import AgentService, PromptStream
from synadia_ai.agents import Agent as Found
from synadia_ai.agents import Agents, AttachmentsNotSupportedError, Envelope, HeartbeatPayload, ProtocolError
from synadia_ai.agents.envelope import Attachment
from synadia_ai.agents.messages import ResponseChunk, StatusChunk

from agents_sdk import Agent, InvalidRequestError, RegistryClient, StaleIncarnationError, Synadia, presence, prompts
from agents_sdk.prompt_stream import read_prompt
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests import nats_cli
from tests.conftest import eventually
from tests.sdk.outage import Server, settle

NAMES = Synadia(owner="alice")
SUBJECT = "agents.prompt.trading-agent.alice.a"

MakeAgent = Callable[..., Agent]


@pytest.fixture
async def make(nats_server: NatsServer, registry: Replica) -> AsyncIterator[MakeAgent]:
    """Makes agents that speak it, and stops those that a test leaves running."""
    agents: list[Agent] = []

    def make(agent_id: str = "a", speak: Any = NAMES, **fields: Any) -> Agent:
        fields = {"nats": nats_server.url, **fields}
        agents.append(Agent("trading_agent", ["trading"], agent_id=agent_id, speak=speak, **fields))
        return agents[-1]

    yield make
    for agent in agents:
        await agent.stop()


@asynccontextmanager
async def their_client(nc: Client) -> AsyncIterator[Agents]:
    theirs = Agents(nc=nc)
    await theirs.start_tracking()
    yield theirs
    await theirs.close()


@pytest.fixture
async def theirs(nc: Client) -> AsyncIterator[Agents]:
    """Their client; it hears heartbeats from now on."""
    async with their_client(nc) as theirs:
        yield theirs


def echoing(agent: Agent) -> Agent:
    @agent.prompt
    async def echo(text: str) -> str:
        return f"you said {text}"

    return agent


async def discover(theirs: Agents) -> list[Found]:
    return await theirs.discover(stall=0.2)


async def find(theirs: Agents) -> Found:
    """Return the one that is discovered, however long it takes to answer."""
    found: list[Found] = []

    async def is_there() -> bool:
        found[:] = await discover(theirs)
        return bool(found)

    await eventually(is_there)
    (one,) = found
    return one


async def answer(found: Found, prompt: str = "hello", **options: Any) -> list[str]:
    """Return what an agent answers, part by part."""
    return [part.text async for part in found.prompt(prompt, **options) if isinstance(part, ResponseChunk)]


async def asked(nc: Client, payload: bytes, headers: dict[str, str] | None = None, subject: str = SUBJECT) -> list[Msg]:
    """Return the messages of the answer to a prompt, without the end."""
    inbox, messages = nc.new_inbox(), []
    subscription = await nc.subscribe(inbox)
    await nc.publish(subject, payload, reply=inbox, headers=headers)
    while (message := await subscription.next_msg(timeout=10)).data or message.headers:
        messages.append(message)
    await subscription.unsubscribe()
    return messages


def code(messages: list[Msg]) -> str:
    """Return the code of the error that is all of an answer."""
    (message,) = messages
    assert message.headers is not None
    assert orjson.loads(message.data)["error"].islower()
    return message.headers["Nats-Service-Error-Code"]


# Being seen.


async def test_it_is_discovered_with_what_the_protocol_asks_for(
    make: MakeAgent, theirs: Agents, client: RegistryClient
) -> None:
    agent = echoing(make(version="2.1.0", metadata={"exchange": "x"}))
    async with agent:
        found = await find(theirs)
        assert (found.agent, found.owner, found.session_name) == ("trading-agent", "alice", "a")
        assert (found.protocol_version, found.version, found.instance_id) == ("0.3", "2.1.0", agent.instance_id)
        assert (found.metadata["session"], found.metadata["agent_id"]) == ("a", "a")
        assert {one.name: one.queue_group for one in found.endpoints} == {"prompt": "agents", "status": "agents"}
        assert (found.prompt_subject, found.prompt_endpoint.max_payload_bytes) == (SUBJECT, 1 << 20)
        assert found.prompt_endpoint.attachments_ok is False
        assert await theirs.ping(agent.instance_id)
        known = await client.get_agent_info("a")
        assert known is not None
        assert known.metadata == {"exchange": "x", "synadia": SUBJECT}
        assert known.capabilities == {"trading"}
    assert await discover(theirs) == []
    assert not await theirs.ping(agent.instance_id)


async def test_it_is_two_micro_services(make: MakeAgent, nc: Client, theirs: Agents) -> None:
    agent = echoing(make())
    agent.handle("quote")(lambda request: 42.0)
    async with agent:
        assert code(await asked(nc, b"")) == "400"
        assert await answer(await find(theirs)) == ["you said hello"]
        await (await find(theirs)).status()
        inbox = nc.new_inbox()
        subscription = await nc.subscribe(inbox)
        await nc.publish("$SRV.STATS", reply=inbox)
        told = [orjson.loads((await subscription.next_msg(timeout=10)).data) for _ in range(3)]
        stats = {one["name"]: one for one in told}
        assert set(stats) == {"registry", "trading_agent", "agents"}
        assert {stats[name]["id"] for name in ("trading_agent", "agents")} == {agent.instance_id}
        assert [one["subject"] for one in stats["trading_agent"]["endpoints"]] == ["agent.a.quote"]
        counted = {one["name"]: (one["num_requests"], one["num_errors"]) for one in stats["agents"]["endpoints"]}
        assert counted == {"prompt": (2, 0), "status": (1, 0)}


async def test_it_is_heard_and_tells_its_status(make: MakeAgent, theirs: Agents, nc: Client) -> None:
    agent = echoing(make(speak=Synadia(owner="alice", heartbeat_interval=1)))
    beats: list[HeartbeatPayload] = []
    theirs.on_heartbeat(agent.instance_id, beats.append)
    async with agent:
        await eventually(lambda: bool(beats))
        assert (beats[0].agent, beats[0].owner, beats[0].session) == ("trading-agent", "alice", "a")
        assert (beats[0].interval_s, beats[0].extras) == (1, {"agent_id": "a"})
        liveness = theirs.liveness(agent.instance_id)
        assert liveness is not None
        assert liveness.is_online
        await eventually(lambda: len(beats) > 2)
        told = await (await find(theirs)).status()
        assert told.model_dump(exclude={"ts"}) == beats[0].model_dump(exclude={"ts"})
    heard = len(beats)
    with pytest.raises(NoRespondersError):
        await nc.request("agents.status.trading-agent.alice.a")
    assert len(beats) == heard


async def test_heartbeats_go_on_while_a_handler_blocks_the_loop(make: MakeAgent, theirs: Agents) -> None:
    """The agent lives in a loop of its own here, so that the test can look while it is blocked."""
    agent, blocked, go = make(speak=Synadia(heartbeat_interval=1)), threading.Event(), threading.Event()
    beats: list[HeartbeatPayload] = []
    theirs.on_heartbeat(agent.instance_id, beats.append)

    @agent.prompt
    async def block(text: str) -> str:
        blocked.set()
        go.wait(30)
        return "done"

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(agent.start(), loop))
        found = await find(theirs)
        working = asyncio.create_task(answer(found))
        await asyncio.to_thread(blocked.wait, 10)
        heard = len(beats)
        await eventually(lambda: len(beats) > heard + 1)
        assert (await found.status()).instance_id == agent.instance_id
        go.set()
        assert await working == ["done"]
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(agent.stop(), loop))
    finally:
        go.set()
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()


# Prompts.


@pytest.mark.parametrize("kind", ["async", "in a thread"])
async def test_a_prompt_is_answered(make: MakeAgent, theirs: Agents, kind: str) -> None:
    agent, threads = make(), []
    if kind == "async":
        echoing(agent)
    else:

        @agent.prompt
        def echo(text: str) -> str:
            threads.append(threading.current_thread())
            return f"you said {text}"

    async with agent:
        found = await find(theirs)
        assert await answer(found, "two\nlines, ünïcode") == ["you said two\nlines, ünïcode"]
        assert [type(part) async for part in found.prompt("x")] == [StatusChunk, ResponseChunk]
        assert threading.main_thread() not in threads


async def test_an_answer_is_streamed_as_it_comes(make: MakeAgent, theirs: Agents) -> None:
    agent, go = make(), asyncio.Event()

    @agent.prompt
    async def count(text: str) -> AsyncGenerator[str, None]:
        yield "one "
        await go.wait()
        yield "two "
        yield "three"

    async with agent:
        got = []
        async for part in (await find(theirs)).prompt("count"):
            if isinstance(part, ResponseChunk):
                got.append(part.text)
                go.set()  # the second part is made only when the first one is there
        assert got == ["one ", "two ", "three"]


async def test_a_long_answer_arrives_whole(make: MakeAgent, theirs: Agents) -> None:
    agent, text = make(), "\n ü 𝄞 " * 300_000  # more than a message may have
    agent.prompt(lambda prompt: text)
    async with agent:
        parts = await answer(await find(theirs))
        assert len(parts) > 1
        assert "".join(parts) == text


async def test_a_caller_is_told_that_its_prompt_is_worked_on(make: MakeAgent, theirs: Agents, monkeypatch) -> None:
    monkeypatch.setattr(prompts, "KEEP_ALIVE", 0.1)
    agent, go = make(), asyncio.Event()

    @agent.prompt
    async def wait(text: str) -> str:
        await go.wait()
        return "done"

    async with agent:
        got = []
        async for part in (await find(theirs)).prompt("x", timeout=5):
            got.append(part)
            if len(got) == 3:
                go.set()
    assert got[:3] == [StatusChunk(status="ack")] * 3
    assert got[-1] == ResponseChunk(text="done")
    assert "keep_alive" not in str(asyncio.all_tasks())


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "prompt: must not be empty"),
        (b'{"prompt"', "payload: begins like a JSON object"),
        (b' \n{"prompt": 5}', "prompt: must be a text of one character or more; is a number"),
        (b'{"prompt": ""}', "prompt: must be a text of one character or more; is an empty one"),
        (b"{}", "prompt: must be a text of one character or more; is null"),
        (b"\xff", "payload: is neither UTF-8 text nor a JSON object"),
        (b'{"prompt": "x", "attachments": [{"filename": "f", "content": ""}]}', "attachments: are not taken"),
    ],
)
def test_what_is_no_prompt_is_said(payload: bytes, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(said)}") as refused:
        read_prompt(payload)
    assert refused.value.details[0].field == said.partition(":")[0]


PAYLOADS = [
    *(b"hello", b" hello", b"[1]", b"fail", b"", b"\xff"),
    *(b'{"prompt":"hello"}', b'\n{"prompt":"hello","other":1}', b'{"prompt":"fail","attachments":[]}'),
    *(b"{", b"{}", b'{"prompt":1}', b'{"prompt":"x","attachments":[{"filename":"f","content":""}]}'),
]


async def test_it_answers_as_their_own_agents_do(make: MakeAgent, nc: Client) -> None:
    async def serve(envelope: Envelope, stream: PromptStream) -> None:
        await stream.send(f"you said {check(envelope.prompt)}")

    def check(text: str) -> str:
        if text == "fail":
            raise ValueError
        return text

    agent = make()
    agent.prompt(lambda text: f"you said {check(text)}")
    service = AgentService(agent="echo", owner="bob", session_name="b", nc=nc, attachments_ok=False)
    service.on_prompt(serve)
    await service.start()

    def seen(messages: list[Msg]) -> list[Any]:
        return [(one.headers or {}).get("Nats-Service-Error-Code") or orjson.loads(one.data) for one in messages]

    async with agent:
        for payload in PAYLOADS:
            wanted = seen(await asked(nc, payload, subject="agents.prompt.echo.bob.b"))
            assert seen(await asked(nc, payload)) == wanted, payload
    await service.stop()


async def test_a_prompt_that_is_too_long_is_refused(make: MakeAgent, nc: Client, monkeypatch) -> None:
    monkeypatch.setattr("agents_sdk.prompt_stream.MAX_PROMPT_BYTES", 1000)
    async with echoing(make()):
        messages = await asked(nc, b"x" * 1001)
        assert code(messages) == "400"
        assert orjson.loads(messages[0].data)["error"] == "payload_too_large"
        assert len(await asked(nc, b"x" * 1000)) == 2


async def test_attachments_do_not_leave_their_client(make: MakeAgent, theirs: Agents) -> None:
    async with echoing(make()):
        with pytest.raises(AttachmentsNotSupportedError):
            (await find(theirs)).prompt("x", attachments=[Attachment.from_bytes("f", b"")])


async def test_what_handlers_raise_ends_the_answer_with_an_error(
    make: MakeAgent, theirs: Agents, nc: Client, client: RegistryClient, caplog
) -> None:
    agent = make(heartbeat_interval=0.2)

    @agent.prompt
    async def fail(text: str) -> AsyncGenerator[Any, None]:
        if text == "refuse":
            raise InvalidRequestError("prompt: no such symbol")
        yield "so far so good"
        if text == "fail":
            raise KeyError("the secret of the house")
        yield 5

    async with agent:
        found = await find(theirs)
        with pytest.raises(ProtocolError, match="400: prompt: no such symbol"):
            await answer(found, "refuse")
        with pytest.raises(ProtocolError, match=r"500: KeyError in handler 'prompt' of a$"):
            await answer(found, "fail")
        _, part, error = await asked(nc, b"fail")
        assert orjson.loads(part.data)["data"] == "so far so good"
        assert code([error]) == "500"
        assert "the secret of the house" in caplog.text
        with pytest.raises(ProtocolError, match="500: TypeError in handler"):
            await answer(found, "nonsense")
        assert "a prompt handler must give text, and gave int" in caplog.text
        reading = agent._vitals.read()
        assert (reading.served, reading.failed, reading.in_flight) == (4, 3, 0)

        async def is_known() -> bool:
            known = await client.get_agent_info("a")
            return known is not None and known.performance_metrics.get("requests_served") == 4

        await eventually(is_known)


async def test_prompts_are_work_and_more_than_it_can_do_is_refused(
    make: MakeAgent, theirs: Agents, nc: Client, client: RegistryClient
) -> None:
    agent, go = make(max_concurrency=2), asyncio.Event()

    @agent.prompt
    async def work(text: str) -> str:
        await go.wait()
        return text

    @agent.handle("work")
    async def other_work(request: dict[str, Any]) -> None:
        await go.wait()

    async with agent:
        found = await find(theirs)
        working = asyncio.create_task(answer(found, "one"))
        other = asyncio.create_task(nc.request("agent.a.work", timeout=10))
        await eventually(lambda: agent._vitals.read().in_flight == 2)
        messages = await asked(nc, b"two")
        assert code(messages) == "429"
        assert orjson.loads(messages[0].data)["retryable"] is True
        with pytest.raises(ProtocolError, match="429: a is doing 2 requests already"):
            await answer(found, "two")

        async def is_full() -> bool:
            known = await client.get_agent_info("a")
            return known is not None and known.load_factor == 1.0

        await eventually(is_full)
        go.set()
        assert await working == ["one"]
        await other
        assert await answer(found, "three") == ["three"]


async def test_a_prompt_is_worked_on_in_its_callers_trace(make: MakeAgent, nc: Client) -> None:
    agent, traces = make(), []
    trace_id = "0af7651916cd43dd8448eb211c80319c"

    @agent.prompt
    async def note(text: str) -> AsyncGenerator[str, None]:
        for word in text.split():
            traces.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
            yield word

    async with agent:
        await asked(nc, b"two words", headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
    assert traces == [trace_id] * 2


async def test_prompts_are_answered_side_by_side(make: MakeAgent, theirs: Agents) -> None:
    agent, together = make(), asyncio.Barrier(3)

    @agent.prompt
    async def wait(text: str) -> str:
        await together.wait()
        return text

    async with agent, asyncio.timeout(10):
        found = await find(theirs)
        assert await asyncio.gather(*(answer(found, text) for text in "abc")) == [["a"], ["b"], ["c"]]


async def test_instances_of_one_name_share_its_prompts(make: MakeAgent, theirs: Agents) -> None:
    shared = Synadia(owner="alice", session="desk")
    agents = [make(agent_id, speak=shared) for agent_id in "ab"]
    for agent in agents:
        agent.prompt(lambda text, agent=agent: agent.agent_id)
    async with agents[0], agents[1]:
        found = await discover(theirs)
        assert {one.instance_id for one in found} == {agent.instance_id for agent in agents}
        (subject,) = {one.prompt_subject for one in found}
        assert subject == "agents.prompt.trading-agent.alice.desk"
        answers = [await answer(found[0]) for _ in range(40)]
        assert {text for parts in answers for text in parts} == {"a", "b"}
        assert all(len(parts) == 1 for parts in answers)


# Leaving.


async def test_who_leaves_finishes_and_takes_no_more(make: MakeAgent, theirs: Agents, nc: Client) -> None:
    agent, go = make(), asyncio.Event()

    @agent.prompt
    async def work(text: str) -> AsyncGenerator[str, None]:
        yield "half "
        await go.wait()
        yield "all"

    await agent.start()
    found = await find(theirs)
    working = asyncio.create_task(answer(found))
    await eventually(lambda: agent._vitals.read().in_flight == 1)
    stopping = asyncio.create_task(agent.stop())

    async def is_unseen() -> bool:
        return await discover(theirs) == []

    await eventually(is_unseen)
    with pytest.raises(ProtocolError, match="409: a is draining"):
        await answer(found)
    with pytest.raises(NoRespondersError):
        await found.status()
    go.set()
    assert await working == ["half ", "all"]
    await stopping
    with pytest.raises(NoRespondersError):
        await nc.request(SUBJECT, b"x")


async def test_what_is_not_done_in_time_ends_with_an_error(make: MakeAgent, theirs: Agents) -> None:
    agent, begun = make(drain_timeout=0.1), asyncio.Event()

    @agent.prompt
    async def work(text: str) -> AsyncGenerator[str, None]:
        yield "half"
        begun.set()
        await asyncio.Event().wait()

    async with agent:
        working = asyncio.create_task(answer(await find(theirs)))
        await begun.wait()
    with pytest.raises(ProtocolError, match="500: a stopped before it was done"):
        await working


async def test_who_is_replaced_is_seen_no_more(make: MakeAgent, theirs: Agents) -> None:
    old, new, go = make(), make(takeover=True), asyncio.Event()

    @old.prompt
    async def work(text: str) -> str:
        await go.wait()
        return "old"

    new.prompt(lambda text: "new")
    await old.start()
    working = asyncio.create_task(answer(await find(theirs)))
    await eventually(lambda: old._vitals.read().in_flight == 1)
    await new.start()

    async def is_alone() -> bool:
        return [one.instance_id for one in await discover(theirs)] == [new.instance_id]

    await eventually(is_alone)
    assert await answer(await find(theirs)) == ["new"]
    go.set()
    assert await working == ["old"], "work in flight is finished"
    with pytest.raises(StaleIncarnationError):
        await old.wait()


# Outages.


@pytest.fixture
async def outage(server: Server) -> AsyncIterator[tuple[Server, Replica, Client]]:
    """A NATS server to be taken down, with a registry and a plain connection."""
    await server.start()
    registry = Replica(Settings(), server.url)
    await registry.start()
    nc = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    yield server, registry, nc
    await nc.close()
    await registry.stop()


async def test_it_is_there_again_when_nats_is(outage: tuple[Server, Replica, Client], monkeypatch) -> None:
    monkeypatch.setattr(presence.random, "uniform", lambda _, high: high)  # so the client of this test is back before
    server, _, nc = outage
    agent = echoing(Agent("trading_agent", ["trading"], agent_id="a", nats=server.url, speak=NAMES))
    beats: list[HeartbeatPayload] = []
    async with their_client(nc) as theirs, agent:
        theirs.on_heartbeat(agent.instance_id, beats.append)
        await eventually(lambda: theirs.liveness(agent.instance_id) is not None)  # the first one comes at once
        await server.kill()
        await eventually(lambda: not nc.is_connected)
        await server.start()
        await eventually(lambda: bool(beats))  # long before the next regular one

        async def is_found() -> bool:
            return nc.is_connected and len(await discover(theirs)) == 1

        await eventually(is_found)
        await eventually(lambda: agent._connection.is_connected)
        assert await answer(await find(theirs)) == ["you said hello"]


@pytest.mark.parametrize("begun", [True, False])
async def test_an_answer_of_which_parts_may_be_lost_does_not_look_whole(
    outage: tuple[Server, Replica, Client], begun: bool
) -> None:
    """What was not begun before NATS went is answered after it."""
    server, _, nc = outage
    agent, working, go = (
        Agent("trader", ["trading"], agent_id="a", nats=server.url, speak=NAMES),
        asyncio.Event(),
        asyncio.Event(),
    )

    @agent.prompt
    async def work(text: str) -> AsyncGenerator[str, None]:
        if begun:
            yield "half "
        working.set()
        await go.wait()
        yield "all"

    async with agent, their_client(nc) as theirs:
        asking = asyncio.create_task(answer(await find(theirs)))
        await working.wait()
        await server.kill()
        await eventually(lambda: not nc.is_connected and not agent._connection.is_connected)
        await server.start()
        await eventually(lambda: nc.is_connected and agent._connection.is_connected)
        await settle(nc)
        go.set()
        if begun:
            with pytest.raises(ProtocolError, match="500: NATS was away while the answer was sent"):
                await asking
        else:
            assert await asking == ["all"]


# Names, and what is wrong with them.


def test_names_follow_from_the_agent(monkeypatch) -> None:
    monkeypatch.setenv("LOGNAME", "Ann.Other")
    agent = Agent("Trading_Agent.v2", ["trading"], agent_id="Trader_1", speak="synadia")
    assert agent._synadia == Synadia("trading-agent-v2", "ann-other", "Trader_1", 30)

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert Agent("t", ["trading"], speak="synadia")._synadia.owner == "default"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("speak", "named"),
    [
        ("esperanto", "speak"),
        (5, "speak"),
        (Synadia(agent="Trader"), "speak.agent"),
        (Synadia(owner="a.b"), "speak.owner"),
        (Synadia(session="*"), "speak.session"),
        (Synadia(session=5), "speak.session"),  # type: ignore[arg-type]
        (Synadia(heartbeat_interval=0), "speak.heartbeat_interval"),
        (Synadia(heartbeat_interval=0.5), "speak.heartbeat_interval"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_said_when_it_is_written(speak: Any, named: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{named}: ") as refused:
        Agent("trader", ["trading"], speak=speak)
    assert refused.value.details[0].field == named


async def test_it_needs_one_handler(make: MakeAgent) -> None:
    agent = make()
    with pytest.raises(RuntimeError, match="a speaks synadia: it needs a handler decorated with `prompt`"):
        await agent.start()

    def yielding(text: str) -> Iterator[str]:
        yield text

    with pytest.raises(ValueError, match="must be async"):
        agent.prompt(yielding)  # type: ignore[type-var]
    echoing(agent)
    async with agent:
        with pytest.raises(ValueError, match="has a handler for prompts already"):
            echoing(agent)
    with pytest.raises(RuntimeError, match="b takes no prompts; make it with speak='synadia'"):
        echoing(make("b", speak=None))


# Permissions, and the `nats` command.

LEAST = """
accounts {{ A {{ jetstream: enabled, users: [
  {{ user: registry, password: r }}
  {{ user: caller, password: c }}
  {{ user: agent, password: a, permissions: {{
      publish: {{ allow: [ "registry.*.a", "agents.hb.trading-agent.alice.a" ] }}
      subscribe: {{ allow: [
        "_INBOX_a.>", "agent.a.>", "$SRV.*.agents", "$SRV.*.agents.*",
        "agents.prompt.trading-agent.alice.a", "agents.status.trading-agent.alice.a"
      ] }}
      allow_responses: {{ max: {responses}, expires: "10m" }} }} }}
] }} }}
"""


@pytest.mark.parametrize("responses", [-1, 1])
async def test_the_least_permissions_are_enough(server: Server, caplog, responses: int) -> None:
    """An identity bound to one agent; but each part of an answer is a response."""
    caplog.set_level("INFO")
    await server.start(LEAST.format(responses=responses))
    registry = Replica(Settings(), server.url.replace("//", "//registry:r@"))
    await registry.start()
    url = server.url.replace("//", "//agent:a@")
    agent = Agent("trading_agent", ["trading"], agent_id="a", nats=url, inbox_prefix="_INBOX_a", speak=NAMES)
    nc = await nats.connect(server.url.replace("//", "//caller:c@"))
    async with echoing(agent), their_client(nc) as theirs:
        found = await find(theirs)
        assert (await found.status()).instance_id == agent.instance_id
        if responses == 1:
            with pytest.raises(ProtocolError, match="stalled"):
                await answer(found, timeout=0.5)
        else:
            assert await answer(found) == ["you said hello"]
            assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    await nc.close()
    await registry.stop()


async def test_the_nats_command_prompts_it(make: MakeAgent, nats_server: NatsServer) -> None:
    binary = nats_cli.find()

    async def said(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            binary, "--server", nats_server.url, *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0, output.decode()
        return output.decode()

    async with echoing(make()) as agent:
        assert '{"type":"response","data":"you said hello"}' in await said("req", SUBJECT, "hello", "--wait-for-empty")
        shown = await said("micro", "info", "agents", agent.instance_id)
        assert SUBJECT in shown
        assert f"agents.status.{SUBJECT.removeprefix('agents.prompt.')}" in shown
