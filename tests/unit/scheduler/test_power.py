"""No plan goes beyond a power budget, what fits within them is found, and what is short is named."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.claim import Ask, DeviceState, Grant, NodeState, Refusal, fits
from penstock.domain.power_budget import PowerBudget, PowerLevel, Subject
from penstock.scheduler import Fleet, NoPlan, Plan, explain, place, place_many
from penstock.scheduler.outlook import Outlook, PowerWeight
from penstock.scheduler.power import short_of
from penstock.scheduler.preempt import Yielding, make_room
from tests.support.fleets import CLASSES as SHIPPED
from tests.support.fleets import add_racks, asks, device, gangs, node
from tests.support.power import Powered, held_mw, powered

GB200_DRAW = SHIPPED["GB200"].load_mw - SHIPPED["GB200"].idle_mw


def now(fleet: Fleet, case: Powered) -> dict[Subject, int]:
    """Count by hand what is held once the fleet took what it planned; a node that work woke holds its power."""
    nodes, devices = list[NodeState](), list[DeviceState]()
    for one in case.picture.nodes:
        nodes.append(fleet.node_state(one.node_id))
    for each in case.picture.devices:
        devices.append(fleet.device_state(each.device_id))
    return held_mw(tuple(nodes), tuple(devices))


@settings(max_examples=150)
@given(powered(), st.lists(st.one_of(asks(), gangs()), min_size=1, max_size=5), st.integers(0, 3))
def test_no_budget_is_ever_overdrawn_further(case: Powered, orders: list[Ask], seed: int) -> None:
    fleet = case.fleet()
    before = now(fleet, case)
    plans = place_many(fleet, orders, seed=seed)
    after = now(fleet, case)
    for subject, limit in case.limits.items():
        assert after[subject] <= max(limit, before[subject])
    counted = {subject: budget.held_mw for subject, budget in fleet.budgets.some(case.limits).items()}
    assert counted == {subject: after[subject] for subject in counted}
    for plan in plans:
        if isinstance(plan, Plan):
            fleet.revert(plan.grants)
    assert now(fleet, case) == before
    assert {key: one.held_mw for key, one in fleet.budgets.some(case.limits).items()} == {
        key: before[key] for key in counted
    }


@settings(max_examples=150)
@given(powered(), asks(counts=(0, 1)))
def test_a_place_for_one_piece_is_found_exactly_where_a_budget_leaves_one(case: Powered, ask: Ask) -> None:
    fleet = case.fleet()
    limits = case.limits

    def allowed(grant: Grant) -> bool:
        if short_of(fleet, [grant]):
            return False
        own = limits.get((PowerLevel.DEVICE, grant.device_id or ""))
        held = fleet.device_state(grant.device_id) if grant.device_id is not None else None
        load = 0 if held is None else fleet.classes[held.device_class].load_mw
        return held is None or held.draws or own is None or load <= own

    possible = False
    for one in case.picture.nodes:
        state = fleet.node_state(one.node_id)
        if ask.count == 0:
            grant = Grant(one.node_id, None, 0, ask.node_memory_bytes, ask.node_cpu_millis)
            possible |= fits(ask, grant, state, None) is None and allowed(grant)
            continue
        for each in case.picture.devices:
            if each.node_id != one.node_id:
                continue
            run = (1 << ask.slices) - 1 if ask.slices else (1 << each.slices) - 1
            for shift in range(each.slices if ask.slices else 1):
                grant = Grant(
                    one.node_id, each.device_id, run << shift, ask.node_memory_bytes, ask.node_cpu_millis
                )
                possible |= fits(ask, grant, state, each) is None and allowed(grant)
    decision = place(fleet, ask)
    assert isinstance(decision, Plan) == possible, decision


def limited(fleet: Fleet, level: PowerLevel, subject: str, limit_mw: int, held_mw: int = 0) -> None:
    """Set one budget."""
    fleet.limit([PowerBudget(f"pbu-{subject}", level, subject, subject, limit_mw, held_mw)])


def two_racks() -> Fleet:
    """Return two racks of two nodes with four devices each."""
    fleet = Fleet(SHIPPED)
    add_racks(fleet, 2, nodes=2, per_node=4, device_class="GB200")
    return fleet


def test_a_gang_goes_around_a_rack_that_has_too_little_power() -> None:
    fleet = two_racks()
    limited(fleet, PowerLevel.RACK, "r0", 3 * GB200_DRAW)
    (plan,) = place_many(fleet, [Ask(6, "GB200")])
    assert isinstance(plan, Plan)
    assert {grant.node_id[:2] for grant in plan.grants} == {"r1"}
    (rest,) = place_many(fleet, [Ask(5, "GB200")])  # two are left in r1, three may start in r0
    assert isinstance(rest, Plan)
    assert isinstance(place(fleet, Ask(1, "GB200")), NoPlan)


def test_who_waits_for_power_is_told_where_and_how_much() -> None:
    fleet = two_racks()
    limited(fleet, PowerLevel.SITE, "", 40_000_000, 39_500_000)
    ask = Ask(1, "GB200")
    decision = place(fleet, ask)
    assert isinstance(decision, NoPlan)
    assert decision.binding is Refusal.POWER_BUDGET
    (short,) = decision.short
    assert (short.limit_watts, short.held_watts) == (40_000, 39_500)
    assert short.lacking_watts == (GB200_DRAW - 500_000) // 1_000
    told = explain(fleet, ask, decision)
    assert "may draw 40,000 W and 39,500 W of it are held" in told.headline
    assert told.counterfactuals[0].sentence == f"now with {short.lacking_watts:,} W more at site "
    assert not told.counterfactuals[0].orderable
    assert decision.to_json()["power_short"] == [short.to_json()]


def test_of_several_budgets_the_one_that_lacks_least_is_named() -> None:
    fleet = two_racks()
    limited(fleet, PowerLevel.RACK, "r0", GB200_DRAW - 9_000)
    limited(fleet, PowerLevel.RACK, "r1", GB200_DRAW - 2_000)
    decision = place(fleet, Ask(1, "GB200"))
    assert isinstance(decision, NoPlan)
    assert [(one.name, one.lacking_watts) for one in decision.short] == [("r1", 2)]


def test_what_adds_nothing_is_let_through_where_too_much_is_held() -> None:
    fleet = Fleet(SHIPPED)
    fleet.upsert_nodes([node("n")])
    fleet.upsert_devices([device("d0", "n", used_mask=1), device("d1", "n")])
    limited(fleet, PowerLevel.NODE, "n", 10_000, 900_000)
    decision = place(fleet, Ask(1, "H100", slices=2))
    assert isinstance(decision, Plan)
    assert decision.grants[0].device_id == "d0"
    assert isinstance(place(fleet, Ask(1, "H100")), NoPlan)


def test_a_device_with_a_budget_below_its_load_gets_no_work() -> None:
    fleet = Fleet(SHIPPED)
    fleet.upsert_nodes([node("n")])
    fleet.upsert_devices([device("d0", "n"), device("d1", "n")])
    limited(fleet, PowerLevel.DEVICE, "d0", 600_000)
    decision = place(fleet, Ask(1, "H100"))
    assert isinstance(decision, Plan)
    assert decision.grants[0].device_id == "d1"
    assert isinstance(place(fleet, Ask(2, "H100")), NoPlan)
    fleet.limit([PowerBudget("pbu-d0", PowerLevel.DEVICE, "d0", "d0", 700_000, 0)])
    assert isinstance(place(fleet, Ask(2, "H100")), Plan)


def test_a_removed_budget_limits_nothing() -> None:
    fleet = two_racks()
    before = fleet.digest()
    limited(fleet, PowerLevel.SITE, "", 1)
    assert fleet.digest() != before
    assert isinstance(place(fleet, Ask(1, "GB200")), NoPlan)
    fleet.limit([PowerBudget("pbu-", PowerLevel.SITE, "", "", None, 0)])
    assert isinstance(place(fleet, Ask(1, "GB200")), Plan)
    assert fleet.digest() == before


def test_a_node_that_sleeps_is_taken_only_if_none_that_is_awake_will_do() -> None:
    fleet = Fleet(SHIPPED)
    fleet.upsert_nodes([node("a", asleep=True, wake_mw=50_000), node("b")])
    fleet.upsert_devices([device("da", "a"), device("db", "b")])
    first, second = place_many(fleet, [Ask(1, "H100"), Ask(1, "H100")])
    assert isinstance(first, Plan)
    assert isinstance(second, Plan)
    assert (first.grants[0].node_id, second.grants[0].node_id) == ("b", "a")
    assert "sleeps" in {reason.code for reason in second.score_reasons}
    share, other = place_many(fleet, [Ask(0), Ask(0, avoid_nodes=frozenset({"b"}))])
    assert isinstance(share, Plan)
    assert share.grants[0].node_id == "b"
    assert isinstance(other, Plan)


@pytest.mark.parametrize("count", [0, 1])
def test_a_node_that_no_budget_lets_wake_stays_asleep(count: int) -> None:
    fleet = Fleet(SHIPPED)
    fleet.upsert_nodes([node("a", asleep=True, wake_mw=50_000)])
    fleet.upsert_devices([device("da", "a")])
    limited(fleet, PowerLevel.NODE, "a", 49_000)
    decision = place(fleet, replace(Ask(count), device_class="H100" if count else None))
    assert isinstance(decision, NoPlan)
    assert decision.binding is Refusal.POWER_BUDGET
    assert decision.short[0].name == "a"


def test_stopping_work_that_yields_frees_its_power_too() -> None:
    fleet = two_racks()
    limited(fleet, PowerLevel.SITE, "", GB200_DRAW)
    (held,) = place_many(fleet, [Ask(1, "GB200", preemptible=True)])
    assert isinstance(held, Plan)
    fleet.mark_yielding(held.grants)
    room = make_room(fleet, Ask(1, "GB200"), [Yielding("svc", held.grants)])
    assert room is not None
    assert room.victims == ("svc",)


def test_the_weight_on_power_keeps_unused_nodes_unused_and_without_it_nothing_changes() -> None:
    def chosen(percent: int) -> str:
        fleet = Fleet(SHIPPED)
        fleet.upsert_nodes([node("begun"), node("whole")])
        fleet.upsert_devices(
            [device(f"b{n}", "begun", used_mask=127 if n < 3 else 0) for n in range(8)]
            + [device(f"w{n}", "whole") for n in range(4)]
        )
        draws = {name: (one.idle_mw, one.load_mw) for name, one in SHIPPED.items()}
        fleet.expect(Outlook((), {"H100": 7}, PowerWeight(percent, draws)))
        (plan,) = place_many(fleet, [Ask(4, "H100")])
        assert isinstance(plan, Plan)
        return plan.grants[0].node_id

    assert chosen(0) == "whole", "it is filled exactly, and nothing is lost"
    assert chosen(20) == "begun", "the other one may sleep"
