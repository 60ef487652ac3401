"""Slices fill devices that are cut already, may share one, and keep to one domain or device if asked to."""

from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import Ask
from penstock.scheduler import Fleet, NoPlan, place
from tests.support.fleets import CLASSES, add_racks, device, node, planned, racks


def test_slices_go_to_devices_that_are_cut_already() -> None:
    fleet = racks(2)
    first = planned(fleet, Ask(1, "GB200", slices=3))
    second = planned(fleet, Ask(1, "GB200", slices=3))
    third = planned(fleet, Ask(1, "GB200", slices=2))
    fourth = planned(fleet, Ask(1, "GB200", slices=1))
    assert first.grants[0].device_id == second.grants[0].device_id == fourth.grants[0].device_id
    assert third.grants[0].device_id != first.grants[0].device_id
    assert (first.grants[0].mask, second.grants[0].mask, fourth.grants[0].mask) == (0b111, 0b111000, 1 << 6)


def test_several_slices_share_devices() -> None:
    plan = planned(racks(1), Ask(4, "GB200", slices=3))
    assert len({grant.device_id for grant in plan.grants}) == 2


def test_the_fullest_cut_device_that_has_the_run_comes_first() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n1"), node("n2")])
    fleet.upsert_devices(
        [
            device("whole", "n1"),
            device("split", "n1", used_mask=0b0101010),  # four free, no two of them adjacent
            device("five free", "n2", used_mask=0b11),
            device("three free", "n2", used_mask=0b1111),
        ]
    )
    assert planned(fleet, Ask(1, "H100", slices=2)).grants[0].device_id == "three free"
    assert planned(fleet, Ask(1, "H100", slices=5)).grants[0].device_id == "five free"
    assert planned(fleet, Ask(1, "H100", slices=1)).grants[0].device_id == "three free"


def test_a_cut_device_comes_before_a_node_that_is_begun_earlier() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("first"), node("second")])
    whole = CLASSES["H100"].whole_mask
    fleet.upsert_devices([device("used", "first", used_mask=whole), device("free", "first")])
    fleet.upsert_devices([device("cut", "second", used_mask=1), device("other", "second")])
    assert planned(fleet, Ask(1, "H100", slices=1)).grants[0].device_id == "cut"
    assert planned(fleet, Ask(1, "H100", slices=7)).grants[0].device_id == "free"


def test_slices_in_one_domain_take_the_tightest() -> None:
    fleet = racks(1, nodes=2)
    add_racks(fleet, 1, nodes=1, per_node=2, device_class="GB200", prefix="small")
    plan = planned(fleet, Ask(4, "GB200", slices=3, same_nvlink_domain=True))
    assert {chosen.nvlink_domain for chosen in plan.chosen} == {"small0"}


def test_without_a_link_one_domain_means_one_device() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n1")])
    fleet.upsert_devices([device("d1", "n1", used_mask=1), device("d2", "n1")])
    ask = Ask(3, "H100", slices=2, same_nvlink_domain=True)
    assert {grant.device_id for grant in planned(fleet, ask).grants} == {"d1"}
    assert {grant.device_id for grant in planned(fleet, ask).grants} == {"d2"}
    assert isinstance(place(fleet, ask), NoPlan)


def test_fresh_devices_for_several_slices_come_from_a_rack_that_is_begun() -> None:
    fleet = racks(2)
    planned(fleet, Ask(4, "GB200", prefer_nodes=frozenset({"r1-n0"})))
    plan = planned(fleet, Ask(2, "GB200", slices=4))
    assert {chosen.node for chosen in plan.chosen} == {"r1-n1"}


def test_a_slice_has_the_memory_of_its_slices() -> None:
    fleet = racks(1, nodes=1, device_class="H100")
    assert planned(fleet, Ask(1, slices=2, memory_bytes_min=20 * BYTES_PER_GIB)).device_class == "H100"
    decision = place(fleet, Ask(1, slices=2, memory_bytes_min=21 * BYTES_PER_GIB))
    assert decision.to_json()["binding"] == "device_memory"
