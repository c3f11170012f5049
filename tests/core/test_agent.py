"""An agent's vitals: how reports are merged, how it is ranked, which bucket it is counted in."""

from __future__ import annotations

from math import isfinite

import pytest

from registry.core.agent import merge_metrics
from tests.core.make import make_agent


@pytest.mark.parametrize(
    ("known", "reported", "merged"),
    [
        pytest.param({}, {"uptime": 5.0}, {"uptime": 5.0}, id="first report"),
        pytest.param({"uptime": 5.0}, {"uptime": 9.0}, {"uptime": 9.0}, id="replaced"),
        pytest.param({"uptime": 5.0}, {"queue": 1.0}, {"uptime": 5.0, "queue": 1.0}, id="what is not reported is kept"),
        pytest.param({"uptime": 5.0}, {}, {"uptime": 5.0}, id="nothing reported"),
        pytest.param(
            {"requests_served": 10.0, "avg_response_time": 1.0},
            {"requests_served": 30.0, "avg_response_time": 4.0},
            {"requests_served": 30.0, "avg_response_time": 3.0},
            id="average weighted by the requests since",
        ),
        pytest.param(
            {"requests_served": 9.0, "avg_response_time": 1.0},
            {"avg_response_time": 2.0},
            {"requests_served": 9.0, "avg_response_time": 1.1},
            id="a report that does not say how many counts as one",
        ),
        pytest.param(
            {"avg_response_time": 1.0},
            {"avg_response_time": 2.0},
            {"avg_response_time": 2.0},
            id="no requests known: nothing to weigh against",
        ),
        pytest.param(
            {"requests_served": 0.0, "avg_response_time": 1.0},
            {"requests_served": 4.0, "avg_response_time": 2.0},
            {"requests_served": 4.0, "avg_response_time": 2.0},
            id="no requests before: nothing to weigh against",
        ),
        pytest.param(
            {"requests_served": 10.0},
            {"requests_served": 20.0, "avg_response_time": 2.0},
            {"requests_served": 20.0, "avg_response_time": 2.0},
            id="first average",
        ),
        pytest.param(
            {"requests_served": 100.0, "avg_response_time": 1.0, "success_rate": 0.9},
            {"requests_served": 3.0, "avg_response_time": 7.0},
            {"requests_served": 3.0, "avg_response_time": 7.0, "success_rate": 0.9},
            id="a total that went back begins the averages anew",
        ),
    ],
)
def test_merge_metrics(known: dict[str, float], reported: dict[str, float], merged: dict[str, float]):
    """`requests_served` is a total, `avg_*` are running averages weighted by it, every other metric is replaced."""
    before = dict(known)
    assert merge_metrics(known, reported) == pytest.approx(merged)
    assert known == before, "what was known is left as it was: records share it"


@pytest.mark.parametrize(("known", "reported"), [(1e300, 1e300), (1.7e308, -1.7e308), (-1.7e308, 1.7e308)])
def test_finite_reports_make_finite_averages(known: float, reported: float):
    """What is not finite has no JSON, and nobody could read the record that has it."""
    before = {"requests_served": 1e10, "avg_response_time": known}
    merged = merge_metrics(before, {"requests_served": 2e10, "avg_response_time": reported})
    assert isfinite(merged["avg_response_time"])


def test_merged_in_pieces_is_merged_at_once():
    """A running average does not depend on how often it is reported."""
    in_pieces: dict[str, float] = {"requests_served": 2.0, "avg_response_time": 1.0}
    for total, average in ((4.0, 3.0), (8.0, 5.0)):
        in_pieces = dict(merge_metrics(in_pieces, {"requests_served": total, "avg_response_time": average}))
    assert in_pieces["avg_response_time"] == pytest.approx((2 * 1.0 + 2 * 3.0 + 4 * 5.0) / 8)


@pytest.mark.parametrize(
    ("health", "load", "metrics", "score"),
    [
        (1.0, 0.0, {"success_rate": 1.0}, 1.0),
        (0.0, 1.0, {"success_rate": 0.0}, 0.0),
        (1.0, 1.0, {"success_rate": 0.0}, 0.4),
        (0.0, 0.0, {"success_rate": 0.0}, 0.3),
        (0.0, 1.0, {"success_rate": 1.0}, 0.3),
        (0.5, 0.5, {"success_rate": 0.5}, 0.5),
        (1.0, 0.0, {}, 0.85),
        (1.0, 0.0, {"success_rate": 7.0}, 1.0),
        (1.0, 0.0, {"success_rate": -7.0}, 0.7),
    ],
)
def test_performance(health: float, load: float, metrics: dict[str, float], score: float):
    """0.4 health + 0.3 (1 - load) + 0.3 success rate; an unknown rate counts half, a wrong one as its bound."""
    assert make_agent(health=health, load=load, metrics=metrics).performance == pytest.approx(score)


@pytest.mark.parametrize(
    ("health", "bucket"),
    [
        (1.0, "healthy"),
        (0.8, "healthy"),
        (0.79, "degraded"),
        (0.5, "degraded"),
        (0.49, "unhealthy"),
        (0.0, "unhealthy"),
    ],
)
def test_health_bucket(health: float, bucket: str):
    """`healthy` from 0.8 up, `degraded` from 0.5 up, `unhealthy` below."""
    assert make_agent(health=health).bucket() == bucket


def test_vitals_begin_with_the_record():
    """An agent that was not heard yet has what its record says."""
    agent = make_agent()
    fresh = type(agent)(agent.record, revision=7, heard=1.0, since=2.0, load_at=None)
    assert (fresh.health, fresh.load, fresh.metrics) == (1.0, 0.0, {})
    assert (fresh.revision, fresh.change_revision, fresh.seq) == (7, 7, -1)
