"""A place is found exactly where there is one, where the policy says, and fits() agrees."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import Ask, Grant, Refusal, fits
from penstock.scheduler import Fleet, NoPlan, Plan, place, place_many
from penstock.scheduler.place import verify
from penstock.scheduler.plan import Limit, PlanDefectError
from tests.support.fleets import (
    CLASSES,
    Picture,
    add_racks,
    asks,
    can_be_placed,
    charged,
    device,
    node,
    pictures,
    planned,
    racks,
)


def nodes_of(plan: Plan) -> set[str]:
    return {grant.node_id for grant in plan.grants}


@settings(max_examples=150)
@given(pictures(), st.lists(asks(), min_size=1, max_size=4))
def test_a_place_is_found_exactly_where_trying_everything_finds_one(
    picture: Picture, orders: list[Ask]
) -> None:
    fleet = picture.fleet()
    for ask in orders:
        possible = can_be_placed(fleet, picture, ask)
        decision = place(fleet, ask)
        assert isinstance(decision, Plan) == possible, decision
        if isinstance(decision, Plan):
            fleet.apply(decision.grants)


@settings(max_examples=100)
@given(pictures(), st.lists(asks(), min_size=1, max_size=6), st.integers(0, 9))
def test_a_plan_fits_grant_by_grant_in_the_shape_asked_for(
    picture: Picture, orders: list[Ask], seed: int
) -> None:
    nodes = {one.node_id: one for one in picture.nodes}
    devices = {one.device_id: one for one in picture.devices}
    for ask, decision in zip(orders, place_many(picture.fleet(), orders, seed=seed), strict=True):
        if isinstance(decision, NoPlan):
            continue
        assert len(decision.grants) == max(ask.count, 1)
        for grant in decision.grants:
            held = devices[grant.device_id] if grant.device_id is not None else None
            assert fits(ask, grant, nodes[grant.node_id], held) is None
            nodes[grant.node_id] = charged(nodes[grant.node_id], grant)
            if held is not None:
                devices[held.device_id] = replace(held, used_mask=held.used_mask | grant.mask)
        used = [devices[grant.device_id] for grant in decision.grants if grant.device_id is not None]
        assert len({one.device_class for one in used}) <= 1
        assert len({nodes[one.node_id].site_id for one in used}) <= 1
        if ask.same_nvlink_domain and len({one.device_id for one in used}) > 1:
            assert len({one.nvlink_domain for one in used}) == 1
            assert used[0].nvlink_domain is not None


@given(pictures(), st.lists(asks(), min_size=1, max_size=4), st.integers(0, 9))
def test_the_same_fleet_order_and_seed_give_the_same_answer(
    picture: Picture, orders: list[Ask], seed: int
) -> None:
    first = place_many(picture.fleet(), orders, seed=seed)
    assert first == place_many(picture.fleet(), orders, seed=seed)


@given(pictures(), asks(), st.integers(0, 9))
def test_placing_leaves_the_fleet_as_it_was(picture: Picture, ask: Ask, seed: int) -> None:
    fleet = picture.fleet()
    before = fleet.digest()
    place(fleet, ask, seed=seed)
    assert fleet.digest() == before


@given(pictures(), asks())
def test_what_never_fits_does_not_fit_an_empty_fleet_either(picture: Picture, ask: Ask) -> None:
    decision = place(picture.fleet(), ask)
    if isinstance(decision, Plan):
        return
    empty = Picture(
        tuple(
            replace(one, schedulable=True, memory_used_bytes=0, cpu_used_millis=0) for one in picture.nodes
        ),
        tuple(replace(one, used_mask=0, healthy=True) for one in picture.devices),
    )
    at_ease = replace(ask, avoid_nodes=frozenset())
    assert decision.never_fits == (not can_be_placed(empty.fleet(), empty, at_ease))


def test_single_orders_fill_broken_nodes_and_racks_first() -> None:
    fleet = racks(3)
    first = planned(fleet, Ask(1, "GB200"))
    for _ in range(71):
        planned(fleet, Ask(1, "GB200"))
    rack = fleet.device_state(first.grants[0].device_id or "").nvlink_domain
    used = [pool for pool in ("r0", "r1", "r2") if fleet.device_state(f"{pool}-n0-d0").used_mask]
    assert used == [rack]
    assert isinstance(place(fleet, Ask(72, "GB200", same_nvlink_domain=True)), Plan)


def test_a_single_order_takes_the_fullest_node_of_the_fullest_rack() -> None:
    fleet = racks(2)
    planned(fleet, Ask(68, "GB200", same_nvlink_domain=True))
    planned(fleet, Ask(1, "GB200"))
    assert place(fleet, Ask(72, "GB200", same_nvlink_domain=True)).to_json()["placed"] is True
    assert "3 of 72 in its NVLink domain" in planned(fleet, Ask(1, "GB200")).chosen[0].why


def test_a_broken_rack_is_filled_wherever_it_stands() -> None:
    fleet = racks(3)
    planned(fleet, Ask(1, "GB200"))  # the first look; from here on the counts are followed
    planned(fleet, Ask(4, "GB200", prefer_nodes=frozenset({"r2-n5"})))
    assert nodes_of(planned(fleet, Ask(4, "GB200"))) == {"r0-n1"}
    planned(fleet, Ask(67, "GB200", same_nvlink_domain=True))
    assert nodes_of(planned(fleet, Ask(4, "GB200"))) == {"r2-n0"}
    assert nodes_of(planned(fleet, Ask(1, "GB200"))) == {"r2-n1"}


def test_begun_racks_are_filled_in_order_so_that_the_others_drain() -> None:
    fleet = racks(3)
    planned(fleet, Ask(40, "GB200", prefer_nodes=frozenset(f"r0-n{one}" for one in range(18))))
    planned(fleet, Ask(60, "GB200", prefer_nodes=frozenset(f"r1-n{one}" for one in range(18))))
    assert planned(fleet, Ask(1, "GB200")).chosen[0].nvlink_domain == "r0"
    assert planned(fleet, Ask(4, "GB200", same_nvlink_domain=True)).chosen[0].nvlink_domain == "r0"
    assert planned(fleet, Ask(12, "GB200", same_nvlink_domain=True)).chosen[0].nvlink_domain == "r1"


def test_whole_ones_are_opened_the_smallest_first() -> None:
    fleet = racks(1)
    add_racks(fleet, 1, nodes=2, per_node=4, device_class="GB200", prefix="small")
    first = planned(fleet, Ask(1, "GB200"))
    assert first.chosen[0].nvlink_domain == "small0"
    assert "a whole one of 8 devices is opened" in first.score_reasons[-1].sentence
    assert "begun already, with 7 of 8" in planned(fleet, Ask(1, "GB200")).score_reasons[-1].sentence
    assert "exactly" in planned(fleet, Ask(72, "GB200", same_nvlink_domain=True)).score_reasons[-1].sentence


def test_one_domain_takes_the_tightest_that_is_enough() -> None:
    fleet = Fleet(CLASSES)
    add_racks(fleet, 1, nodes=18, per_node=4, device_class="GB200", prefix="big")
    add_racks(fleet, 1, nodes=2, per_node=4, device_class="GB200", prefix="small")
    assert planned(fleet, Ask(8, "GB200", same_nvlink_domain=True)).chosen[0].nvlink_domain == "small0"
    assert planned(fleet, Ask(8, "GB200", same_nvlink_domain=True)).chosen[0].nvlink_domain == "big0"


def test_several_devices_go_to_the_fewest_nodes_then_the_fewest_domains() -> None:
    fleet = racks(4, nodes=4)
    for rack in range(3):  # leave one whole node in each of three racks, and a fourth rack with two
        for one in range(1, 4):
            planned(fleet, replace(Ask(1, "GB200"), prefer_nodes=frozenset({f"r{rack}-n{one}"})))
    for one in (2, 3):
        planned(fleet, replace(Ask(1, "GB200"), prefer_nodes=frozenset({f"r3-n{one}"})))
    plan = planned(fleet, Ask(8, "GB200"))
    assert nodes_of(plan) == {"r3-n0", "r3-n1"}


def test_where_one_domain_is_not_enough_the_roomiest_come_first() -> None:
    fleet = Fleet(CLASSES)
    for prefix, nodes in (("a", 1), ("b", 1), ("c", 2)):
        add_racks(fleet, 1, nodes=nodes, per_node=4, device_class="GB200", prefix=prefix)
    assert nodes_of(planned(fleet, Ask(12, "GB200"))) == {"c0-n0", "c0-n1", "a0-n0"}


def test_an_order_stays_at_one_site() -> None:
    fleet = racks(1, nodes=1, site_id="east")
    add_racks(fleet, 1, nodes=1, per_node=4, device_class="GB200", site_id="west", prefix="w")
    decision = place(fleet, Ask(5, "GB200"))
    assert isinstance(decision, NoPlan)
    assert decision.binding is Limit.TOO_LARGE
    assert decision.free_matching == 8
    fleet.upsert_nodes([node("r0-n1", site_id="east")])
    fleet.upsert_devices([device("d", "r0-n1", "GB200", used_mask=1)])
    assert place(fleet, Ask(5, "GB200")).to_json()["binding"] == "one_site"


def test_any_class_takes_the_smallest_sufficient_one_and_never_mixes() -> None:
    fleet = racks(1, nodes=1, device_class="GB200")
    add_racks(fleet, 1, nodes=1, per_node=2, device_class="H200", prefix="h")
    enough = Ask(2, memory_bytes_min=100 * BYTES_PER_GIB)
    assert planned(fleet, enough).device_class == "H200"
    assert planned(fleet, enough).device_class == "GB200"
    fleet.revert([Grant("h0-n0", "h0-n0-d0", 0b1111111, 0, 0)])
    decision = place(fleet, replace(enough, count=3))
    assert isinstance(decision, NoPlan)
    assert decision.binding is Limit.ONE_CLASS
    assert decision.free_matching == 3


def test_devices_of_a_class_may_differ_in_memory() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n1")])
    fleet.upsert_devices([device("small", "n1", memory_bytes=79), device("large", "n1", memory_bytes=80)])
    assert planned(fleet, Ask(1, "H100", memory_bytes_min=80)).grants[0].device_id == "large"
    decision = place(fleet, Ask(1, "H100", memory_bytes_min=80))
    assert decision.rejected == {Refusal.DEVICE_MEMORY: 1, Refusal.DEVICE_USED: 1}


def test_the_memory_of_a_node_is_shared_by_its_devices() -> None:
    fleet = racks(1, nodes=1)
    fleet.upsert_nodes([node("r0-n0", memory_bytes=10, rack_id="r0")])
    assert isinstance(place(fleet, Ask(3, "GB200", node_memory_bytes=3)), Plan)
    decision = place(fleet, Ask(4, "GB200", node_memory_bytes=3))
    assert isinstance(decision, NoPlan)
    assert decision.never_fits


def test_a_node_share_prefers_the_node_with_the_weights_then_one_without_devices() -> None:
    fleet = racks(1, nodes=2)
    fleet.upsert_nodes([node("plain")])
    share = Ask(0, node_memory_bytes=BYTES_PER_GIB, node_cpu_millis=1000)
    assert nodes_of(planned(fleet, share)) == {"plain"}
    assert nodes_of(planned(fleet, replace(share, prefer_nodes=frozenset({"r0-n1"})))) == {"r0-n1"}
    assert nodes_of(planned(fleet, replace(share, avoid_nodes=frozenset({"plain"})))) == {"r0-n1"}


def test_refusals_count_every_device_once() -> None:
    fleet = racks(1, nodes=4)
    fleet.upsert_nodes([node("r0-n1", schedulable=False), node("r0-n2", drivers=frozenset({"local"}))])
    fleet.upsert_devices(
        [
            device("r0-n0-d0", "r0-n0", "GB200", nvlink_domain="r0", healthy=False),
            device("r0-n0-d1", "r0-n0", "GB200", nvlink_domain="r0", used_mask=1),
        ]
    )
    decision = place(fleet, Ask(5, "GB200", avoid_nodes=frozenset({"r0-n3"})))
    assert isinstance(decision, NoPlan)
    assert decision.rejected == {
        Refusal.NODE_NOT_SCHEDULABLE: 4,
        Refusal.NODE_AVOIDED: 4,
        Refusal.DRIVER_MISSING: 4,
        Refusal.DEVICE_UNHEALTHY: 1,
        Refusal.DEVICE_USED: 1,
    }
    assert decision.free_matching == 2
    assert decision.candidates_considered == 16


def test_seeds_spread_equals() -> None:
    fleet = racks(8)
    plans = [place(fleet, Ask(1, "GB200"), seed=seed) for seed in range(8)]
    chosen = {plan.chosen[0].node for plan in plans if isinstance(plan, Plan)}
    assert len(chosen) == 8


def test_an_empty_fleet_and_an_unknown_class_are_answers() -> None:
    for fleet in (Fleet(CLASSES), racks(1, nodes=1)):
        decision = place(fleet, Ask(1, "TPU"))
        assert isinstance(decision, NoPlan)
        assert decision.never_fits
        assert isinstance(place(fleet, Ask(0, driver="nobody")), NoPlan)


@pytest.mark.parametrize("ask", [Ask(-1), Ask(1, slices=-1)])
def test_a_negative_ask_is_refused(ask: Ask) -> None:
    with pytest.raises(ValueError, match="no negative"):
        place(racks(1, nodes=1), ask)


def test_a_choice_that_does_not_fit_is_a_defect() -> None:
    fleet = racks(1, nodes=1)
    twice = Grant("r0-n0", "r0-n0-d0", 0b1111111, 0, 0)
    with pytest.raises(PlanDefectError, match="device_used"):
        verify(fleet, Ask(2, "GB200"), [twice, twice])
