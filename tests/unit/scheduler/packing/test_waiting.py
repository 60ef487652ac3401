"""Who waits, for how long, and who goes first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.scheduler.packing import waiting
from penstock.scheduler.packing.residual import NodeKind, Request
from penstock.scheduler.packing.waiting import WaitingRoom
from tests.support.packing import check_books, node_kinds, requests, table_of

ONE = NodeKind(320_000, 2_000_000, 1, 0)


def part(milli: int) -> Request:
    return Request(1_000, 1_000, 1, milli, 1)


def test_a_wasteful_request_lets_others_go_first_when_the_fleet_is_nearly_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "HOLD_ARRIVALS_MAX", 3)
    monkeypatch.setattr(waiting, "RETRY_EVERY", 1)
    table, (eight, whole) = table_of("penstock", [ONE] * 10, part(810), part(1_000))
    room = WaitingRoom(table)
    assert room.offer(eight) is not None  # the fleet is empty: nobody is held
    for _ in range(8):
        assert room.offer(whole) is not None
    assert room.offer(eight) is None  # 88 % taken, and it would waste 0.19 of the last device
    assert (room.held, room.waiting) == (1, 1)
    assert room.offer(whole) is not None
    assert room.waiting == 1


def test_who_was_held_gets_in_after_the_longest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HOLD_ARRIVALS_MAX", 3)
    monkeypatch.setattr(waiting, "RETRY_EVERY", 1)
    table, (eight, whole, none) = table_of(
        "penstock", [ONE] * 10, part(810), part(1_000), Request(10, 10, 0, 0, 1)
    )
    room = WaitingRoom(table)
    for _ in range(9):
        assert room.offer(whole) is not None
    assert room.offer(eight) is None
    waits = []
    for _ in range(4):
        assert room.offer(none) is not None
        waits.append(room.waiting)
    assert waits == [1, 1, 0, 0]


def test_the_largest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "RETRY_EVERY", 1_000)
    table, (small, whole) = table_of("first-fit", [ONE, ONE], part(400), part(1_000))
    room = WaitingRoom(table)
    first, second = room.offer(whole), room.offer(whole)
    assert first is not None
    assert second is not None
    assert room.offer(small) is None
    assert room.offer(whole) is None
    table.release(whole, first)  # somebody leaves
    room.retry()
    assert table.residuals.used_milli == 2_000
    assert room.waiting == 1


def test_a_full_waiting_room_turns_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WAITING_MAX", 2)
    table, (whole,) = table_of("first-fit", [ONE], part(1_000))
    room = WaitingRoom(table)
    for _ in range(5):
        room.offer(whole)
    assert (room.waiting, room.turned_away) == (2, 2)


@settings(max_examples=30, deadline=None)
@given(nodes=st.lists(node_kinds, min_size=1, max_size=5), coming=st.lists(requests, min_size=1, max_size=40))
def test_nobody_is_lost_and_nothing_is_oversubscribed(nodes: list[NodeKind], coming: list[Request]) -> None:
    table, rows = table_of("penstock", nodes, *coming)
    room = WaitingRoom(table)
    for row in rows * 3:
        room.offer(row)
    claims = [(one.shape, one.placed.node, one.placed.devices) for one in room.holdings.claims.values()]
    assert len(claims) + room.waiting == 3 * len(rows)
    check_books(table, claims)
    assert room.moved_milli <= 0.05 * table.residuals.capacity_milli + 8_000
