"""Orders in the bucket: what is written is read again, and what is none is told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.core.order import Order, Orders

ORDER = Order(
    order_id="o1",
    capability="vision",
    action="scale_down",
    observed={"agents": 5, "pending": 0, "mean_load": 0.1},
    desired=3,
    agents=("a", "b"),
    reason="mean load 0.10 is below 0.3, for 300 s",
    generation=4,
    attempt=2,
    issued_at=1_700_000_000.125,
    expires_at=1_700_000_120.125,
    epoch=3,
    policy_revision=17,
)


@pytest.mark.parametrize(
    "orders",
    [
        Orders(),
        Orders(4, ORDER),
        Orders(4, None, ORDER),
        Orders(4, ORDER).end("fulfilled", 1_700_000_060.5),
    ],
)
def test_read_again(orders: Orders):
    """The form in the bucket is JSON, and holds everything."""
    assert Orders.from_json(json.loads(json.dumps(orders.to_json()))) == orders


def form(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(json.dumps(Orders(4, ORDER).to_json()))
    whole["open"].update(changes)
    return whole


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"generation": 1},
        {**Orders().to_json(), "generation": -1},
        {**Orders().to_json(), "generation": True},
        {**Orders().to_json(), "open": "o1"},
        form(action="explode"),
        form(desired="3"),
        form(observed=None),
        form(observed={}),
        form(expires_at="soon"),
        form(agents=7),
    ],
    ids=str,
)
def test_no_orders(damaged: dict[str, Any]):
    """Whatever anybody may have written is a ValueError, and nothing else."""
    with pytest.raises(ValueError):
        Orders.from_json(damaged)


def test_unknown_fields_are_let_be():
    """What a newer version adds is no reason to refuse the rest."""
    assert Orders.from_json({**form(), "more": 1}) == Orders(4, ORDER)
