"""The life of an agent: the whole transition table, and the bounds of health."""

from __future__ import annotations

from itertools import product

import pytest

from registry.core.status import DISCOVERABLE, FAIR, HEALTHY, TRANSITIONS, Cause, Status, move

TABLE = """
               register  health_good  health_fair  health_poor  suspend    resume  drain          lost
registering    active    -            -            -            -          -       -              -
active         active    active       degraded     suspended    suspended  -       deregistering  offline
degraded       active    active       degraded     suspended    suspended  -       deregistering  offline
suspended      active    active       degraded     suspended    suspended  active  deregistering  offline
deregistering  active    -            -            -            -          -       -              offline
offline        active    -            -            -            -          -       -              -
"""
"""What each cause makes of each status; `-` is a pair that does not move an agent."""

LIFTS_A_HOLD = {Cause.RESUME, Cause.DRAIN, Cause.LOST}


def expected() -> dict[tuple[Status, Cause], Status]:
    head, *rows = (line.split() for line in TABLE.strip().splitlines())
    return {
        (Status(row[0]), Cause(cause)): Status(row[0]) if cell == "-" else Status(cell)
        for row in rows
        for cause, cell in zip(head, row[1:], strict=True)
    }


EXPECTED = expected()


def test_the_table_here_is_complete():
    """Every status meets every cause."""
    assert set(EXPECTED) == set(product(Status, Cause))


@pytest.mark.parametrize(("status", "cause"), list(product(Status, Cause)))
def test_move(status: Status, cause: Cause):
    """A cause moves a status as the table says, and a pair that is not in it leaves the status as it is."""
    assert move(status, False, cause) is EXPECTED[status, cause]


@pytest.mark.parametrize(("status", "cause"), list(product(Status, Cause)))
def test_move_held(status: Status, cause: Cause):
    """Of an agent that an operator holds, only resuming, draining and losing it move the status; and it comes back."""
    if cause is Cause.REGISTER:
        assert move(status, True, cause) is Status.SUSPENDED
    else:
        assert move(status, True, cause) is (EXPECTED[status, cause] if cause in LIFTS_A_HOLD else status)


def test_no_arrow_without_effect_but_of_a_status_to_itself():
    """The code's table has an arrow for exactly the pairs that are legal."""
    legal = {pair for pair in EXPECTED if pair[0] is not EXPECTED[pair]}
    to_itself = {pair for pair in TRANSITIONS if TRANSITIONS[pair] is pair[0]}
    assert set(TRANSITIONS) == legal | to_itself


def test_every_status_but_the_first_is_reached_and_left():
    """No status is a dead end, and none but REGISTERING can only be begun with."""
    moves = {(status, after) for (status, _), after in EXPECTED.items() if status is not after}
    assert {status for status, _ in moves} == set(Status)
    assert {after for _, after in moves} == set(Status) - {Status.REGISTERING}


def test_discoverable():
    """Active and degraded agents are found, all others never are."""
    assert {Status.ACTIVE, Status.DEGRADED} == DISCOVERABLE


def test_bounds():
    """The bounds are the contract's."""
    assert (HEALTHY, FAIR) == (0.8, 0.5)
