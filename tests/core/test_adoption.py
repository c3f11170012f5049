"""Services that know nothing of the registry become agents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from registry.core.adoption import RATE, SHUNNED_FOR, Adoption
from registry.core.effects import CallServices, DescribeService, MeasureService, ShareVitals
from registry.core.events import (
    ConnectionClosed,
    Outcome,
    RegisterRequested,
    Verb,
)
from registry.core.record import Record
from registry.core.rule import Rule, RuleKind
from registry.core.service import MICRO, SYNADIA, SYNADIA_SERVICE, Sample, Service, service_of
from registry.core.service_events import ServiceDescribed, ServiceMeasured, ServiceSeen
from registry.core.status import Status
from tests.core.make import make_record
from tests.core.shell import Shell, World

QUOTES = Service("quotes", "Q1")
PING = "$SRV.PING.quotes.Q1"
PLACE = {"server_id": "S", "client_id": 7}


@pytest.fixture
def world() -> Iterator[World]:
    world = World(adopt=(MICRO, SYNADIA))
    yield world
    world.check()


def seen(shell: Shell, service: Service = QUOTES, **fields: Any) -> None:
    shell.handle(ServiceSeen(shell.world.now, service, **fields))


def asked(shell: Shell, kind: type) -> list[Any]:
    """What was to be asked of services, of a kind; it is taken out."""
    found = [effect for effect in shell.services if isinstance(effect, kind)]
    shell.services = [effect for effect in shell.services if not isinstance(effect, kind)]
    return found


def described(shell: Shell, service: Service = QUOTES, protocol: str = MICRO, **fields: Any) -> None:
    """A service says what it is."""
    wanted = RegisterRequested(
        shell.world.now, None, None, service.name, **{"capabilities": ("quotes",), **fields},
        agent_id=service.id, instance_id=service.id, health_subject=service.subject("PING"),
        adopted={"protocol": protocol, "service": service.name, "endpoints": {}},
    )  # fmt: skip
    shell.handle(ServiceDescribed(shell.world.now, service.id, wanted))


def adopt(shell: Shell, service: Service = QUOTES, **fields: Any) -> None:
    """Let a service answer a call, and become an agent."""
    seen(shell, service)
    shell.world.advance(0.5)
    assert service in [effect.service for effect in asked(shell, DescribeService)]
    described(shell, service, **fields)


def status(shell: Shell, agent_id: str = "Q1") -> Status:
    return shell.state.agents[agent_id].status


# Calling.


@pytest.mark.parametrize(
    ("protocols", "names", "subjects"),
    [
        ((), ("*",), []),
        ((MICRO,), ("*",), ["$SRV.PING"]),
        ((MICRO,), ("quotes", "pay"), ["$SRV.PING.quotes", "$SRV.PING.pay"]),
        ((MICRO,), ("quotes", "pay-*"), ["$SRV.PING"]),
        ((SYNADIA,), ("*",), ["$SRV.PING.agents"]),
        ((MICRO, SYNADIA), ("*",), ["$SRV.PING"]),
        ((MICRO, SYNADIA), ("quotes", "agents"), ["$SRV.PING.quotes", "$SRV.PING.agents"]),
    ],
)
def test_whom_a_call_goes_to(protocols, names, subjects):
    """Nobody is called who is not adopted, as far as that can be said in a subject."""
    assert Adoption(protocols, names).calls() == subjects


@pytest.mark.parametrize(
    ("name", "protocols", "names", "protocol"),
    [
        ("quotes", (MICRO,), ("*",), MICRO),
        ("quotes", (MICRO,), ("pay", "quo*"), MICRO),
        ("quotes", (MICRO,), ("Quotes",), None),
        ("quotes", (SYNADIA,), ("*",), None),
        (SYNADIA_SERVICE, (SYNADIA,), ("*",), SYNADIA),
        (SYNADIA_SERVICE, (MICRO, SYNADIA), ("quotes",), SYNADIA),
        (SYNADIA_SERVICE, (MICRO,), ("*",), MICRO),
    ],
)
def test_as_what_a_service_is_adopted(name, protocols, names, protocol):
    assert Adoption(protocols, names).protocol_of(name) == protocol


def test_the_leader_calls_at_intervals(world: World, shell: Shell):
    world.advance(21)
    assert len(asked(shell, CallServices)) == 3


def test_a_follower_asks_nobody(world: World):
    shell = world.replica("two")
    seen(shell)
    world.advance(30)
    assert shell.services == []


def test_nothing_is_called_unless_asked_for():
    world = World()
    shell = world.replica("one", leading=True)
    seen(shell)
    world.advance(30)
    assert shell.services == []


def test_when_many_answer_they_are_called_less_often(world: World, shell: Shell):
    """A hundred answers a second, on average."""
    world.advance(0.5)
    for number in range(30 * RATE):
        seen(shell, Service("quotes", f"Q{number}"))
    shell.services.clear()
    world.advance(10)
    assert len(asked(shell, CallServices)) == 1
    world.advance(29)
    assert asked(shell, CallServices) == []
    world.advance(2)
    assert len(asked(shell, CallServices)) == 1


# Becoming an agent.


def test_a_service_becomes_an_agent(world: World, shell: Shell):
    adopt(shell, capabilities=("trading",), connection=PLACE)
    record = shell.state.agents["Q1"].record
    assert (record.agent_type, record.status, record.incarnation) == ("quotes", Status.ACTIVE, 1)
    assert service_of(record) == QUOTES
    assert shell.state.health_subject(record) == PING
    assert [event["reason"] for event in world.bucket.events("Q1")] == ["registered"]


def test_its_capabilities_need_not_be_known(world: World, shell: Shell):
    """Nobody changes a service for this deployment's vocabulary; who has one can then be asked for by it."""
    with pytest.raises(Exception, match="'quotes' is not known here"):
        shell.state.check_capabilities(["quotes"])
    adopt(shell, capabilities=("quotes",))
    shell.state.check_capabilities(["quotes"])
    assert shell.register("b", capabilities=("quotes",)).code == "invalid_request"


