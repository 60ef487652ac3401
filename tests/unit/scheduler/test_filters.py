"""What the filters count is what is there, however it was reached."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.claim import Ask, lowest_free_run
from penstock.scheduler import Plan, place
from penstock.scheduler.filters import CAPACITIES_PER_CLASS_MAX, Capacity, capacity_of, free_runs, need_of
from tests.support.fleets import Picture, asks, pictures, racks


@given(st.integers(1, 62), st.data())
def test_free_runs_counts_what_taking_the_lowest_run_gives(slices: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, slices))
    used = data.draw(st.lists(st.integers(0, (1 << slices) - 1), min_size=1, max_size=5))
    counts = []
    for mask in used:
        count, left = 0, mask
        while (run := lowest_free_run(left, slices, wanted)) is not None:
            count, left = count + 1, left | run
        counts.append(count)
    free = ((1 << slices) - 1) & ~np.array(used, dtype=np.int64)
    assert free_runs(free, wanted, slices).tolist() == counts


@given(pictures(), st.lists(asks(counts=(1, 2, 3)), min_size=1, max_size=8))
def test_following_changes_ends_where_a_fresh_look_does(picture: Picture, orders: list[Ask]) -> None:
    fleet = picture.fleet()
    for ask in orders:
        decision = place(fleet, ask)
        if isinstance(decision, Plan):
            fleet.apply(decision.grants)
        for other in orders:
            for pool in fleet.pools_for(other):
                kept = capacity_of(fleet, pool, need_of(other))
                fresh = Capacity(fleet, pool, need_of(other))
                for name in ("cell", "cut", "tally", "refused", "island", "group", "outer_best"):
                    assert getattr(kept, name).tolist() == getattr(fresh, name).tolist(), name


def test_the_cache_of_shapes_is_bounded() -> None:
    fleet = racks(1, nodes=1)
    for amount in range(2 * CAPACITIES_PER_CLASS_MAX):
        place(fleet, Ask(1, "GB200", node_memory_bytes=amount))
        place(fleet, Ask(0, node_memory_bytes=amount))
    assert len(fleet.pools["GB200"].capacities) == CAPACITIES_PER_CLASS_MAX
    assert len(fleet.node_capacities) == CAPACITIES_PER_CLASS_MAX


def test_a_capacity_that_lags_far_behind_starts_afresh() -> None:
    fleet = racks(1, nodes=1)
    need = need_of(Ask(1, "GB200"))
    pool = fleet.pools["GB200"]
    kept = capacity_of(fleet, pool, need)
    decision = place(fleet, Ask(3, "GB200"))
    assert isinstance(decision, Plan)
    for _ in range(15_000):
        fleet.apply(decision.grants)
        fleet.revert(decision.grants)
    fleet.apply(decision.grants)
    assert pool.log.since(kept.position) is None
    assert capacity_of(fleet, pool, need).units() == 1
