"""An order's devices lie near one NUMA node wherever their host has them so, and machines alone get parts of devices."""

from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.claim import HOST_ATTACHES, Ask, DeviceState, Grant, NodeState, Refusal, fits
from penstock.domain.device import Attach
from penstock.domain.power_budget import PowerBudget, PowerLevel
from penstock.scheduler import Fleet, NoPlan, Plan, explain, place
from penstock.scheduler.near import nearest
from tests.support.fleets import CLASSES, Picture, asks, device, node, pictures, planned


def host(numa: str, *, used: str = "", domains: str = "") -> Fleet:
    """Return one node whose devices are near these NUMA nodes (?: nobody says), those at positions ``used`` taken."""
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n")])
    fleet.upsert_devices(
        device(
            f"d{at}",
            "n",
            numa_node=None if near == "?" else int(near),
            used_mask=127 if str(at) in used else 0,
            nvlink_domain=domains[at] if domains else None,
        )
        for at, near in enumerate(numa)
    )
    return fleet


def taken(plan: Plan) -> str:
    return "".join(sorted((grant.device_id or "")[1:] for grant in plan.grants))


def reason(decision: Plan | NoPlan, code: str) -> str:
    assert isinstance(decision, Plan)
    (found,) = [one.sentence for one in decision.score_reasons if one.code == code]
    return found


def test_an_order_is_split_only_where_no_numa_node_has_all_of_it() -> None:
    fleet = host("00110011", used="0")
    pair = planned(fleet, Ask(2, "H100"))
    assert (taken(pair), pair.chosen[0].numa_nodes) == ("14", (0,))
    four = planned(fleet, Ask(4, "H100"))
    assert taken(four) == "2367"
    assert reason(four, "one_numa_node") == "near NUMA node 1 of the host"
    assert explain(fleet, Ask(4, "H100"), four).reasons[1] == "near NUMA node 1 of the host"
    apart = place(host("0011"), Ask(3, "H100"))
    assert reason(apart, "split_numa") == (
        "near the NUMA nodes 0, 1 of the host: none of them has all 3 that it could take"
    )


def test_single_devices_come_from_the_fullest_numa_node_so_that_the_other_stays_whole() -> None:
    fleet = host("01010101", used="1")
    assert [taken(planned(fleet, Ask(1, "H100"))) for _ in range(3)] == ["3", "5", "7"]
    assert taken(planned(fleet, Ask(4, "H100"))) == "0246"


def test_one_numa_node_comes_before_few_domains_on_a_node_and_after_one_that_is_asked_for() -> None:
    fleet = host("000111", domains="aabbcc")
    assert taken(planned(fleet, Ask(3, "H100"))) in ("012", "345")
    together = planned(host("0101", domains="aabb"), Ask(2, "H100", same_nvlink_domain=True))
    assert taken(together) in ("01", "23")
    assert together.chosen[0].numa_nodes == (0, 1)


def test_nothing_is_said_where_nobody_knows() -> None:
    plan = planned(host("?0"), Ask(2, "H100"))
    assert plan.chosen[0].numa_nodes == ()
    assert not [one for one in plan.score_reasons if "numa" in one.code]
    assert taken(planned(host("??00"), Ask(2, "H100"))) == "23"