def test_a_rule_can_be_about_what_they_can_do(world: World, shell: Shell):
    rule = Rule("apart", RuleKind.COMBINATION, capabilities=("analysis", "quotes"))
    assert shell.set_rule(rule).code == "invalid_request"
    adopt(shell, capabilities=("quotes",))
    assert shell.set_rule(rule).code is None


@pytest.mark.parametrize("known", ["native", "offline"])
def test_an_id_that_somebody_registered_is_left_to_them(world: World, shell: Shell, known: str):
    shell.register("Q1", heartbeat_interval=1.0)
    if known == "offline":
        world.advance(10)
        assert status(shell) is Status.OFFLINE
    record = shell.state.agents["Q1"].record
    seen(shell)
    world.advance(0.5)
    assert asked(shell, DescribeService) == []
    described(shell)
    assert shell.state.agents["Q1"].record == record


def test_an_agent_that_registers_itself_is_no_stranger(world: World, shell: Shell):
    seen(shell, registers_itself=True)
    world.advance(1)
    assert asked(shell, DescribeService) == []


def test_others_take_an_id_as_ever(world: World, shell: Shell):
    """Who registers an adopted agent's id is told that it is held, if the service answers."""
    adopt(shell)
    reply = shell.register("Q1", instance_id="mine")
    assert [probe.subject for probe in shell.probes] == [PING]
    shell.answer(Outcome.ANSWERED, "Q1")
    world.advance(10)
    assert reply.code == "already_registered"
    taken = shell.register("Q1", instance_id="mine", takeover=True)
    assert taken["incarnation"] == 2
    assert shell.state.agents["Q1"].record.adopted is None
    assert "Q1" not in shell.state.adoption.agents
    seen(shell)
    assert asked(shell, DescribeService) == []


def test_one_that_cannot_be_adopted_is_asked_again_later(world: World, shell: Shell):
    seen(shell)
    world.advance(0.5)
    asked(shell, DescribeService)
    shell.handle(ServiceDescribed(world.now, "Q1", None))
    seen(shell)
    world.advance(1)
    assert asked(shell, DescribeService) == []
    world.advance(SHUNNED_FOR)
    seen(shell)
    world.advance(0.5)
    assert len(asked(shell, DescribeService)) == 1


@pytest.mark.parametrize("verb", [Verb.DEREGISTER, Verb.DRAIN])
def test_one_that_was_told_to_leave_is_left_alone(world: World, shell: Shell, verb: Verb):
    """It is still there, for it was told nothing that it understands."""
    adopt(shell)
    shell.command(verb, "Q1")
    world.advance(400)
    assert "Q1" not in shell.state.agents
    seen(shell)
    world.advance(SHUNNED_FOR)
    seen(shell)
    world.advance(1)
    assert asked(shell, DescribeService) == []


