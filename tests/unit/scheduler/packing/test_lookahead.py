"""Penstock's own costs: one table of small cases an operator could predict."""

import numpy as np
import pytest

from penstock.scheduler.packing.attainable import LEVELS, UNIT
from penstock.scheduler.packing.lookahead import scarcity
from penstock.scheduler.packing.residual import NodeKind
from penstock.scheduler.packing.table import CostTable, Placed
from tests.support.packing import BIG, CPU_ONLY, SMALL, ask, lookahead_table, workload

WHOLE_UNIT = UNIT * len(LEVELS)


def waste(table: CostTable, row: int, node: int) -> float:
    """Return what the request would waste on a node, in devices: its cost less what it takes."""
    return int(table.costs[row, node]) / WHOLE_UNIT - int(table.shapes.total_milli[row]) / 1_000


def test_a_part_that_leaves_nothing_usable_wastes_the_rest() -> None:
    table, rows = lookahead_table([BIG], *[ask(milli=810, cpu=100)] * 5, *[ask(cpu=100)] * 5)
    assert waste(table, rows[0], 0) == pytest.approx(0.19, abs=0.01)
    assert waste(table, rows[-1], 0) == pytest.approx(0.0, abs=0.01)


def test_halves_share_a_device_before_a_second_one_is_cut() -> None:
    table, rows = lookahead_table([BIG, BIG], *[ask(milli=500)] * 4, *[ask()] * 4)
    places = [table.place(row) for row in rows[:4]]
    assert [(place.node, place.devices) for place in places if place] == [
        (0, (0,)),
        (0, (0,)),
        (0, (1,)),
        (0, (1,)),
    ]


def test_cpu_alone_goes_to_nodes_without_devices_then_to_those_with_cpu_to_spare() -> None:
    rich = NodeKind(104_000, 500_000, 2, 0)
    coming = [*[ask(cpu=11_000)] * 12, *[ask(0, cpu=30_000)] * 3]
    table, rows = lookahead_table([BIG, rich, CPU_ONLY], *coming)
    first, second = table.place(rows[-1]), table.place(rows[-1])
    assert first is not None
    assert second is not None
    assert (first.node, second.node) == (2, 1)


def test_groups_keep_whole_nodes_whole() -> None:
    coming = [*[ask(cpu=1_000)] * 20, *[ask(8, cpu=8_000)] * 5]
    table, rows = lookahead_table([BIG, BIG], *coming)
    nodes = {place.node for _ in range(8) if (place := table.place(rows[0])) is not None}
    assert len(nodes) == 1
    assert table.place(rows[-1]) is not None


def test_a_single_device_breaks_no_pair_while_an_odd_one_is_free() -> None:
    two, four = NodeKind(64_000, 256_000, 2, 0), NodeKind(64_000, 256_000, 4, 0)
    table, rows = lookahead_table([two, four], *[ask(cpu=1_000)] * 6, *[ask(2, cpu=2_000)] * 4)
    table.claim(rows[0], 1)  # three are left there: a pair and an odd one
    place = table.place(rows[0])
    assert place is not None
    assert place.node == 1  # though the other node is the fuller one


def test_models_that_others_insist_on_are_left_to_them() -> None:
    picky = [ask(cpu=1_000, models=1)] * 6
    kinds = [
        NodeKind(64_000, 256_000, 4, 0),
        NodeKind(64_000, 256_000, 4, 1),
        NodeKind(64_000, 256_000, 4, 2),
    ]
    table, rows = lookahead_table(kinds, *picky, *[ask(cpu=1_000)] * 6)
    place = table.place(rows[-1])
    assert place is not None
    assert place.node == 1
    _, mix, _ = workload(*picky, *[ask(cpu=1_000)] * 6)
    assert scarcity(mix, kinds) == pytest.approx([1.5, 0.0, 0.0])


def test_among_equals_the_fuller_node_wins() -> None:
    table, rows = lookahead_table([BIG, SMALL, BIG], *[ask(cpu=100)] * 8)
    table.claim(rows[0], 2)
    place = table.place(rows[0])
    assert place is not None
    assert place.node == 1  # two devices left against seven and eight


def test_a_workload_without_devices_costs_nothing_anywhere() -> None:
    table, rows = lookahead_table([CPU_ONLY, BIG], ask(0, cpu=1_000), ask(milli=500, cpu=1))
    costs = table.costs[rows[0]]
    assert np.argmin(costs) == 0
    assert costs[0] == 0


@pytest.mark.parametrize(("cpu_left", "half_goes_to"), [(4_000, 0), (2_000, 1)])
def test_the_example_of_the_reference(cpu_left: int, half_goes_to: int) -> None:
    half, whole = ask(milli=500, cpu=4_000), ask(cpu=12_000)
    table, rows = lookahead_table([BIG, BIG], *[half] * 8, *[whole] * 8)
    for device in range(8):
        table.restore(rows[0] if device == 7 else rows[-1], Placed(0, (device,)))
    table.residuals.cpu_milli[0] = cpu_left
    table.refresh(0)
    one, other = table.place(rows[0]), table.place(rows[-1])
    assert one is not None
    assert other is not None
    assert (one.node, other.node) == (half_goes_to, 1)
