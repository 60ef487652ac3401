"""Losses that are kept equal losses that are worked out afresh, and follow every change."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.base.limits import LOSSES_PER_CLASS_MAX
from penstock.domain.claim import Ask
from penstock.scheduler import Plan, place
from penstock.scheduler.loss import Losses, losses_of, scorer_of, waste_permille
from penstock.scheduler.packing.attainable import LEVELS, UNIT
from penstock.scheduler.pool import TOTAL
from tests.support.fleets import Picture, asks, device, pictures, racks

_NO_PLACE = 1 << 29


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pictures(), st.lists(asks(), min_size=1, max_size=6))
def test_kept_losses_are_those_of_a_fresh_look(picture: Picture, orders: list[Ask]) -> None:
    fleet = picture.fleet()
    shapes = ((0, 1, 0), (2_000, 2, 0), (1_000, 1, 1), (3_000, 0, 0))
    for ask in orders:
        decision = place(fleet, ask)
        if isinstance(decision, Plan):
            fleet.apply(decision.grants)
        for pool in fleet.pools.values():
            if not pool.total:
                continue
            for cpu, devices, slices in shapes:
                kept = losses_of(fleet, pool, cpu, devices, slices)
                fresh = Losses(fleet, pool, scorer_of(fleet, pool, cpu, devices, slices))
                held = pool.groups.column(TOTAL) > 0  # a spare row says nothing
                fits = held & (kept.cost < _NO_PLACE)  # the cost of what does not fit has no meaning
                assert fits.tolist() == (held & (fresh.cost < _NO_PLACE)).tolist()
                assert kept.cost[fits].tolist() == fresh.cost[fits].tolist()
                assert kept.source[fits].tolist() == fresh.source[fits].tolist()


def test_a_broken_device_is_worth_nothing_more() -> None:
    fleet = racks(1, nodes=1, per_node=2, device_class="H100")
    pool = fleet.pools["H100"]
    before = int(losses_of(fleet, pool, 0, 1, 0).cost[0])
    fleet.upsert_devices([device("r0-n0-d0", "r0-n0", nvlink_domain="r0", healthy=False)])
    after = int(losses_of(fleet, pool, 0, 1, 0).cost[0])
    assert after < before  # there is no pair left to break
    assert waste_permille(after, 1, 1_000) == 0


def test_waste_is_in_thousandths_of_a_device() -> None:
    assert waste_permille(UNIT * len(LEVELS) * 3 // 2, 1, 1_000) == 500


def test_vectors_are_bounded() -> None:
    fleet = racks(1, nodes=2)
    pool = fleet.pools["GB200"]
    for cpu in range(LOSSES_PER_CLASS_MAX + 5):
        losses_of(fleet, pool, cpu, 1, 0)
    assert len(pool.losses) == LOSSES_PER_CLASS_MAX
