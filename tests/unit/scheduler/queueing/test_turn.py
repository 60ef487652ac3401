"""Whose turn it is, and that a share is never taken below itself, whatever the usage."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.scheduler.queueing.turn import ALL, BORROWING, STARVING, WITHIN, Guarantees, Order, in_turn

H100 = ("H100",)
TENANTS = ("a", "b", "c")


def order(number: int, queue: str, devices: int = 1, *, since_s: int = 0, expected_s: int = 60) -> Order:
    return Order(number, queue, devices * 1_000, H100, since_s, expected_s)


def turn(waiting: list[Order], shares: Guarantees, now_s: int = 100) -> list[tuple[int, int]]:
    return [(one.number, rank) for one, rank in in_turn(waiting, shares, now_s, starve_s=86_400)]


def test_shares_come_first_and_one_tenants_orders_are_not_all_within_one_share() -> None:
    shares = Guarantees({"H100": 8}, {"H100": [("a", 2)]})
    waiting = [order(0, "b/x"), order(1, "a/x"), order(2, "a/x"), order(3, "a/x")]
    assert turn(waiting, shares)[:2] == [(1, WITHIN), (2, WITHIN)]
    assert {rank for _, rank in turn(waiting, shares)[2:]} == {BORROWING}
    assert shares.trees["H100"].used("a") == 0  # nothing was really charged


def test_among_borrowers_the_shortest_comes_first_and_who_borrowed_much_later() -> None:
    shares = Guarantees({"H100": 8}, {"H100": [("a", 1)]})
    short, long = order(0, "b/x", expected_s=10), order(1, "b/x", expected_s=1_000)
    assert [number for number, _ in turn([long, short], shares)] == [0, 1]
    shares.charge(order(9, "b/x", 4))
    other = order(2, "c/x", expected_s=10)
    assert [number for number, _ in turn([short, other], shares)] == [2, 0]


def test_who_waited_too_long_comes_before_the_other_borrowers() -> None:
    shares = Guarantees({"H100": 8}, {"H100": [("a", 1)]})
    old = order(0, "b/x", 8, since_s=0, expected_s=100_000)
    new = order(1, "c/x", since_s=90_000, expected_s=1)
    assert turn([new, old], shares, 90_000) == [(0, STARVING), (1, BORROWING)]


def test_a_share_of_all_devices_and_one_of_a_class_both_count() -> None:
    shares = Guarantees({"H100": 4, "L40S": 4}, {ALL: [("a", 2)], "H100": [("b", 1)]})
    assert shares.entitled(order(0, "a/x"))
    assert shares.entitled(order(1, "b/x"))
    assert not shares.entitled(Order(2, "b/x", 1_000, ("L40S",), 0))


def test_shares_of_projects_above_their_tenants_are_left_out_and_lost_devices_break_nothing() -> None:
    shares = Guarantees({"H100": 1}, {"H100": [("a", 2), ("a/x", 2), ("a/y", 1), ("b", 3), ("b/z", 1)]})
    assert shares.trees["H100"].capacity == 5_000
    assert shares.trees["H100"].guaranteed("a/x") == 0
    assert shares.trees["H100"].guaranteed("b/z") == 1_000


amounts = st.lists(st.integers(0, 4), min_size=3, max_size=3)


@settings(max_examples=150, deadline=None)
@given(amounts, amounts, amounts, st.integers(1, 4))
def test_nobody_is_pushed_below_his_share(
    guaranteed: list[int], here: list[int], there: list[int], wanted: int
) -> None:
    shares = Guarantees({"H100": 12}, {"H100": list(zip(TENANTS, guaranteed, strict=True))})
    running = [
        order(0, f"{tenant}/{project}")
        for tenant, *counts in zip(TENANTS, here, there, strict=True)
        for project, count in zip("xy", counts, strict=True)
        for _ in range(count)
    ]
    for one in running:
        shares.charge(one)
    taker = order(99, "a/x", wanted)
    gone: list[Order] = []
    for victim in running:
        with shares.without(gone):
            if shares.may_take(taker, victim):
                gone.append(victim)
    with shares.without(gone):
        for tenant, share in zip(TENANTS, guaranteed, strict=True):
            before = sum(one.tenant == tenant for one in running)
            left = shares.trees["H100"].used(tenant) // 1_000
            assert left == before or left >= share
    assert all(one.tenant != "a" for one in gone)
    if gone:
        assert shares.entitled(taker)


def test_projects_of_one_tenant_take_from_each_other_only_what_is_borrowed() -> None:
    shares = Guarantees({"H100": 8}, {"H100": [("a", 8), ("a/x", 4), ("a/y", 4)]})
    for _ in range(8):
        shares.charge(order(0, "a/y"))
    assert not shares.entitled(order(1, "a/x", 5))
    assert shares.may_take(order(1, "a/x", 4), order(0, "a/y"))
    assert not shares.may_take(order(1, "a/y"), order(0, "a/y"))


@pytest.mark.parametrize("classes", [(), ("H100", "L40S")])
def test_an_open_order_is_within_a_share_of_any_class_it_may_get(classes: tuple[str, ...]) -> None:
    shares = Guarantees({"H100": 4}, {"H100": [("a", 1)]})
    assert shares.entitled(Order(0, "a/x", 1_000, classes, 0))
