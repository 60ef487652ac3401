"""One case for each policy that Penstock's is compared with."""

import numpy as np
import pytest

from penstock.scheduler.packing.baselines import place_at_random
from penstock.scheduler.packing.residual import NodeKind, Request
from penstock.scheduler.packing.table import CostTable, Placed
from tests.support.packing import BIG, CPU_ONLY, SMALL, ask, table_of

HALF = ask(milli=500, cpu=1_000)


def place(table: CostTable, row: int) -> Placed:
    """Place what must fit."""
    placed = table.place(row)
    assert placed is not None
    return placed


def test_first_fit_takes_the_first_node_and_its_tightest_device() -> None:
    table, rows = table_of("first-fit", [BIG, SMALL], HALF, ask(milli=300, cpu=1_000), ask(cpu=1_000))
    table.restore(rows[0], Placed(0, (3,)))
    assert place(table, rows[1]) == Placed(0, (3,))
    assert place(table, rows[2]) == Placed(0, (0,))


def test_best_fit_takes_the_node_with_least_left() -> None:
    table, rows = table_of("best-fit", [BIG, SMALL], HALF)
    assert place(table, rows[0]).node == 1


def test_dot_product_takes_the_node_that_is_least_alike() -> None:
    table, rows = table_of("dot-product", [BIG, SMALL], ask(cpu=16_000))
    assert place(table, rows[0]).node == 1


@pytest.mark.parametrize(
    ("request_", "node"),
    [
        (ask(milli=300, cpu=1_000), 2),  # a device that is shared already
        (ask(milli=700, cpu=1_000), 1),  # a free device of a used node
        (ask(8, cpu=1_000), 0),  # an unused node, for want of another
    ],
)
def test_packing_prefers_shared_devices_then_used_nodes(request_: Request, node: int) -> None:
    table, rows = table_of("packing", [BIG, SMALL, SMALL], request_, ask(cpu=1_000), HALF)
    table.restore(rows[1], Placed(1, (0,)))
    table.restore(rows[2], Placed(2, (0,)))
    table.restore(rows[1], Placed(2, (1,)))
    assert place(table, rows[0]).node == node


def test_packing_is_indifferent_to_cpu_alone() -> None:
    table, rows = table_of("packing", [BIG, CPU_ONLY], ask(0), HALF)
    table.restore(rows[1], Placed(0, (0,)))
    assert place(table, rows[0]).node == 0


def test_random_choice_reaches_every_node_and_device_that_fits_and_no_other() -> None:
    full = NodeKind(500, 400_000, 8, 0)
    table, rows = table_of("random", [SMALL, full, SMALL], HALF)
    random = np.random.default_rng(3)
    seen: set[tuple[int, int]] = set()
    for _ in range(200):
        placed = place_at_random(table, rows[0], random)
        assert placed is not None
        seen.add((placed.node, placed.devices[0]))
        table.release(rows[0], placed)
    assert seen == {(0, 0), (0, 1), (2, 0), (2, 1)}


def test_random_choice_says_when_nothing_fits() -> None:
    table, rows = table_of("random", [SMALL], ask(cpu=99_000_000))
    assert place_at_random(table, rows[0], np.random.default_rng(1)) is None