def test_a_suspended_one_stays_suspended(world: World, shell: Shell):
    adopt(shell)
    shell.command(Verb.SUSPEND, "Q1")
    seen(shell)
    assert status(shell) is Status.SUSPENDED


def test_newcomers_are_asked_a_few_at_a_time(world: World, shell: Shell):
    for number in range(500):
        seen(shell, Service("quotes", f"Q{number}"))
    shell.tick()
    assert len(asked(shell, DescribeService)) == RATE / 10
    for _ in range(20):  # nobody answers
        shell.tick()
    assert len(asked(shell, DescribeService)) == 64 - RATE / 10


# Living and dying.


def test_an_answer_to_a_call_is_a_sign_of_life(world: World, shell: Shell):
    adopt(shell, heartbeat_interval=1.0)
    for _ in range(10):
        world.advance(1)
        seen(shell)
    assert status(shell) is Status.ACTIVE
    assert shell.state.agents["Q1"].heard == world.now


def test_a_service_that_is_gone_and_comes_back(world: World, shell: Shell):
    """It did not answer when it was asked for its work; twice nobody is there. The way to it was cut, as it seems."""
    adopt(shell)
    seen(shell)
    world.advance(12)
    (turn,) = asked(shell, MeasureService)
    shell.handle(ServiceMeasured(world.now, "Q1", turn.incarnation, nobody=True))
    shell.answer(Outcome.NO_RESPONDERS, "Q1")
    shell.answer(Outcome.NO_RESPONDERS, "Q1")
    assert (status(shell), shell.state.agents["Q1"].record.status_reason) == (Status.OFFLINE, "no_responders")
    adopt(shell)
    assert status(shell) is Status.ACTIVE
    assert [event["to"] for event in world.bucket.events("Q1")] == ["active", "offline", "active"]


def test_the_end_of_its_connection_is_a_hint(world: World, shell: Shell):
    """Of every service that is there; one process may have several, and is one loss."""
    for number in range(4):
        adopt(shell, Service("quotes", f"Q{number}"), connection=PLACE)
    shell.handle(ConnectionClosed(world.now, "", "S", 7, "Client Closed"))
    assert sorted(probe.agent_id for probe in shell.probes) == ["Q0", "Q1", "Q2", "Q3"]
    assert not shell.state.protection.is_burst(world.now)
    shell.handle(ConnectionClosed(world.now, "", "S", 8, "Client Closed"))
    assert len(shell.probes) == 4


def test_one_that_connects_anew_is_looked_for(world: World, shell: Shell):
    """It answers, so it has another connection; to know that is no event."""
    adopt(shell, connection=PLACE)
    shell.handle(ConnectionClosed(world.now, "", "S", 7, "Read Error"))
    shell.answer(Outcome.ANSWERED, "Q1")
    seen(shell)
    world.advance(0.5)
    assert [effect.service for effect in asked(shell, DescribeService)] == [QUOTES]
    described(shell, connection={"server_id": "S", "client_id": 9})
    assert shell.state.adoption.at_connection("S", 9) == ["Q1"]
    assert shell.state.adoption.at_connection("S", 7) == []
    assert len(world.bucket.events("Q1")) == 1
    seen(shell)
    world.advance(0.5)
    assert asked(shell, DescribeService) == []


def test_a_connection_is_not_forgotten_when_nobody_tells_of_one(world: World, shell: Shell):
    """NATS servers that are busy for a second leave an agent's end to be found by probes, else, from then on."""
    adopt(shell, connection=PLACE)
    shell.state.adoption.stray()
    seen(shell)
    world.advance(0.5)
    assert [effect.service for effect in asked(shell, DescribeService)] == [QUOTES]
    described(shell, connection=None)
    assert shell.state.adoption.at_connection("S", 7) == ["Q1"]
    seen(shell)
    world.advance(0.5)
    assert asked(shell, DescribeService) == [], "once is enough"


def test_a_heartbeat_tells_every_replica(world: World, shell: Shell):
    other = world.replica("two")
    agent = Service(SYNADIA_SERVICE, "A1")
    adopt(shell, agent, protocol=SYNADIA, heartbeat_interval=1.0)
    for _ in range(8):
        world.advance(1)
        for each in (shell, other):
            seen(each, agent, is_beat=True, load_factor=0.5)
    assert status(shell, "A1") is Status.ACTIVE
    assert [each.state.agents["A1"].load for each in (shell, other)] == [0.5, 0.5]
    world.advance(10)
    assert status(shell, "A1") is Status.OFFLINE


# Work.


