"""Models of other systems' rules, against the worked examples of their documentation and of their own tests."""

from __future__ import annotations

import pytest

from tests.simulation.scaling.hpa import Behaviour, by_average, by_total
from tests.simulation.scaling.knative import UTILIZATION, Autoscaler
from tests.simulation.scaling.plain import Thresholds
from tests.simulation.scaling.rule import Seen
from tests.simulation.scaling.shapes import steady


def test_an_hpa_doubles_at_twice_the_target_and_halves_at_half_of_it():
    # "if the current metric value is 200m, and the desired value is 100m, the number of replicas will be doubled"
    assert by_average(4, [0.2] * 4, missing=0, unready=0, target=0.1) == 8
    assert by_average(4, [0.05] * 4, missing=0, unready=0, target=0.1) == 2


def test_an_hpa_of_fifty_at_ninety_of_seventy_five_percent_asks_for_sixty():
    # kubernetes.io/blog/2025/04/28/kubernetes-v1-33-hpa-configurable-tolerance
    assert by_average(50, [0.9] * 50, missing=0, unready=0, target=0.75) == 60


@pytest.mark.parametrize("load", [0.45, 0.5, 0.55])
def test_an_hpa_does_nothing_within_a_tenth_of_the_target(load):
    assert by_average(7, [load] * 7, missing=0, unready=0, target=0.5) == 7


@pytest.mark.parametrize(
    ("loads", "unready", "wanted"),
    [([0.3, 0.5, 0.7], 0, 5), ([0.5, 0.7], 1, 4), ([0.4], 2, 3)],
    ids=["TestReplicaCalcScaleUp", "TestReplicaCalcScaleUpUnreadyLessScale", "TestReplicaCalcScaleUpUnreadyNoScale"],
)
def test_an_hpa_counts_who_is_not_ready_as_idle_when_it_scales_up(loads, unready, wanted):
    # replica_calculator_test.go
    assert by_average(3, loads, missing=0, unready=unready, target=0.3) == wanted


def test_an_hpa_counts_who_says_nothing_against_the_change():
    # At the target when it would scale down: (0.1 * 3 + 0.5) / 4 = 0.2 of 0.5, so 2 and not 1; idle when up.
    assert by_average(4, [0.1] * 3, missing=1, unready=0, target=0.5) == 2
    assert by_average(4, [0.8] * 3, missing=1, unready=0, target=0.5) == 5


def test_an_hpa_adds_four_or_as_many_as_there_are_within_15_s():
    behaviour = Behaviour(2)
    assert behaviour.follow(0.0, 2, 40) == 6
    assert behaviour.follow(10.0, 6, 40) == 6  # four were added within the last 15 s
    assert behaviour.follow(15.0, 6, 40) == 12
    assert behaviour.follow(30.0, 12, 40) == 24


def test_an_hpa_takes_away_what_nothing_within_five_minutes_asked_for():
    behaviour = Behaviour(20)
    assert behaviour.follow(100.0, 20, 12) == 20
    assert behaviour.follow(299.0, 20, 5) == 20
    assert behaviour.follow(301.0, 20, 5) == 12
    assert behaviour.follow(401.0, 12, 5) == 5


def test_keda_asks_for_as_many_as_the_queue_takes():
    # "if one pod can handle 10 messages, set the queue length target to 10. If the actual number of messages in the
    # queue is 30, the scaler scales to 3 pods."
    assert by_total(1, 30.0, 10.0) == 3
    assert by_total(10, 105.0, 10.0) == 10  # within the tolerance


def test_knative_keeps_seven_of_ten_in_each_pod():
    # config-autoscaler: "if a Revision specifies ContainerConcurrency of 10, then the Autoscaler will try to maintain 7
    # concurrent connections per pod"; and 100 of them take 15 pods.
    assert Autoscaler(10 * UTILIZATION).desired(0.0, ready=10, stable=70.0, panic=70.0) == 10
    assert Autoscaler(10 * UTILIZATION).desired(0.0, ready=10, stable=100.0, panic=100.0) == 15


def test_knative_panics_at_twice_as_much_and_takes_nothing_back_for_a_minute():
    scaler = Autoscaler(10.0)
    assert scaler.desired(0.0, ready=5, stable=50.0, panic=95.0) == 10  # as of 91, 10 pods are right, and 5 are there
    assert scaler.desired(2.0, ready=5, stable=55.0, panic=150.0) == 15
    assert scaler.desired(30.0, ready=15, stable=55.0, panic=60.0) == 15
    assert scaler.desired(62.0, ready=15, stable=55.0, panic=60.0) == 15
    assert scaler.desired(64.0, ready=15, stable=75.0, panic=60.0) == 8


def test_knative_does_not_panic_below_twice_as_much():
    assert Autoscaler(10.0).desired(0.0, ready=5, stable=50.0, panic=90.0) == 5


def test_knative_takes_away_half_at_most():
    assert Autoscaler(10.0).desired(0.0, ready=9, stable=5.0, panic=5.0) == 4


@pytest.mark.parametrize(("load", "desired"), [(0.81, 5), (0.8, None), (0.3, None), (0.29, 3)])
def test_thresholds_move_by_one_and_only_beyond_them(load, desired):
    order = Thresholds().begin(steady(1), 4).look(Seen(0.0, [load] * 4, silent=0, starting=0, queued=0))
    assert (None if order is None else order.desired) == desired
