"""Both policies meet every need and never hold a device twice; steering leaves premium ones to who needs them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.twin.steer.fleet import MixedFleet, Node, read_classes
from penstock.twin.steer.load import PROFILES, Order, orders_for, parse_profiles
from penstock.twin.steer.replay import Course, FirstFit, Penstock, Policy, replay

CLASSES = read_classes(None)
MIXED = MixedFleet(
    tuple(Node(f"h{one}", "H800", 8) for one in range(2))
    + tuple(Node(f"a{one}", "A100-SXM4-80GB", 8) for one in range(4))
    + tuple(Node(f"s{one}", "A10", 1) for one in range(24)),
    CLASSES,
    {},
)
CAPACITY = {"H800": 16, "A100-SXM4-80GB": 32, "A10": 24}
PROFILE_OF = {one.name: one for one in parse_profiles(PROFILES)}


class Watched:
    """A policy whose books are kept beside it."""

    def __init__(self, policy: Policy, judge: Penstock) -> None:
        self._policy, self._judge = policy, judge
        self._used = dict.fromkeys(CAPACITY, 0)
        self._on: dict[int, str] = {}

    def place(self, order: Order) -> str | None:
        found = self._policy.place(order)
        if found is not None:
            assert found in self._judge.classes_for(order)
            self._used[found] += order.gpus
            assert self._used[found] <= CAPACITY[found]
            self._on[order.number] = found
        return found

    def release(self, order: Order) -> None:
        self._policy.release(order)
        self._used[self._on.pop(order.number)] -= order.gpus


def course_of(name: str, load: float, seed: int) -> tuple[list[Order], Course]:
    orders = orders_for(tuple(PROFILE_OF.values()), None, gpus=72, load=load, hours=40, seed=seed)
    judge = Penstock(MIXED)
    policy = judge if name == "penstock" else FirstFit(MIXED, judge)
    return orders, replay(MIXED, Watched(policy, judge), judge, orders, 4 * 3600, 40 * 3600)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(["penstock", "first-fit"]), st.sampled_from([0.4, 1.2]), st.integers(1, 99))
def test_needs_are_met_and_nothing_is_held_twice(name: str, load: float, seed: int) -> None:
    orders, course = course_of(name, load, seed)
    assert course == course_of(name, load, seed)[1]
    for device_class, gpus in CAPACITY.items():
        held = sum(gpu_s for (held_on, _), gpu_s in course.gpu_s.items() if held_on == device_class)
        assert held <= gpus * 36 * 3600
    assert course.completed + course.waiting <= len(orders)


def test_steering_leaves_premium_devices_to_who_needs_them() -> None:
    _, blind = course_of("first-fit", 0.5, 1)
    _, ours = course_of("penstock", 0.5, 1)
    assert ours.premium_without_need_gpu_s < 0.5 * blind.premium_without_need_gpu_s


@pytest.mark.parametrize("make", [Penstock, lambda mixed: FirstFit(mixed, Penstock(mixed))])
def test_an_order_that_needs_links_stays_on_one_node(make: Callable[[MixedFleet], Policy]) -> None:
    policy = make(replace(MIXED, nodes=MIXED.nodes[2:4]))
    orders = [Order(number, 0, 5, 60, PROFILE_OF["training"]) for number in range(3)]
    assert [policy.place(order) for order in orders] == ["A100-SXM4-80GB", "A100-SXM4-80GB", None]
    policy.release(orders[0])
    assert policy.place(orders[2]) == "A100-SXM4-80GB"


def test_what_computes_ends_sooner_on_a_faster_class_and_what_does_not_runs_its_time() -> None:
    assert Order(0, 0, 1, 100, PROFILE_OF["training"]).duration_on(624) == 50
    assert Order(0, 0, 1, 100, PROFILE_OF["light"]).duration_on(624) == 100
