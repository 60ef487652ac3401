"""The studies: nothing is held twice, every shape is kept, blind is the most, and a seed says everything."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.claim import Level
from penstock.twin.topology.mix import orders_for, parse_mix
from penstock.twin.topology.policy import POLICIES, Held, domains_of, policy_named
from penstock.twin.topology.replay import Replay
from penstock.twin.topology.site import SiteShape
from penstock.twin.topology.study import Settings, churn_singles, fill, keep_full, summary

SMALL = SiteShape(racks=6, nodes_per_rack=2, gpus_per_node=4, racks_per_leaf=3, leaves_per_pod=1)
MIX = parse_mix("1:6,2:2,4:2,8:1,12:1,24:1", SMALL.rack_gpus, SMALL.racks)


def small(within: Level | None = None) -> Settings:
    return Settings(SMALL, MIX, hours=30, warmup_hours=6, within=within)


class Watched:
    """A policy whose books are kept beside it: what it holds never exceeds a rack, and its shapes are kept."""

    def __init__(self, name: str, within: Level | None) -> None:
        self._policy = policy_named(name, SMALL, within)
        self.shaped = self._policy.shaped
        self._within = within
        self._racks = np.zeros(SMALL.racks, dtype=np.int64)

    @property
    def free(self) -> np.ndarray:
        return self._policy.free

    def place(self, number: int, gpus: int, closed: Collection[int]) -> Held | None:
        held = self._policy.place(number, gpus, closed)
        if held is None:
            return None
        assert sum(held.values()) == gpus
        assert min(held.values()) > 0
        for rack, devices in held.items():
            self._racks[rack] += devices
        assert self._racks.max() <= SMALL.rack_gpus
        assert (SMALL.rack_gpus - self._racks == self.free).all()
        if self.shaped:
            assert len(held) <= domains_of(gpus, SMALL.rack_gpus)
            assert not set(held) & set(closed)
            if self._within is Level.LEAF:
                assert len({SMALL.leaf(rack) for rack in held}) == 1
        return held

    def release(self, number: int, held: Held) -> None:
        self._policy.release(number, held)
        for rack, devices in held.items():
            self._racks[rack] -= devices


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(POLICIES),
    st.sampled_from([None, Level.LEAF]),
    st.sampled_from([0.7, 1.2]),
    st.integers(1, 99),
)
def test_racks_are_never_oversubscribed_and_shapes_are_kept(
    name: str, within: Level | None, load: float, seed: int
) -> None:
    if name != "penstock":
        within = None
    orders = orders_for(MIX, SMALL.gpus, load, 20, seed)
    replay = Replay(SMALL, Watched(name, within), small(within).areas())
    course = replay.run(orders, 0, 20 * 3600)
    assert 0 < course.held_gpu_s <= 20 * 3600 * SMALL.gpus
    assert len(course.starts) + course.waiting == sum(order.submit_s < 20 * 3600 for order in orders)
    assert min(wait for _, wait, _ in course.starts) >= 0
    assert len({order.number for order, _, _ in course.starts}) == len(course.starts)


@pytest.mark.parametrize("policy", ["penstock", "blind"])
def test_a_seed_says_everything(policy: str) -> None:
    assert keep_full(small(), policy, 1.1, 3) == keep_full(small(), policy, 1.1, 3)
    assert keep_full(small(), policy, 1.1, 3) != keep_full(small(), policy, 1.1, 4)
    assert fill(small(), policy, 3) == fill(small(), policy, 3)


def test_the_head_of_the_queue_is_not_starved_by_small_orders() -> None:
    mix = parse_mix("1:200,48:1", SMALL.rack_gpus, SMALL.racks)
    orders = orders_for(mix, SMALL.gpus, 1.3, 200, 5)
    course = Replay(SMALL, policy_named("penstock", SMALL, None), small().areas()).run(orders, 0, 200 * 3600)
    assert any(order.gpus == 48 for order in orders)
    assert any(order.gpus == 48 for order, _, _ in course.starts)


def test_every_shape_is_kept_but_by_the_blind_one() -> None:
    assert keep_full(small(), "penstock", 1.2, 1).shape_kept_pct == 100
    assert keep_full(small(), "blind", 1.2, 1).shape_kept_pct < 100


def test_singles_leave_racks_whole_where_the_emptiest_first_spoils_all() -> None:
    site = replace(small(), shape=SiteShape(racks=12, nodes_per_rack=4, gpus_per_node=4))
    ours, spread = churn_singles(site, "penstock", 1), churn_singles(site, "emptiest-first", 1)
    assert ours.whole_racks > 0.8 * ours.whole_racks_possible
    assert spread.whole_racks < 0.2 * spread.whole_racks_possible


def test_the_summary_says_what_each_policy_loses_against_blind() -> None:
    records: list[dict[str, object]] = [
        {"study": "full", "policy": policy, "seed": seed, "load": 1.0, "occupancy_pct": occupancy}
        for policy, seed, occupancy in (("blind", 1, 98.0), ("blind", 2, 96.0), ("penstock", 1, 96.5))
    ]
    blind, ours = summary(records)
    assert (blind["occupancy_pct"], blind["lost_points"], blind["seeds"]) == (97.0, 0.0, 2)
    assert ours["lost_points"] == 0.5
