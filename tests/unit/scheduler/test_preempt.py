"""Whoever must stop is in the way, nobody else is touched, and the shape that was asked for comes free."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.limits import YIELDING_CONSIDERED_MAX
from penstock.domain.claim import Ask, Refusal, fits
from penstock.scheduler import Fleet, NoPlan, Plan, place
from penstock.scheduler.preempt import Yielding, make_room
from tests.support.fleets import Picture, gangs, pictures, planned, racks


def yields(fleet: Fleet, name: str, ask: Ask) -> Yielding:
    """Place work that yields."""
    decision = place(fleet, replace(ask, preemptible=True))
    assert isinstance(decision, Plan)
    fleet.apply(decision.grants, yields=True)
    return Yielding(name, decision.grants)


@settings(max_examples=150, deadline=None)
@given(pictures(one_domain_nodes=True), st.lists(gangs(), max_size=5), st.integers(0, 31), gangs())
def test_victims_make_room_and_none_of_them_in_vain(
    picture: Picture, running: list[Ask], which: int, ask: Ask
) -> None:
    fleet = picture.fleet()
    yielding: list[Yielding] = []
    for number, one in enumerate(running):
        decision = place(fleet, one)
        if isinstance(decision, Plan):
            preemptible = bool(which >> number & 1)
            fleet.apply(decision.grants, yields=preemptible)
            if preemptible:
                yielding.append(Yielding(f"svc_{number}", decision.grants))
    before, free = fleet.digest(), place(fleet, ask)
    states = {one.device_id: fleet.device_state(one.device_id) for one in picture.devices}
    room = make_room(fleet, ask, yielding)
    assert fleet.digest() == before
    assert states == {one.device_id: fleet.device_state(one.device_id) for one in picture.devices}
    grants = {one.service_id: one.grants for one in yielding}
    if room is None:
        for one in yielding:
            fleet.revert(one.grants)
        assert isinstance(place(fleet, ask), NoPlan), "with everything that yields gone it would fit"
        return
    assert set(room.victims) <= set(grants)
    assert not room.victims or isinstance(free, NoPlan)
    for name in room.victims:
        fleet.revert(grants[name])
    fleet.apply(room.plan.grants)  # would raise if anything else were in the way
    fleet.revert(room.plan.grants)
    for name in room.victims:
        fleet.apply(grants[name])
        assert isinstance(place(fleet, ask), NoPlan), "this victim could have stayed"
        fleet.revert(grants[name])


def test_the_shape_is_freed_and_not_scattered_devices() -> None:
    fleet = racks(2)
    small = [yields(fleet, f"small{one}", Ask(1, "GB200")) for one in range(8)]
    fixed = planned(fleet, Ask(56, "GB200", same_nvlink_domain=True))
    gang = yields(fleet, "gang", Ask(72, "GB200", same_nvlink_domain=True))
    assert fixed.chosen[0].nvlink_domain != "r1"
    room = make_room(fleet, Ask(60, "GB200", same_nvlink_domain=True), [*small, gang])
    assert room is not None
    assert room.victims == ("gang",)
    assert {chosen.nvlink_domain for chosen in room.plan.chosen} == {"r1"}


def test_what_has_run_longest_stays() -> None:
    fleet = racks(1, nodes=2)
    old, young = (yields(fleet, name, Ask(4, "GB200")) for name in ("old", "young"))
    room = make_room(fleet, Ask(4, "GB200"), [old, young])
    assert room is not None
    assert room.victims == ("young",)


def test_what_is_stopping_already_costs_nothing_more() -> None:
    fleet = racks(1, nodes=2)
    old, young = (yields(fleet, name, Ask(4, "GB200")) for name in ("old", "young"))
    room = make_room(fleet, Ask(4, "GB200"), [replace(old, stopping=True), young])
    assert room is not None
    assert room.victims == ()
    assert {grant.node_id for grant in room.plan.grants} == {old.grants[0].node_id}


def test_work_that_yields_stops_nobody_and_work_that_does_not_is_never_stopped() -> None:
    fleet = racks(1, nodes=1)
    one = yields(fleet, "one", Ask(2, "GB200"))
    planned(fleet, Ask(2, "GB200"))
    assert make_room(fleet, Ask(2, "GB200", preemptible=True), [one]) is None
    assert make_room(fleet, Ask(3, "GB200"), [one]) is None


def test_a_picture_that_does_not_know_of_a_claim_leaves_it_out() -> None:
    fleet = racks(1, nodes=1)
    one = yields(fleet, "one", Ask(4, "GB200"))
    fleet.revert(one.grants)
    assert make_room(fleet, Ask(5, "GB200"), [one]) is None


def test_no_more_is_looked_at_than_the_limit() -> None:
    fleet = racks(1, nodes=1)
    one = yields(fleet, "one", Ask(4, "GB200"))
    assert make_room(fleet, Ask(4, "GB200"), [one] + [Yielding("none", ())] * YIELDING_CONSIDERED_MAX) is None


def test_the_judge_tells_what_yields_from_what_is_in_use() -> None:
    fleet = racks(1, nodes=1)
    one = yields(fleet, "one", Ask(1, "GB200"))
    (grant,) = one.grants
    node, device = fleet.node_state(grant.node_id), fleet.device_state(grant.device_id or "")
    half = replace(device, yielding_mask=device.yielding_mask >> 1)
    assert fits(Ask(1, "GB200"), grant, node, device) is Refusal.DEVICE_YIELDS
    assert fits(Ask(1, "GB200", preemptible=True), grant, node, device) is Refusal.DEVICE_USED
    assert fits(Ask(1, "GB200"), grant, node, half) is Refusal.DEVICE_USED
    fleet.revert(one.grants)
    assert fleet.device_state(grant.device_id or "").yielding_mask == 0
