"""The power model, and budgets that nest: none is ever exceeded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import ConflictError, InvalidInputError
from penstock.scheduler.packing.power import UNLIMITED_MW, Budget, PowerModel, PowerTree
from penstock.scheduler.packing.residual import NodeKind

MODEL = PowerModel(idle_mw=(20_000,), load_mw=(150_000,), core_on_mw=3_000, core_used_mw=1_000)
NODE = NodeKind(8_000, 1_000, 2, 0)


@pytest.mark.parametrize(
    ("cpu_left", "devices_left", "drawn_mw"),
    [
        (8_000, [1_000, 1_000], 24_000 + 40_000),
        (4_000, [1_000, 1_000], 24_000 + 40_000 + 4_000),
        (4_000, [999, 1_000], 24_000 + 40_000 + 4_000 + 130_000),  # a part in use draws like a whole
        (0, [0, 500], 24_000 + 40_000 + 8_000 + 260_000),
    ],
)
def test_what_a_node_draws(cpu_left: int, devices_left: list[int], drawn_mw: int) -> None:
    assert MODEL.node_mw(NODE, cpu_left, devices_left) == drawn_mw


def test_a_node_without_devices_draws_for_its_cores() -> None:
    assert MODEL.node_mw(NodeKind(2_000, 1, 0, -1), 1_000, []) == 6_000 + 1_000


def test_the_tightest_budget_above_decides() -> None:
    tree = PowerTree([Budget(-1, 1_000), Budget(0, 600), Budget(1), Budget(1, 500), Budget(0)])
    assert [tree.headroom_mw(leaf) for leaf in (2, 3, 4)] == [600, 500, 1_000]
    tree.draw(4, 700)
    assert tree.headrooms_mw(np.array([2, 3, 4])).tolist() == [300, 300, 300]
    tree.draw(2, 300)
    assert (tree.drawn_mw(0), tree.drawn_mw(1), tree.drawn_mw(2)) == (1_000, 300, 300)
    with pytest.raises(ConflictError):
        tree.draw(3, 1)
    tree.draw(4, -700)
    assert tree.headroom_mw(3) == 300
    with pytest.raises(ConflictError):
        tree.draw(4, -1)


@pytest.mark.parametrize("parent", [0, 1, -2])
def test_a_parent_comes_first(parent: int) -> None:
    with pytest.raises(InvalidInputError):
        PowerTree([Budget(parent)])
    with pytest.raises(InvalidInputError):
        PowerTree([Budget(number - 1) for number in range(40)])


budgets = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0, 50, 100, 400, UNLIMITED_MW])), min_size=1, max_size=10
)


@settings(max_examples=100, deadline=None)
@given(shape=budgets, draws=st.lists(st.tuples(st.integers(0, 9), st.integers(-60, 120)), max_size=40))
def test_no_budget_is_ever_exceeded(shape: list[tuple[int, int]], draws: list[tuple[int, int]]) -> None:
    tree_of = [
        Budget(min(parent, number - 1) if number else -1, limit)
        for number, (parent, limit) in enumerate(shape)
    ]
    tree = PowerTree(tree_of)
    at = [0] * len(shape)
    for number, change in draws:
        leaf = number % len(shape)
        room = tree.headroom_mw(leaf)
        assert room == tree.headrooms_mw(np.array([leaf]))[0]
        try:
            tree.draw(leaf, change)
        except ConflictError:
            assert change > room or at[leaf] + change < 0 or change < 0
        else:
            at[leaf] += change
        for above, budget in enumerate(tree_of):
            below = sum(at[one] for one in range(len(shape)) if above in tree._paths[one])
            assert tree.drawn_mw(above) == below <= budget.limit_mw