def test_over_several_nodes_each_is_counted() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("m"), node("n")])
    fleet.upsert_devices(device(f"{on}{at}", on, numa_node=at // 2) for on in "mn" for at in range(4))
    whole = place(fleet, Ask(8, "H100"))
    assert reason(whole, "split_numa") == "near several NUMA nodes on each of its 2 hosts"
    plan = planned(fleet, Ask(6, "H100"))
    assert reason(plan, "split_numa") == "near one NUMA node on 1 of its 2 hosts, near several on the others"


def test_power_comes_first() -> None:
    fleet = host("0011")
    kind = CLASSES["H100"]
    draw_mw = kind.load_mw - kind.idle_mw
    fleet.upsert_devices(
        replace(fleet.device_state(name), power_booked=True) for name in ("d1", "d2")
    )  # what runs there later draws already
    fleet.limit([PowerBudget("p", PowerLevel.NODE, "n", "n", 3 * draw_mw, 2 * draw_mw)])
    assert taken(planned(fleet, Ask(2, "H100"))) == "12"
    assert taken(planned(fleet, Ask(1, "H100"))) in "03"


@settings(max_examples=150)
@given(pictures(), asks(counts=(1, 2, 2, 3)))
def test_a_plan_is_split_only_if_no_other_choice_of_that_host_is_whole(picture: Picture, ask: Ask) -> None:
    """Tried are all sets of as many devices of the same host and class that the order could have instead."""
    ask = replace(ask, slices=0)
    decision = place(picture.fleet(), ask)
    if isinstance(decision, NoPlan):
        return
    states = {one.device_id: one for one in picture.devices}
    nodes = {one.node_id: one for one in picture.nodes}
    for name in {grant.node_id for grant in decision.grants}:
        held = [states[grant.device_id or ""] for grant in decision.grants if grant.node_id == name]
        if len({one.numa_node for one in held}) == 1:
            continue
        whole = [
            chosen
            for chosen in combinations(could_have(ask, nodes[name], list(states.values()), held), len(held))
            if len({one.numa_node for one in chosen}) == 1 and chosen[0].numa_node is not None
        ]
        assert not whole, decision


def could_have(
    ask: Ask, on: NodeState, devices: list[DeviceState], held: list[DeviceState]
) -> list[DeviceState]:
    """Return the devices of a node that may stand in for ``held``, in its NVLink domain where that matters."""
    domains = {one.nvlink_domain for one in held}
    return [
        one
        for one in devices
        if one.node_id == held[0].node_id
        and one.device_class == held[0].device_class
        and (one.nvlink_domain in domains or not ask.same_nvlink_domain)
        and fits(ask, Grant(one.node_id, one.device_id, (1 << one.slices) - 1, 0, 0), on, one) is None
    ]


@given(st.lists(st.sampled_from([None, 0, 1, 2]), min_size=1, max_size=7), st.data())
def test_the_nearest_are_as_many_as_asked_for_and_on_the_fewest_nodes(
    numa: list[int | None], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(numa)))
    ranks = sorted(data.draw(st.lists(st.integers(0, 3), min_size=len(numa), max_size=len(numa))))
    chosen = nearest(numa, ranks, count)
    assert len(set(chosen)) == count
    cost = sum(ranks[:count])
    assert sum(ranks[at] for at in chosen) == cost
    equal = [one for one in combinations(range(len(numa)), count) if sum(ranks[at] for at in one) == cost]
    fewest = min(len({numa[at] for at in one}) for one in equal)
    if fewest == 1 or ranks[0] == ranks[-1]:
        assert len({numa[at] for at in chosen}) == fewest


def test_parts_of_devices_and_stand_ins_are_for_machines() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n")])
    parts = [device("part", "n", attach=Attach.MDEV), device("stand-in", "n", attach=Attach.SIMULATED)]
    fleet.upsert_devices(parts)
    on_host, machine = Ask(1, "H100"), Ask(1, "H100", attaches=frozenset(Attach))
    decision = place(fleet, on_host)
    assert isinstance(decision, NoPlan)
    assert (decision.binding, decision.never_fits) == (Refusal.DEVICE_ATTACH, True)
    assert decision.rejected == {Refusal.DEVICE_ATTACH: 2}
    said = explain(fleet, on_host, decision)
    assert said.headline == (
        "no H100 here could ever be had: only a virtual machine can be given the device: it is part of another (mediated), "
        "or a simulated one (2 devices)"
    )
    assert said.candidates[0].lost == "device_attach"
    assert isinstance(place(fleet, machine), Plan)
    fleet.upsert_devices([device("whole", "n")])
    assert [grant.device_id for grant in planned(fleet, on_host).grants] == ["whole"]
    fleet.upsert_devices([replace(parts[0], attach=Attach.VFIO)])
    assert [grant.device_id for grant in planned(fleet, on_host).grants] == ["part"]


def test_a_machine_leaves_what_everybody_can_have_to_others() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n")])
    fleet.upsert_devices([device("a", "n"), device("b", "n", attach=Attach.MDEV), device("c", "n")])
    machine = Ask(1, "H100", attaches=frozenset(Attach))
    assert [grant.device_id for grant in planned(fleet, machine).grants] == ["b"]
    assert isinstance(place(fleet, Ask(2, "H100", attaches=HOST_ATTACHES)), Plan)
