"""Asking many agents at once, against agents that misbehave on purpose."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agents_sdk import (
    Agent,
    AgentCallError,
    ForbiddenError,
    InvalidRequestError,
    NotBegunError,
    Outcome,
    OverloadedError,
    PayloadTooLargeError,
    QuorumError,
    RegistryClient,
    ServiceQuery,
    SortBy,
    UnavailableError,
    whom,
)
from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.discovery import AgentInfo, Listing
from agents_sdk.question import Question
from agents_sdk.scatter import Scatter
from registry.replica import Replica
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.sdk.crowd import TOPIC, Crowd, names, silent
from tests.sdk.outage import Server, serving, settle

LONG = 30.0
"""Seconds; who waits for the deadline has failed."""


@pytest.fixture
def crowd(nc: Client, client: RegistryClient) -> Crowd:
    return Crowd(nc, client)


def outcomes(answers: Any) -> dict[str, str]:
    return {answer.agent_id: str(answer.outcome) for answer in answers.everybody}


def subscriptions(client: RegistryClient) -> int:
    return len(client._connection._subscriptions)


async def test_everybody_answers(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add(*names(150))
    before = subscriptions(client)
    answers = await client.scatter("research", TOPIC, {"x": 1}, deadline=LONG)
    assert {answer.agent_id: answer.value for answer in answers.good} == {
        name: {"by": name, "got": {"x": 1}} for name in names(150)
    }
    assert (answers.met, answers.needed, answers.missing) == (True, 0, [])
    assert [value["by"] for value in answers.values] == [answer.agent_id for answer in answers.good]
    assert all(0.0 < answer.seconds < LONG for answer in answers.good)
    assert set(crowd.asked.values()) == {1}, "each once"
    assert subscriptions(client) == before


async def test_nobody_matches(client: RegistryClient) -> None:
    assert (await client.scatter("research", TOPIC, deadline=LONG)).everybody == ()
    with pytest.raises(QuorumError, match=r"0 good answers to 'check' of 0 asked; the quorum is 1$"):
        await client.scatter("research", TOPIC, quorum="all", deadline=LONG)


async def test_a_capability_means_everybody_in_service_and_a_query_what_it_says(
    client: RegistryClient, crowd: Crowd
) -> None:
    await crowd.add(*names(4))
    await client.update_agent_health("a1", {"load_factor": 1.0})
    await client.suspend_agent("a2")
    answers = await client.scatter("RESEARCH", TOPIC, deadline=LONG)
    assert set(outcomes(answers)) == {"a0", "a1", "a3"}
    answers = await client.scatter(ServiceQuery(exclude={"a3"}, limit=1), TOPIC, deadline=LONG)
    assert set(outcomes(answers)) == {"a0"}, "a1 is too busy, and the limit does not count"


async def test_the_best_are_asked(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add(*names(5))
    for number, name in enumerate(names(5)):
        await client.update_agent_health(name, {"load_factor": number * 0.2})
    query = ServiceQuery(sort_by=SortBy.LOAD, max_load_factor=1.0)
    answers = await client.scatter(query, TOPIC, n=2, deadline=LONG)
    assert set(outcomes(answers)) == {"a0", "a1"}
    assert set(crowd.asked) == {"a0", "a1"}


@pytest.mark.parametrize(("quorum", "good"), [(1, 1), (3, 3), ("majority", 3), (0.6, 3)])
async def test_it_returns_once_the_quorum_is_met(client: RegistryClient, crowd: Crowd, quorum: Any, good: int) -> None:
    await crowd.add(*names(good))
    await crowd.add(*names(5 - good, "mute"), do=silent)
    before = subscriptions(client)
    answers = await client.scatter("research", TOPIC, quorum=quorum, deadline=LONG)
    assert (len(answers.good), answers.needed, answers.met) == (good, good, True)
    assert {str(each.outcome) for each in answers.missing} == {"pending"}
    assert len(answers.missing) == 5 - good
    assert all(each.seconds < LONG / 2 for each in answers.missing)
    assert subscriptions(client) == before


async def test_the_slow_are_named_at_the_deadline(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add("quick")
    await crowd.add("mute", do=silent)
    started = time.monotonic()
    answers = await client.scatter("research", TOPIC, deadline=1.0)
    assert 1.0 <= time.monotonic() - started < 5.0
    assert outcomes(answers) == {"quick": "answered", "mute": "timeout"}
    (late,) = answers.missing
    assert isinstance(late.error, UnavailableError)
    assert "no answer within 1 s; it may have begun" in late.error.message


async def test_a_quorum_that_is_not_met_says_what_came(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add("a")
    await crowd.add("b", "c", do=silent)
    with pytest.raises(QuorumError, match=r"1 good answer to 'check' of 3 asked; the quorum is 2 \(") as raised:
        await client.scatter("research", TOPIC, quorum=2, deadline=1.0)
    assert outcomes(raised.value.answers) == {"a": "answered", "b": "timeout", "c": "timeout"}
    assert not raised.value.answers.met
    assert "b: no answer within 1 s" in raised.value.message


async def test_it_gives_up_as_soon_as_the_quorum_cannot_be_met(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add("mute", do=silent)
    await crowd.add("a", "b", do=InvalidRequestError("x: is wrong"))
    async with asyncio.timeout(LONG / 2):
        with pytest.raises(QuorumError, match=r"answered invalid_request \(400\): x: is wrong") as raised:
            await client.scatter("research", TOPIC, quorum=2, deadline=LONG)
    assert outcomes(raised.value.answers) == {"mute": "pending", "a": "error", "b": "error"}


async def test_those_who_were_not_to_be_asked_do_not_put_off_giving_up(client: RegistryClient, crowd: Crowd) -> None:
    """They take the place of somebody who has not begun, and of nobody else."""
    await crowd.add("mute", do=silent, tags=["first"])
    await crowd.add("a", do=InvalidRequestError("x: is wrong"), tags=["first"])
    await crowd.add(*names(2, "spare"))
    async with asyncio.timeout(LONG / 2):
        with pytest.raises(QuorumError, match="x: is wrong") as raised:
            await client.scatter(ServiceQuery(prefer_tags={"first"}), TOPIC, n=2, quorum=2, deadline=LONG)
    assert outcomes(raised.value.answers) == {"mute": "pending", "a": "error"}


async def test_too_few_are_not_asked_at_all(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add("a", "b")
    for wanted in ({"quorum": 3}, {"quorum": "majority", "n": 5}):
        with pytest.raises(QuorumError, match="of 0 asked; the quorum is 3"):
            await client.scatter("research", TOPIC, deadline=LONG, **wanted)
    assert not crowd.asked


async def test_an_error_is_that_agents_alone(client: RegistryClient, crowd: Crowd) -> None:
    async def mumble(msg: Msg) -> None:
        await crowd.nc.publish(msg.reply, b"hello")

    async def nothing(msg: Msg) -> None:
        await crowd.nc.publish(msg.reply, b"")

    async def miscount(msg: Msg) -> None:
        await crowd.nc.publish(msg.reply, b"", headers={"Nats-Service-Error-Code": "²"})

    await crowd.add("good")
    await crowd.add("miscounts", do=miscount)
    await crowd.add("mumbles", do=mumble)
    await crowd.add("empty", do=nothing)
    answers = await client.scatter("research", TOPIC, deadline=LONG)
    said = {"good": "answered", "mumbles": "error", "empty": "answered", "miscounts": "error"}
    assert outcomes(answers) == said
    errors = {answer.agent_id: answer.error for answer in answers.missing}
    assert isinstance(errors["mumbles"], AgentCallError)
    assert "not JSON" in errors["mumbles"].message
    assert isinstance(errors["miscounts"], AgentCallError)
    assert (errors["miscounts"].status, errors["miscounts"].code) == (500, "²")


async def test_who_is_not_there_is_known_at_once_and_reported(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add("a")
    await crowd.add("dead", absent=True)
    answers = await client.scatter("research", TOPIC, deadline=LONG)
    assert outcomes(answers) == {"a": "answered", "dead": "no_responders"}
    (dead,) = answers.missing
    assert isinstance(dead.error, NotBegunError)

    async def is_reported() -> bool:
        found = await client.get_agent_info("dead")
        assert found is not None
        assert found.evidence is not None
        return found.evidence.problem == "check: nobody listens"

    await eventually(is_reported)


async def test_the_next_best_takes_the_place_of_one_that_has_not_begun(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add("full", do=OverloadedError("I am full"), tags=["first"])
    await crowd.add("dead", absent=True, tags=["first"])
    await crowd.add("wrong", do=InvalidRequestError("x: is wrong"), tags=["first"])
    await crowd.add(*names(4))
    query = ServiceQuery(prefer_tags={"first"})
    answers = await client.scatter(query, TOPIC, n=5, deadline=LONG)
    asked = outcomes(answers)
    assert {asked.pop(name) for name in names(4)} == {"answered"}
    assert asked == {"full": "error", "dead": "no_responders", "wrong": "error"}
    assert [each.not_begun for each in answers.missing if each.agent_id == "wrong"] == [False], "it did begin"
    crowd.asked.clear()
    assert len((await client.scatter(query, TOPIC, n=3, quorum=2, deadline=LONG)).good) == 2


async def test_an_agent_that_has_just_registered_is_asked_again(
    client: RegistryClient, crowd: Crowd, patient: None
) -> None:
    """It takes requests a moment later."""
    await crowd.add("late", absent=True)
    asking = asyncio.create_task(client.scatter("research", TOPIC, deadline=LONG))
    await asyncio.sleep(0.1)
    await crowd.listen("late")
    assert outcomes(await asking) == {"late": "answered"}


async def test_half_of_them_die_while_they_are_asked(client: RegistryClient, crowd: Crowd) -> None:
    """Those that had begun are late, those that had not are known to be gone, and the others count."""
    await crowd.add(*names(100))
    await crowd.add(*names(100, "b"), do=silent)
    asking = asyncio.create_task(client.scatter("research", TOPIC, deadline=2.0))
    await eventually(lambda: sum(crowd.asked.values()) == 200)
    await crowd.leave(names(100, "b"))
    answers = await asking
    assert {answer.agent_id for answer in answers.good} == {*names(100)}
    assert {str(each.outcome) for each in answers.missing} == {"timeout"}
    quorum = await client.scatter("research", TOPIC, quorum=0.5, deadline=LONG)
    assert len(quorum.good) == 100


async def test_an_answer_counts_once_and_in_nobody_elses_name(client: RegistryClient, crowd: Crowd, nc: Client) -> None:
    """Who knows where he answers to himself does not know where others do."""

    async def cheat(msg: Msg) -> None:
        inbox = msg.reply.rpartition(".")[0]
        for reply in (msg.reply, msg.reply, f"{inbox}.honest", f"{inbox}.0", f"{inbox}.1"):
            await nc.publish(reply, encode("yes"))

    await crowd.add("cheat", do=cheat)
    await crowd.add("honest", do=silent)
    answers = await client.scatter("research", TOPIC, deadline=1.0)
    assert outcomes(answers) == {"cheat": "answered", "honest": "timeout"}


async def test_answers_come_as_they_come(client: RegistryClient, crowd: Crowd) -> None:
    may_answer = asyncio.Event()

    async def slow(msg: Msg) -> None:
        await may_answer.wait()
        await crowd.nc.publish(msg.reply, b"2")

    await crowd.add("quick")
    await crowd.add("slow", do=slow)
    before = subscriptions(client)
    async with asyncio.timeout(LONG / 2), aclosing(client.answers("research", TOPIC, deadline=LONG)) as answers:
        assert (await anext(answers)).agent_id == "quick"
        may_answer.set()
        assert (await anext(answers)).value == 2
        assert [each async for each in answers] == []
    async with asyncio.timeout(LONG / 2), aclosing(client.answers("research", TOPIC, deadline=LONG)) as answers:
        await anext(answers)
    assert subscriptions(client) == before, "who leaves early leaves nothing behind"


async def test_what_came_in_time_counts_however_late_it_is_read(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add(*names(3))
    await crowd.add("mute", do=silent)
    read = []
    async with aclosing(client.answers("research", TOPIC, deadline=1.0)) as answers:
        async for answer in answers:
            if not read:
                await asyncio.sleep(1.1)
            read.append(answer)
    assert [str(answer.outcome) for answer in read] == ["answered"] * 3 + ["timeout"]


async def test_cancelling_leaves_nothing_behind(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add("mute", do=silent)
    before = subscriptions(client)
    asking = asyncio.create_task(client.scatter("research", TOPIC, deadline=LONG))
    await eventually(lambda: crowd.asked["mute"] == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert subscriptions(client) == before
    assert not client._connection._link._listeners - {client._connection._on_link}


async def test_it_ends_when_its_client_is_closed(nats_server: NatsServer, crowd: Crowd) -> None:
    await crowd.add("mute", do=silent)
    client = RegistryClient(nats_server.url)
    await client.connect()
    asking = asyncio.create_task(client.scatter("research", TOPIC, deadline=LONG))
    await eventually(lambda: crowd.asked["mute"] == 1)
    await client.close()
    async with asyncio.timeout(LONG / 2):
        with pytest.raises(UnavailableError, match="is closed"):
            await asking


async def test_answers_after_nats_was_restarted_still_count(server: Server) -> None:
    """The agent works on meanwhile, and where it answers to is heard again."""
    await server.start()
    agent, may_answer = Agent("worker", ["research"], nats=server.url), asyncio.Event()
    begun = asyncio.Event()

    @agent.handle(TOPIC)
    async def check(request: dict[str, Any]) -> int:
        begun.set()
        await may_answer.wait()
        return 42

    async with serving(server.url), agent, RegistryClient(server.url) as client:
        asking = asyncio.create_task(client.scatter("research", TOPIC, quorum=1, deadline=LONG))
        await begun.wait()
        await server.kill()
        for connection in (client._connection, agent._connection):
            await eventually(lambda connection=connection: not connection.is_connected)
        with pytest.raises(UnavailableError):
            await client.scatter("research", TOPIC, deadline=0.2)
        await server.start()
        for connection in (client._connection, agent._connection):
            await eventually(lambda connection=connection: connection.is_connected)
        may_answer.set()
        assert (await asking).values == [42]


async def test_without_a_registry_nobody_is_found(client: RegistryClient, registry: Replica, crowd: Crowd) -> None:
    await crowd.add("a")
    await registry.stop()
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"agents cannot be found within 0.3 s"):
        await client.scatter("research", TOPIC, deadline=0.3)
    assert time.monotonic() - started < 5.0
    assert not crowd.asked


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"topic": "check.*"}, "topic: must be one or more tokens joined by dots"),
        ({"topic": ""}, "topic: must be one or more tokens"),
        ({"n": 0}, "n: must be at least 1; got 0"),
        ({"n": 1001}, "n: must be at most 1000; got 1001"),
        ({"deadline": 0.0}, "deadline: must be above 0; got 0.0"),
        ({"deadline": float("inf")}, "deadline: must be"),
        ({"quorum": "most"}, "quorum: must be a whole number"),
        ({"n": 2, "quorum": 3}, "quorum: must be at most n"),
        ({"payload": {"x": object()}}, "payload: must be JSON"),
        ({"payload": {"x": float("nan")}}, "x: must be a finite number"),
        ({"query": "no such thing"}, "capabilities"),
    ],
)
async def test_what_is_wrong_is_named_and_nobody_asked(
    client: RegistryClient, crowd: Crowd, wrong: dict[str, Any], message: str
) -> None:
    await crowd.add("a")
    given = {"query": "research", "topic": TOPIC, **wrong}
    with pytest.raises(InvalidRequestError, match=message):
        await client.scatter(**given)
    assert not crowd.asked


async def test_what_is_too_large_is_refused(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add(*names(3))
    before = subscriptions(client)
    for ask in (client.scatter, client.broadcast):
        with pytest.raises(PayloadTooLargeError):
            await ask("research", TOPIC, {"x": "x" * 2**20})
    assert not crowd.asked
    assert subscriptions(client) == before


async def test_more_than_a_listing_has_are_not_called_all(client: RegistryClient) -> None:
    async def discover(query: ServiceQuery) -> Listing:
        return Listing([AgentInfo("a", "t", set())] * query.limit, 1001, 1)

    with pytest.raises(InvalidRequestError, match=r"query: matches 1001 agents; at most 1000 can be reached at once"):
        await whom.whom(discover, "research", None, 1.0)
    assert len(await whom.whom(discover, "research", 1000, 1.0)) == 1000
    assert len(await whom.whom(discover, "research", 3, 1.0)) == 6


async def test_a_thousand_at_once(client: RegistryClient, nc: Client) -> None:
    async def answer(msg: Msg) -> None:
        await nc.publish(msg.reply, msg.subject.split(".")[1][1:].encode())

    await nc.subscribe(f"agent.*.{TOPIC}", cb=answer)
    await settle(nc)
    agents = [AgentInfo(name, "t", set(), registered_at=0.0) for name in names(1000)]
    question = Question(TOPIC, {"x": "x" * 1000}, None, "all", LONG)
    answers = await Scatter(client._connection, client._reports, agents, question).gather()
    assert sorted(answers.values) == [*range(1000)]


USERS = """
authorization { users = [
    { user: registry, password: r }
    { user: caller, password: c, permissions: { publish: { deny: ["agent.b.>"] } } }
] }
"""


async def test_what_nats_does_not_allow_is_no_fault_of_the_agent(server: Server) -> None:
    await server.start(USERS)
    url = server.url.replace("nats://", "nats://registry:r@")
    callers = url.replace("registry:r", "caller:c")
    async with serving(url), RegistryClient(url) as theirs, RegistryClient(callers) as ours:
        crowd = Crowd(theirs._connection.client, theirs)
        await crowd.add("a", "b")
        answers = await ours.scatter("research", TOPIC, deadline=1.0)
        assert outcomes(answers) == {"a": "answered", "b": "forbidden"}
        assert "does not allow this user to publish to agent.b.check" in str(answers.missing[0].error)
        crowd.asked.clear()
        with pytest.raises(ForbiddenError, match=r"publish to agent\.b\.check"):
            await ours.broadcast("research", TOPIC)
        await eventually(lambda: crowd.asked == {"a": 1})


async def test_a_broadcast_reaches_those_in_service_and_asks_for_nothing(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add(*names(120))
    await crowd.add("out")
    await crowd.add("other", capabilities=["trading"])
    await crowd.add("dead", absent=True)
    await client.suspend_agent("out")
    told = await client.broadcast("research", TOPIC, {"x": 1})
    assert {agent.agent_id for agent in told} == {*names(120), "dead"}, "whether anybody hears it is not known"
    await eventually(lambda: len(crowd.heard) == 120)
    assert crowd.heard == {name: {"x": 1} for name in names(120)}
    assert crowd.without_reply == 120


async def test_a_broadcast_to_nobody(client: RegistryClient) -> None:
    assert await client.broadcast("research", TOPIC) == []
    with pytest.raises(InvalidRequestError, match="topic"):
        await client.broadcast("research", "a b")


async def test_a_broadcast_that_is_lost_on_the_way_says_so(client: RegistryClient, crowd: Crowd, monkeypatch) -> None:
    await crowd.add(*names(3))
    publish, published = client._connection.publish, []

    async def break_off(subject: str, *rest: Any, **options: Any) -> None:
        if len(published) == 2:
            raise UnavailableError("there is no connection")
        published.append(subject)
        await publish(subject, *rest, **options)

    monkeypatch.setattr(client._connection, "publish", break_off)
    with pytest.raises(UnavailableError, match="there is no connection; 2 of 3 agents may have been told"):
        await client.broadcast("research", TOPIC)


async def test_who_cannot_be_asked_is_told_apart(client: RegistryClient, crowd: Crowd, monkeypatch) -> None:
    await crowd.add(*names(3))
    publish = client._connection.publish

    async def break_off(subject: str, *rest: Any, **options: Any) -> None:
        if subject == "agent.a1.check":
            raise UnavailableError("NATS takes nothing now")
        await publish(subject, *rest, **options)

    monkeypatch.setattr(client._connection, "publish", break_off)
    answers = await client.scatter("research", TOPIC, deadline=LONG)
    assert outcomes(answers) == {"a0": "answered", "a1": "unsent", "a2": "answered"}
    assert [each.outcome is Outcome.UNSENT for each in answers.missing] == [True]
