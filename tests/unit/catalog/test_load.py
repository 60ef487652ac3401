"""Replicas that follow the load: how many an order begins with, and what so many hold."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.catalog.load import LOAD_FIELDS, first_count, times
from penstock.catalog.replica import ReplicaOrder
from penstock.domain.autoscale import FIELDS
from penstock.domain.claim import Ask
from penstock.domain.quota import Measure
from penstock.rating.estimate import GpuOrder


def test_the_form_has_every_field_of_the_policy() -> None:
    assert set(LOAD_FIELDS) == set(FIELDS)
    assert all(field["title"] and field["x-group"] for field in LOAD_FIELDS.values())


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ({"replicas": 3}, 3),
        ({"replicas": 3, "replicas_max": 2}, 2),
        ({"replicas": 1, "replicas_min": 0}, 1),
        ({"replicas": 1, "replicas_min": 2, "replicas_max": 4}, 2),
    ],
)
def test_an_order_begins_with_at_least_one_and_within_its_bounds(spec: dict[str, int], count: int) -> None:
    assert first_count(spec) == count


def test_bounds_that_exclude_each_other_are_refused_by_their_field() -> None:
    with pytest.raises(InvalidInputError) as refused:
        first_count({"replicas": 1, "replicas_min": 3, "replicas_max": 2})
    assert refused.value.field == "spec.replicas_max"


def test_so_many_replicas_hold_and_cost_so_many_times_as_much() -> None:
    one = ReplicaOrder(Ask(count=2), {(Measure.DEVICES, "H100"): 2}, (GpuOrder("H100", 2, 0, 8),))
    three = times(one, 3)
    assert three.holds == {(Measure.DEVICES, "H100"): 6}
    assert [order.count for order in three.gpu_orders] == [6]
    assert times(one, 0).gpu_orders == (), "none costs nothing"
