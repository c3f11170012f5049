"""The lease keeper: facts and instants in, orders out."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents_sdk.lease import CATCH_UP, EARLY_GAP, MISTAKEN_GAP, Lease, State
from agents_sdk.lease_facts import (
    Answered,
    Beat,
    Connected,
    Disconnected,
    Doubted,
    Drain,
    End,
    Failed,
    Granted,
    Leaving,
    Mistaken,
    Moved,
    Refused,
    Register,
    Released,
    Tick,
)
from agents_sdk.protocol.errors import (
    ERRORS,
    AlreadyRegisteredError,
    ForbiddenError,
    InternalError,
    NotFoundError,
    OverloadedError,
    StaleIncarnationError,
    UnavailableError,
)

INTERVAL = 30.0
STALE = StaleIncarnationError("replaced")
WEATHER = [UnavailableError("away"), OverloadedError("full"), InternalError("bug")]


def new_lease(chance: float = 0.5) -> Lease:
    return Lease(lambda: chance)


def held(now: float = 0.0, chance: float = 0.5, incarnation: int = 1) -> Lease:
    lease = new_lease(chance)
    lease.handle(Connected(), now)
    assert lease.handle(Tick(), now) == [Register()]
    assert lease.handle(Granted(incarnation, INTERVAL), now) == []
    return lease


def test_it_registers_as_soon_as_nats_is_there() -> None:
    lease = new_lease()
    assert lease.due == math.inf
    assert lease.handle(Tick(), 0.0) == []
    lease.handle(Connected(), 1.0)
    assert lease.due <= 1.0
    assert lease.handle(Tick(), 1.0) == [Register()]
    assert lease.state is State.REGISTERING
    assert lease.due == math.inf


def test_the_first_beat_comes_soon_and_the_next_ones_within_the_interval() -> None:
    lease = held()
    assert lease.due == pytest.approx(0.5 * CATCH_UP)
    assert lease.handle(Tick(), 0.5) == [Beat(1, 1, 1)]
    assert lease.due == pytest.approx(0.5 + INTERVAL * 0.95)
    assert lease.handle(Tick(), lease.due) == [Beat(1, 1, 2)]


def test_a_tick_that_is_too_early_does_nothing() -> None:
    lease = held()
    assert lease.handle(Tick(), lease.due - 0.001) == []


def test_a_short_interval_has_a_short_wait_for_the_first_beat() -> None:
    lease = new_lease(chance=0.99)
    lease.handle(Connected(), 0.0)
    lease.handle(Tick(), 0.0)
    lease.handle(Granted(1, 0.2), 0.0)
    assert lease.due <= 0.02


@pytest.mark.parametrize("error", WEATHER)
def test_a_registry_that_is_away_is_asked_again_and_again(error: Exception) -> None:
    lease = new_lease()
    lease.handle(Connected(), 0.0)
    now, waits = 0.0, []
    for _ in range(20):
        assert lease.handle(Tick(), now) == [Register()]
        assert lease.handle(Refused(error), now) == []  # type: ignore[arg-type]
        waits.append(lease.due - now)
        now = lease.due
    assert all(0.1 <= wait <= 5.0 for wait in waits)
    assert waits[-1] > waits[0]


@pytest.mark.parametrize(
    "kind", [kind for kind in ERRORS.values() if not isinstance(kind("x"), tuple(map(type, WEATHER)))]
)
def test_a_refusal_for_good_ends_it(kind: type[ForbiddenError]) -> None:
    lease = new_lease()
    lease.handle(Connected(), 0.0)
    lease.handle(Tick(), 0.0)
    error = kind("no")
    assert lease.handle(Refused(error), 0.0) == [End(error)]
    assert lease.state is State.ENDED
    assert lease.handle(Connected(), 1.0) == lease.handle(Tick(), 1.0) == []
    assert lease.due == math.inf


def test_an_agent_the_registry_has_forgotten_registers_again_and_counts_on() -> None:
    lease = held()
    lease.handle(Tick(), 1.0)
    assert lease.handle(Failed(1, NotFoundError("gone")), 1.1) == []
    assert lease.state is State.UNREGISTERED
    assert lease.due == pytest.approx(1.1 + 0.5 * CATCH_UP)
    assert lease.handle(Tick(), lease.due) == [Register()]
    lease.handle(Granted(1, INTERVAL), 2.0)
    # The registry may remember the sequence of this incarnation: starting at 1 would be taken for old beats.
    assert lease.handle(Tick(), lease.due) == [Beat(2, 1, 2)]


def test_a_replaced_agent_ends() -> None:
    lease = held()
    error = StaleIncarnationError("replaced")
    assert lease.handle(Failed(1, error), 1.0) == [End(error)]


def test_an_agent_that_is_taken_for_its_own_successor_registers_again() -> None:
    """Its registry has an older bucket again, in which it is of a newer incarnation."""
    lease = held()
    assert lease.handle(Mistaken(1, STALE), 1.0) == []
    assert lease.state is State.UNREGISTERED
    assert lease.due == pytest.approx(1.0 + 0.5 * CATCH_UP)
    assert lease.handle(Tick(), lease.due) == [Register()]
    lease.handle(Granted(2, INTERVAL), 20.0)
    assert lease.handle(Tick(), lease.due) == [Beat(2, 2, 1)]
    assert lease.handle(Mistaken(1, STALE), 20.0) == [], "an answer to a beat of an earlier registration"


def test_what_a_registration_did_not_clear_up_ends_it() -> None:
    lease = held()
    lease.handle(Mistaken(1, STALE), 1.0)
    lease.handle(Tick(), lease.due)
    lease.handle(Granted(2, INTERVAL), 20.0)
    assert lease.handle(Mistaken(2, STALE), 20.0 + MISTAKEN_GAP / 2) == [End(STALE)]


def test_the_same_mistake_may_come_up_another_day() -> None:
    lease = held()
    for n, now in enumerate((100.0, 200.0, 300.0), 1):
        assert lease.handle(Mistaken(n, STALE), now) == []
        lease.handle(Tick(), lease.due)
        lease.handle(Granted(n + 1, INTERVAL), now + 1.0)
    assert lease.state is State.HELD


def test_a_leaving_agent_clears_nothing_up() -> None:
    lease = held()
    lease.handle(Leaving(), 1.0)
    assert lease.handle(Mistaken(1, STALE), 2.0) == []
    assert lease.state is State.ENDED


@pytest.mark.parametrize("error", [NotFoundError("x"), StaleIncarnationError("x")])
def test_an_answer_to_a_beat_of_an_earlier_registration_says_nothing(error: Exception) -> None:
    lease = held()
    lease.handle(Failed(1, NotFoundError("gone")), 1.0)
    lease.handle(Tick(), lease.due)
    lease.handle(Granted(2, INTERVAL), 3.0)
    assert lease.handle(Failed(1, error), 3.1) == []  # type: ignore[arg-type]
    assert lease.state is State.HELD


def test_a_second_not_found_does_not_ask_for_a_second_registration() -> None:
    lease = held()
    lease.handle(Failed(1, NotFoundError("gone")), 1.0)
    assert lease.handle(Tick(), lease.due) == [Register()]
    assert lease.handle(Failed(1, NotFoundError("gone")), 2.0) == []
    assert lease.state is State.REGISTERING


@pytest.mark.parametrize("error", [*WEATHER, ForbiddenError("x"), AlreadyRegisteredError("x")])
def test_other_troubles_with_beats_are_weather(error: Exception) -> None:
    lease = held()
    lease.handle(Tick(), 1.0)
    due = lease.due
    assert lease.handle(Failed(1, error), 3.0) == []  # type: ignore[arg-type]
    assert (lease.state, lease.due) == (State.HELD, due)


def test_it_does_not_beat_while_nats_is_away_and_soon_after() -> None:
    lease = held()
    lease.handle(Tick(), 1.0)
    lease.handle(Disconnected(), 2.0)
    assert lease.due == math.inf
    assert lease.handle(Tick(), 100.0) == []
    lease.handle(Connected(), 100.0)
    assert 100.0 <= lease.due <= 100.0 + CATCH_UP
    assert lease.handle(Tick(), lease.due) == [Beat(1, 1, 2)]


def test_news_leave_early_but_not_at_any_rate() -> None:
    lease = held()
    lease.handle(Tick(), 1.0)
    lease.handle(Moved(), 1.01)
    assert lease.due == pytest.approx(1.0 + EARLY_GAP)
    lease.handle(Moved(), 1.02)
    assert lease.due == pytest.approx(1.0 + EARLY_GAP)
    lease.handle(Tick(), lease.due)
    lease.handle(Moved(), 20.0)
    assert lease.due == 20.0


def test_news_do_not_hurry_a_registration() -> None:
    lease = new_lease()
    lease.handle(Connected(), 0.0)
    assert lease.handle(Tick(), 0.0) == [Register()]
    lease.handle(Refused(UnavailableError("away")), 0.0)
    due = lease.due
    lease.handle(Moved(), 0.01)
    assert lease.due == due > 0.01


def test_news_never_put_a_beat_off() -> None:
    lease = held()
    lease.handle(Tick(), 1.0)
    due = lease.due
    lease.handle(Moved(), due - 0.001)
    assert lease.due <= due


def test_a_doubt_brings_a_beat_within_a_second() -> None:
    lease = held()
    lease.handle(Tick(), 1.0)
    lease.handle(Doubted(), 10.0)
    assert 10.0 <= lease.due <= 10.0 + CATCH_UP


def test_an_order_to_drain_that_was_lost_is_read_from_the_status_once() -> None:
    lease = held()
    assert lease.handle(Answered(1, "active"), 1.0) == []
    assert lease.handle(Answered(1, "deregistering", reserved=1), 1.5) == []  # what was assigned is still done
    assert lease.handle(Answered(1, "deregistering"), 2.0) == [Drain()]
    assert lease.handle(Answered(1, "deregistering"), 3.0) == []
    assert lease.handle(Answered(7, "deregistering"), 3.0) == []


def test_a_leaving_agent_beats_on_but_does_not_come_back() -> None:
    lease = held()
    lease.handle(Leaving(), 1.0)
    assert lease.handle(Tick(), lease.due) == [Beat(1, 1, 1)]
    assert lease.handle(Failed(1, NotFoundError("gone")), 2.0) == []
    assert lease.state is State.ENDED


def test_a_leaving_agent_that_was_just_forgotten_does_not_come_back() -> None:
    lease = held()
    lease.handle(Failed(1, NotFoundError("gone")), 1.0)
    lease.handle(Leaving(), 1.1)
    assert lease.state is State.ENDED
    assert lease.handle(Tick(), 1000.0) == []


def test_an_agent_that_leaves_while_it_registers_learns_the_outcome_and_asks_no_more() -> None:
    for fact, state in ((Granted(3, INTERVAL), State.HELD), (Refused(UnavailableError("away")), State.ENDED)):
        lease = new_lease()
        lease.handle(Connected(), 0.0)
        assert lease.handle(Tick(), 0.0) == [Register()]
        lease.handle(Leaving(), 1.0)
        assert lease.state is State.REGISTERING
        assert lease.handle(fact, 2.0) == []
        assert lease.state is state


def test_a_lease_given_up_is_over() -> None:
    lease = held()
    lease.handle(Released(), 1.0)
    assert lease.state is State.ENDED
    assert lease.handle(Tick(), 1000.0) == []


def test_uptime_is_the_share_of_time_registered_and_connected() -> None:
    lease = new_lease()
    assert lease.uptime(0.0) is None
    lease.handle(Connected(), 0.0)
    lease.handle(Tick(), 0.0)
    lease.handle(Granted(1, INTERVAL), 100.0)
    assert lease.uptime(100.0) == 100.0
    assert lease.uptime(110.0) == pytest.approx(100.0)
    lease.handle(Disconnected(), 130.0)
    assert lease.uptime(160.0) == pytest.approx(50.0)
    lease.handle(Connected(), 160.0)
    assert lease.uptime(220.0) == pytest.approx(75.0)


class AnyWeather(RuleBasedStateMachine):
    """Whatever happens, in whatever order: the rules of the lease hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.lease = Lease(lambda: 0.3)
        self.connected = False
        self.registering = False
        self.incarnation = 0
        self.beats: list[tuple[float, Beat]] = []
        self.ended = False

    def send(self, fact) -> None:
        for order in self.lease.handle(fact, self.now):
            assert not self.ended, "no order after the end"
            match order:
                case Register():
                    assert self.connected, "registers only where somebody may hear it"
                    assert not self.registering, "one registration at a time"
                    self.registering = True
                case Beat():
                    assert self.connected
                    assert not self.registering
                    assert order.incarnation == self.incarnation
                    self.beats.append((self.now, order))
                case End():
                    self.ended = True

    @rule(seconds=st.floats(0.0, 100.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.send(Tick())

    @rule()
    def time_passes_to_the_next_tick(self) -> None:
        if self.lease.due != math.inf:
            self.now = max(self.now, self.lease.due)
        self.send(Tick())

    @rule()
    def nats_comes(self) -> None:
        self.connected = True
        self.send(Connected())

    @rule()
    def nats_goes(self) -> None:
        self.connected = False
        self.send(Disconnected())

    @precondition(lambda self: self.registering)
    @rule(again=st.booleans(), interval=st.floats(0.1, 3600.0))
    def registration_succeeds(self, again: bool, interval: float) -> None:
        self.registering = False
        self.incarnation += again or not self.incarnation
        self.send(Granted(self.incarnation, interval))

    @precondition(lambda self: self.registering)
    @rule(error=st.sampled_from([*WEATHER, AlreadyRegisteredError("held")]))
    def registration_fails(self, error) -> None:
        self.registering = False
        self.send(Refused(error))

    @precondition(lambda self: self.beats)
    @rule(data=st.data(), error=st.sampled_from([*WEATHER, NotFoundError("x"), StaleIncarnationError("x"), None]))
    def a_beat_is_answered(self, data, error) -> None:
        _, beat = data.draw(st.sampled_from(self.beats))
        self.send(Answered(beat.grant, "active") if error is None else Failed(beat.grant, error))

    @precondition(lambda self: self.beats)
    @rule(data=st.data())
    def a_beat_is_refused_for_itself(self, data) -> None:
        _, beat = data.draw(st.sampled_from(self.beats))
        self.send(Mistaken(beat.grant, STALE))

    @rule(fact=st.sampled_from([Moved(), Doubted()]))
    def something_is_new(self, fact) -> None:
        self.send(fact)

    @invariant()
    def beats_count_up(self) -> None:
        assert [beat.seq for _, beat in self.beats] == list(range(1, len(self.beats) + 1))

    @invariant()
    def beats_keep_their_distance(self) -> None:
        for (earlier, one), (later, other) in zip(self.beats, self.beats[1:], strict=False):
            if one.grant == other.grant:
                assert later - earlier >= min(EARLY_GAP, 0.09) - 1e-9

    @invariant()
    def it_ends_only_for_a_reason(self) -> None:
        assert (self.lease.state is State.ENDED) == self.ended

    @invariant()
    def somebody_is_waited_for(self) -> None:
        """There is always something that will bring it on: time, an answer, or NATS."""
        if not self.ended:
            assert self.lease.due < math.inf or self.registering or not self.connected

    @invariant()
    def uptime_is_a_percentage(self) -> None:
        uptime = self.lease.uptime(self.now)
        assert uptime is None or 0.0 <= uptime <= 100.0


TestAnyWeather = AnyWeather.TestCase
TestAnyWeather.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
