"""Reclaim: bounded in time, in the shape asked for, and never below anybody's own share."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.domain.claim import Ask
from penstock.scheduler import Fleet, Plan, place
from penstock.scheduler.preempt import Yielding
from penstock.scheduler.queueing.turn import Guarantees, Order
from penstock.scheduler.reclaim import Bounds, reclaim, reclaimable
from tests.support.fleets import CLASSES, device, node, planned

BOUNDS = Bounds(patience_s=120, bound_s=600, fresh_s=300)
H100 = ("H100",)


def site(nodes: int = 2, per_node: int = 4) -> Fleet:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes(node(f"n{one}") for one in range(nodes))
    fleet.upsert_devices(
        device(f"n{one}d{position}", f"n{one}", nvlink_domain=f"n{one}")
        for one in range(nodes)
        for position in range(per_node)
    )
    return fleet


def run(
    fleet: Fleet, shares: Guarantees, queue: str, count: int = 1, *, at_s: int = 0, yields: bool = False
) -> tuple[Order, Yielding]:
    ask = Ask(count, "H100", same_nvlink_domain=count > 1, preemptible=yields)
    plan = place(fleet, ask)
    assert isinstance(plan, Plan)
    fleet.apply(plan.grants, yields=yields)
    order = Order(0, queue, 1_000 * count, H100, at_s)
    shares.charge(order)
    name = f"{queue}-{plan.grants[0].device_id}"
    return order, Yielding(name, plan.grants, preemptible=yields)


def test_patience_then_what_just_started_then_at_the_bound_whatever_is_borrowed() -> None:
    shares = Guarantees({"H100": 8}, {"H100": [("a", 4)]})
    fleet = site()
    running = [run(fleet, shares, "b/x", at_s=0 if one < 6 else 700) for one in range(8)]

    def allowed(since_s: int, now_s: int) -> int:
        return len(reclaimable(Order(1, "a/x", 1_000, H100, since_s), running, shares, BOUNDS, now_s))

    assert allowed(700, 819) == 0
    assert allowed(700, 820) == 2  # those that started less than 300 s ago
    assert allowed(700, 1_299) == 0  # by now they have work to lose
    assert allowed(700, 1_300) == 8
    only = Bounds(120, 600, 300, only_yielding=True)
    assert reclaimable(Order(1, "a/x", 1_000, H100, 0), running, shares, only, 9_999) == []


def test_the_shape_comes_free_and_the_picture_stays_as_it_was() -> None:
    shares = Guarantees({"H100": 8}, {"H100": [("a", 4)]})
    fleet = site()
    running = [run(fleet, shares, "b/x") for _ in range(8)]
    before = fleet.digest()
    gang, ask = Order(1, "a/x", 4_000, H100, 0), Ask(4, "H100", same_nvlink_domain=True)
    allowed = reclaimable(gang, running, shares, BOUNDS, 600)
    room = reclaim(fleet, ask, gang, allowed, shares)
    assert room is not None
    assert len(room.victims) == 4
    assert len({grant.node_id for grant in room.plan.grants}) == 1
    assert fleet.digest() == before
    assert not any(
        fleet.device_state(f"n{one}d0").yielding_mask for one in range(2)
    )  # borrowed, not yielding


def test_a_share_vetoes_the_last_of_several_victims() -> None:
    """The other tenant runs 4 and is guaranteed 2: of the gang's four devices only two may be taken."""
    shares = Guarantees({"H100": 4}, {"H100": [("a", 2), ("b", 2)]})
    fleet = site(1)
    running = [run(fleet, shares, "b/x") for _ in range(4)]
    two, three = (Order(1, "a/x", 1_000 * count, H100, 0) for count in (2, 3))
    allowed = reclaimable(two, running, shares, BOUNDS, 600)
    room = reclaim(fleet, Ask(2, "H100", same_nvlink_domain=True), two, allowed, shares)
    assert room is not None
    assert len(room.victims) == 2
    assert reclaimable(three, running, shares, BOUNDS, 600) == []  # three are not within the share
    shares = Guarantees({"H100": 4}, {"H100": [("a", 3), ("b", 1)]})
    shares.charge(Order(0, "b/x", 2_000, H100, 0))
    assert (
        reclaim(fleet, Ask(3, "H100"), three, allowed[:2], shares) is None
    )  # two may go, three are asked for


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 8),
    st.lists(st.sampled_from(["b/x", "b/y", "c/x"]), min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_at_the_bound_a_share_is_given_back_if_what_is_borrowed_can_give_it(
    guaranteed: int, held_by: list[str], wanted: int
) -> None:
    shares = Guarantees({"H100": 8}, {"H100": [("a", guaranteed)]})
    fleet = site()
    running = [run(fleet, shares, queue) for queue in held_by]
    order, ask = Order(1, "a/x", 1_000 * wanted, H100, 0), Ask(wanted, "H100", same_nvlink_domain=wanted > 1)
    free_now = isinstance(place(fleet, ask), Plan)
    allowed = reclaimable(order, running, shares, BOUNDS, BOUNDS.bound_s)
    room = None if free_now else reclaim(fleet, ask, order, allowed, shares)
    if wanted > guaranteed:
        assert not allowed
    elif not free_now:  # everything else is borrowed, so the share comes back, and at once
        assert room is not None
        for victim, held in running:
            if held.service_id in room.victims:
                fleet.revert(held.grants)
                shares.charge(victim, -1)
        assert planned(fleet, ask).grants


def test_what_stops_already_costs_nothing_more() -> None:
    shares = Guarantees({"H100": 4}, {"H100": [("a", 4)]})
    fleet = site(1)
    victim, held = run(fleet, shares, "b/x", 4)
    order = Order(1, "a/x", 4_000, H100, 0)
    stopping = [(victim, Yielding(held.service_id, held.grants, stopping=True, preemptible=False))]
    room = reclaim(fleet, Ask(4, "H100"), order, reclaimable(order, stopping, shares, BOUNDS, 200), shares)
    assert room is not None
    assert room.victims == ()
