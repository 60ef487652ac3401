"""Shapes over several domains and within an area: found where they are, tight, and explained where they are not."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.claim import Ask, Level, shape_fits
from penstock.scheduler import Fleet, NoPlan, Plan, explain, place
from penstock.scheduler.gang import tightest_set
from penstock.scheduler.plan import Limit
from tests.support.fleets import (
    CLASSES,
    Picture,
    can_be_placed,
    device,
    gangs,
    node,
    pictures,
    planned,
    racks,
)


def site(racks_per_leaf: int = 2, leaves: int = 2) -> Fleet:
    """Return NVL72 racks under leaf switches; two leaves make a pod."""
    fleet = Fleet(CLASSES)
    for rack in range(racks_per_leaf * leaves):
        leaf = rack // racks_per_leaf
        names = [f"r{rack}-n{number}" for number in range(18)]
        fleet.upsert_nodes(
            node(name, site_id="s", rack_id=f"r{rack}", leaf=f"l{leaf}", pod=f"p{leaf // 2}")
            for name in names
        )
        fleet.upsert_devices(
            device(f"{name}-d{position}", name, "GB200", nvlink_domain=f"r{rack}")
            for name in names
            for position in range(4)
        )
    return fleet


def hold(fleet: Fleet, rack: int, devices: int) -> None:
    """Take ``devices`` of a rack."""
    names = frozenset(f"r{rack}-n{number}" for number in range(18))
    planned(fleet, Ask(devices, "GB200", prefer_nodes=names))


def domains(plan: Plan) -> dict[str | None, int]:
    found: dict[str | None, int] = {}
    for one in plan.chosen:
        found[one.nvlink_domain] = found.get(one.nvlink_domain, 0) + one.devices
    return found


@settings(max_examples=200, deadline=None)
@given(pictures(one_domain_nodes=True), st.lists(gangs(), min_size=1, max_size=3))
def test_a_shape_is_found_exactly_where_trying_everything_finds_one(
    picture: Picture, orders: list[Ask]
) -> None:
    fleet = picture.fleet()
    for ask in orders:
        decision = place(fleet, ask)
        assert isinstance(decision, Plan) == can_be_placed(fleet, picture, ask), decision
        if isinstance(decision, Plan):
            fleet.apply(decision.grants)


@settings(max_examples=150, deadline=None)
@given(pictures(), gangs(), st.integers(0, 5))
def test_a_plan_has_its_shape_and_a_seed_gives_one_answer(picture: Picture, ask: Ask, seed: int) -> None:
    nodes = {one.node_id: one for one in picture.nodes}
    devices = {one.device_id: one for one in picture.devices}
    decision = place(picture.fleet(), ask, seed=seed)
    assert decision == place(picture.fleet(), ask, seed=seed)
    if isinstance(decision, Plan):
        held = [devices[grant.device_id or ""] for grant in decision.grants]
        assert len({one.device_id for one in held}) == ask.count
        assert shape_fits(ask, [nodes[one.node_id] for one in held], held) is None


@settings(max_examples=100, deadline=None)
@given(pictures(one_domain_nodes=True), gangs())
def test_what_waits_is_explained_and_what_is_offered_instead_succeeds(picture: Picture, ask: Ask) -> None:
    fleet = picture.fleet()
    decision = place(fleet, ask)
    told = explain(fleet, ask, decision)
    assert told.placed == isinstance(decision, Plan)
    assert told.headline
    for one in told.counterfactuals:
        assert isinstance(place(fleet, one.ask), Plan), one
    if isinstance(decision, NoPlan) and decision.never_fits:
        empty = Picture(
            tuple(replace(one, schedulable=True, memory_used_bytes=0) for one in picture.nodes),
            tuple(replace(one, used_mask=0, healthy=True) for one in picture.devices),
        )
        assert not can_be_placed(empty.fleet(), empty, replace(ask, avoid_nodes=frozenset()))


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 30), st.integers(1, 4), st.integers(0, 3))
def test_the_tightest_set_is_the_fewest_rows_and_the_least_sum(
    sizes: list[int], count: int, most: int, seed: int
) -> None:
    sets = [
        rows
        for length in range(1, most + 1)
        for rows in combinations(range(len(sizes)), length)
        if sum(sizes[row] for row in rows) >= count
    ]
    best = min(((len(rows), sum(sizes[row] for row in rows)) for rows in sets), default=None)
    chosen = tightest_set(np.array(sizes, dtype=np.int64), count, most, seed)
    assert (None if chosen is None else (len(set(chosen)), sum(sizes[row] for row in chosen))) == best


def test_an_order_in_two_domains_uses_up_broken_racks_and_leaves_whole_ones() -> None:
    fleet = site()
    hold(fleet, 0, 12)
    hold(fleet, 1, 32)
    assert domains(planned(fleet, Ask(100, "GB200", domains_max=2))) == {"r0": 60, "r1": 40}
    assert domains(planned(fleet, Ask(144, "GB200", domains_max=2))) == {"r2": 72, "r3": 72}


def test_what_is_over_stays_in_one_domain() -> None:
    fleet = site()
    hold(fleet, 0, 12)
    assert domains(planned(fleet, Ask(100, "GB200", domains_max=2))) == {"r0": 60, "r1": 40}


@pytest.mark.parametrize(
    ("within", "held", "leaf"), [(Level.LEAF, (0, 40), {"r2", "r3"}), (Level.LEAF, (2, 40), {"r0", "r1"})]
)
def test_an_order_under_one_leaf_goes_where_it_fits(
    within: Level, held: tuple[int, int], leaf: set[str]
) -> None:
    fleet = site()
    hold(fleet, *held)
    assert set(domains(planned(fleet, Ask(120, "GB200", within=within)))) == leaf


def test_the_tightest_leaf_that_is_enough_is_taken() -> None:
    fleet = site()
    hold(fleet, 2, 40)
    assert set(domains(planned(fleet, Ask(80, "GB200", within=Level.LEAF)))) == {"r2", "r3"}


def test_an_order_in_one_rack_of_nodes_with_their_own_domains() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes(node(f"n{one}", site_id="s", rack_id=f"r{one // 2}") for one in range(4))
    fleet.upsert_devices(
        device(f"n{one}d{position}", f"n{one}", nvlink_domain=f"n{one}")
        for one in range(4)
        for position in range(8)
    )
    planned(fleet, Ask(1, "H100"))
    plan = planned(fleet, Ask(16, "H100", within=Level.RACK))
    assert {grant.node_id for grant in plan.grants} == {"n2", "n3"}


def test_what_names_no_leaf_is_a_leaf_by_itself() -> None:
    fleet = racks(1, nodes=2)
    assert isinstance(place(fleet, Ask(4, "GB200", within=Level.LEAF)), Plan)
    decision = place(fleet, Ask(8, "GB200", within=Level.LEAF))
    assert isinstance(decision, NoPlan)
    assert (decision.binding, decision.never_fits) == (Limit.AREA, True)
    assert explain(fleet, Ask(8, "GB200", within=Level.LEAF), decision).headline == (
        "no leaf here could ever hold 8 GB200: the largest holds 4"
    )


def test_a_shape_that_is_not_there_says_what_shape_it_can_have() -> None:
    fleet = site()
    for rack in range(4):
        hold(fleet, rack, 24)
    ask = Ask(140, "GB200", domains_max=2, within=Level.POD)
    decision = place(fleet, ask)
    assert isinstance(decision, NoPlan)
    assert (decision.binding, decision.never_fits) == (Limit.NVLINK_DOMAIN, False)
    told = explain(fleet, ask, decision)
    assert told.headline == (
        "192 GB200 are free, but the 2 NVLink domains with most free of one pod can hold 96 of the 140"
    )
    assert [one.changes for one in told.counterfactuals][:2] == [{"domains_max": 3}, {"count": 96}]
    assert told.counterfactuals[0].sentence == "now with 140 devices in 3 NVLink domains instead of 2"


def test_a_leaf_that_is_too_full_offers_the_pod() -> None:
    fleet = site()
    hold(fleet, 0, 8)
    hold(fleet, 2, 8)
    ask = Ask(140, "GB200", within=Level.LEAF)
    decision = place(fleet, ask)
    assert isinstance(decision, NoPlan)
    assert decision.binding is Limit.AREA
    told = explain(fleet, ask, decision)
    assert told.headline == "272 GB200 are free, but the leaf with most free can hold 136 of the 140"
    assert [one.changes for one in told.counterfactuals] == [{"within": Level.POD}, {"count": 136}]


def test_more_domains_than_a_site_has_could_never_be() -> None:
    decision = place(site(), Ask(145, "GB200", domains_max=2))
    assert isinstance(decision, NoPlan)
    assert (decision.binding, decision.never_fits) == (Limit.NVLINK_DOMAIN, True)


def test_slices_have_no_shape_over_domains() -> None:
    with pytest.raises(ValueError, match="whole devices"):
        place(site(), Ask(2, "GB200", slices=1, domains_max=2))


def test_nodes_that_share_memory_among_their_domains_are_not_oversubscribed() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n1", memory_bytes=3)])
    fleet.upsert_devices(device(f"d{one}", "n1", nvlink_domain=f"pair{one // 2}") for one in range(4))
    assert isinstance(place(fleet, Ask(4, "H100", domains_max=2, node_memory_bytes=1)), NoPlan)
    assert isinstance(place(fleet, Ask(3, "H100", domains_max=2, node_memory_bytes=1)), Plan)