def test_load_and_success_follow_from_two_looks(world: World, shell: Shell):
    adopt(shell, max_concurrency=4)
    seen(shell)
    world.advance(12)
    assert [effect.service for effect in asked(shell, MeasureService)] == [QUOTES]
    start = world.now
    shell.handle(ServiceMeasured(start, "Q1", 1, Sample(start, 10, 0, 1.0)))
    (first,) = asked(shell, ShareVitals)
    assert (first.load_factor, first.metrics["success_rate"]) == (None, 1.0)
    shell.handle(ServiceMeasured(start + 10, "Q1", 1, Sample(start + 10, 30, 5, 21.0)))
    (second,) = asked(shell, ShareVitals)
    assert (second.load_factor, second.metrics["success_rate"]) == (0.5, 0.75)
    assert second.metrics["avg_response_time"] == 1.0


def test_the_load_of_a_synadia_agent_is_what_it_says(world: World, shell: Shell):
    """Its service counts the time in which a prompt is taken, not in which it is answered."""
    agent = Service(SYNADIA_SERVICE, "A1")
    adopt(shell, agent, protocol=SYNADIA)
    for after in (0, 10):
        shell.handle(ServiceMeasured(world.now, "A1", 1, Sample(world.now + after, after, 0, 0.0)))
    assert [effect.load_factor for effect in asked(shell, ShareVitals)] == [None, None]


def sample(at: float = 0.0, requests: int = 0, errors: int = 0, seconds: float = 0.0) -> Sample:
    return Sample(at, requests, errors, seconds)


@pytest.mark.parametrize(
    ("before", "after", "load", "success"),
    [
        (None, sample(0, 4, 1, 2.0), None, 0.75),
        (None, sample(), None, None),
        (sample(), sample(10, 0), 0.0, None),
        (sample(), sample(10, 5, 5, 20.0), 1.0, 0.0),
        (sample(0, 100, 0, 9.0), sample(10, 4, 0, 2.0), None, 1.0),
        (sample(0, 1, 0, 5.0), sample(10, 2, 0, 4.0), 0.0, 1.0),
        (sample(0, 1, 3, 0.0), sample(10, 2, 1, 4.0), 0.2, 1.0),
        (sample(5, 1), sample(5, 2), None, 1.0),
    ],
    ids=["first", "idle at first", "idle", "full", "started anew", "time went back", "errors went back", "at once"],
)
def test_what_follows_from_two_samples(before, after, load, success):
    found, metrics = after.since(before, concurrency=2)
    assert (found, metrics.get("success_rate")) == (load, success)
    assert metrics["requests_served"] == after.requests


def test_those_whose_turn_it_is_are_asked_a_few_at_a_time(world: World, shell: Shell):
    adoption = shell.state.adoption
    for number in range(5000):
        adoption.take_turns(f"Q{number}", world.now, 0.0)
    first = list(adoption.turns(world.now, 10))
    assert first == [f"Q{number}" for number in range(10)]
    assert list(adoption.turns(world.now, 10)) == [f"Q{number}" for number in range(10, 20)]
    for _ in range(498):
        assert len(list(adoption.turns(world.now, 10))) == 10
    assert list(adoption.turns(world.now + 49, 10)) == []
    assert list(adoption.turns(world.now + 50, 10)) == first


def test_who_is_gone_has_no_more_turns(world: World, shell: Shell):
    adopt(shell)
    seen(shell)
    shell.command(Verb.DEREGISTER, "Q1")
    world.advance(30)
    assert asked(shell, MeasureService) == []


def test_a_new_leader_begins_anew(world: World, shell: Shell):
    """It knows whom another one adopted, and their connections; it calls at once, and measures from the start."""
    other = world.replica("two")
    adopt(shell, connection=PLACE)
    shell.follow()
    other.lead()
    world.advance(0.5)
    assert len(asked(other, CallServices)) == 1
    seen(other)
    world.advance(12)
    assert [effect.service for effect in asked(other, DescribeService)] == [QUOTES], "its connection may be another one"
    assert len(asked(other, MeasureService)) >= 1
    assert other.state.adoption.at_connection("S", 7) == ["Q1"]


@pytest.mark.parametrize("service", [None, 5, "a.b", "", "x" * 200, "a b", ">"])
def test_a_record_that_somebody_wrote_by_hand_is_asked_nothing_harmful(service: Any):
    record: Record = make_record("Q1", adopted={"protocol": MICRO, "service": service, "endpoints": {}})
    found = service_of(record)
    assert found is None or found.is_named
