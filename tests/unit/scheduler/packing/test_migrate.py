"""Small claims move when that lets a request for whole devices in; otherwise nothing changes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.limits import MIGRATIONS_PER_REQUEST_MAX
from penstock.scheduler.packing.migrate import Holdings, make_room
from penstock.scheduler.packing.residual import NodeKind, Request
from penstock.scheduler.packing.table import CostTable, Placed
from tests.support.packing import check_books, node_kinds, requests, table_of

TWO = NodeKind(32_000, 200_000, 2, 0)


def part(milli: int, cpu: int = 1_000) -> Request:
    return Request(cpu, 1_000, 1, milli, 1)


def whole(devices: int = 1, cpu: int = 1_000) -> Request:
    return Request(cpu, 1_000, devices, 1_000, 1)


def held(table: CostTable, *places: tuple[int, Placed]) -> Holdings:
    """Return the holdings after ``places`` (shape, place) were claimed."""
    holdings = Holdings(table)
    for shape, placed in places:
        table.restore(shape, placed)
        holdings.add(shape, placed)
    return holdings


def books(holdings: Holdings) -> list[tuple[int, int, tuple[int, ...]]]:
    return [(one.shape, one.placed.node, one.placed.devices) for one in holdings.claims.values()]


def test_a_small_claim_moves_for_a_whole_device() -> None:
    table, (small, mid, one) = table_of("penstock", [TWO, TWO], part(200), part(700), whole())
    full = [(mid, Placed(0, (0,))), (mid, Placed(0, (1,))), (mid, Placed(1, (0,))), (small, Placed(1, (1,)))]
    holdings = held(table, *full)
    assert table.place(one) is None
    room = make_room(holdings, one)
    assert room is not None
    assert (room.placed, room.migrations, room.moved_milli) == (Placed(1, (1,)), 1, 200)
    check_books(table, books(holdings))


def test_what_has_nowhere_to_go_stays() -> None:
    table, (small, big, one) = table_of("penstock", [TWO], part(200), part(900), whole())
    holdings = held(table, (small, Placed(0, (0,))), (big, Placed(0, (1,))))
    before = table.costs.copy()
    assert make_room(holdings, one) is None
    assert (table.costs == before).all()
    check_books(table, books(holdings))


def test_half_of_what_is_gained_is_the_most_that_moves() -> None:
    table, (large, one) = table_of("penstock", [TWO, TWO], part(600), whole())
    holdings = held(
        table,
        (large, Placed(0, (0,))),
        (one, Placed(0, (1,))),
        (one, Placed(1, (0,))),
        (large, Placed(1, (1,))),
    )
    assert make_room(holdings, one) is None


def test_only_parts_move_and_only_for_whole_devices() -> None:
    table, (small, one) = table_of("penstock", [TWO, TWO], part(200), whole())
    holdings = held(table, *((one, Placed(node, (device,))) for node in (0, 1) for device in (0, 1)))
    assert make_room(holdings, one) is None
    assert make_room(holdings, small) is None


def test_a_group_gets_several_devices_of_one_node() -> None:
    four = NodeKind(64_000, 200_000, 4, 0)
    table, (small, mid, pair) = table_of("penstock", [four, four], part(100), part(600), whole(2))
    holdings = held(
        table,
        *((mid, Placed(0, (device,))) for device in range(4)),
        *((mid, Placed(1, (device,))) for device in (0, 1)),
        *((small, Placed(1, (device,))) for device in (2, 3)),
    )
    room = make_room(holdings, pair)
    assert room is not None
    assert (room.placed.node, sorted(room.placed.devices), room.migrations) == (1, [2, 3], 2)
    check_books(table, books(holdings))


@settings(max_examples=40, deadline=None)
@given(nodes=st.lists(node_kinds, min_size=1, max_size=5), coming=st.lists(requests, min_size=2, max_size=40))
def test_whatever_happens_the_books_balance(nodes: list[NodeKind], coming: list[Request]) -> None:
    table, rows = table_of("penstock", nodes, *coming)
    holdings = Holdings(table)
    for row in rows:
        placed = table.place(row)
        if placed is not None:
            holdings.add(row, placed)
            continue
        number = len(holdings.claims)
        room = make_room(holdings, row)
        assert len(holdings.claims) == number + (room is not None)
        if room is not None:
            assert 0 < room.migrations <= MIGRATIONS_PER_REQUEST_MAX
            assert room.moved_milli * 2 <= table.requests[row].devices * 1_000
        check_books(table, books(holdings))
        fresh = Holdings(table)
        for one in holdings.claims.values():
            fresh.add(one.shape, one.placed)
        assert (fresh.cost_milli == holdings.cost_milli).all()
