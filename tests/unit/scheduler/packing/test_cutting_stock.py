"""The values of sizes are the dual of cutting as few wholes as possible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.scheduler.packing.cutting_stock import best_cut, values_of_sizes


@pytest.mark.parametrize(
    ("sizes", "demand", "values"),
    [
        ([81], [10.0], [1.0]),  # nothing can be done with the rest
        ([50], [10.0], [0.5]),
        ([34, 66], [10.0, 10.0], [1 / 3, 2 / 3]),  # they pair up; which of them is scarce does not matter
        ([19, 81], [1.0, 50.0], [0.0, 1.0]),  # the small ones fill what is lost anyway
        ([19, 81], [500.0, 10.0], [0.2, 0.8]),  # 81 saves a fifth if 19s are plenty
    ],
)
def test_values_of_known_cases(sizes: list[int], demand: list[float], values: list[float]) -> None:
    found = values_of_sizes(np.array(sizes), np.array(demand), 100)
    assert found @ np.array(demand) == pytest.approx(np.array(values) @ np.array(demand), abs=1e-6)
    if sizes != [34, 66]:
        assert found == pytest.approx(values, abs=1e-6)


def test_the_best_cut_of_a_whole() -> None:
    worth, cut = best_cut(np.array([30, 45]), np.array([0.3, 0.5]), 100)
    assert worth == pytest.approx(1.0)
    assert cut.tolist() == [0, 2]
    assert best_cut(np.array([200]), np.array([1.0]), 100)[0] == 0.0


def test_no_sizes_have_no_values() -> None:
    assert len(values_of_sizes(np.zeros(0, dtype=np.int64), np.zeros(0), 100)) == 0


@settings(max_examples=60, deadline=None)
@given(demand=st.dictionaries(st.integers(1, 99), st.integers(1, 500), min_size=1, max_size=12))
def test_no_cut_is_worth_more_than_a_whole_and_no_demand_less_than_it_fills(demand: dict[int, int]) -> None:
    sizes = np.array(sorted(demand))
    counts = np.array([float(demand[size]) for size in sizes])
    values = values_of_sizes(sizes, counts, 100)
    assert best_cut(sizes, values, 100)[0] <= 1.0 + 1e-6
    assert values @ counts >= (sizes / 100) @ counts - 1e-6  # a device holds no more than itself
    assert values.min() >= 0.0
