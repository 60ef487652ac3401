"""The fleet is what it was told, and can be changed and changed back."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.domain.claim import Grant
from penstock.scheduler import Fleet, Plan, place
from tests.support.fleets import CLASSES, Picture, add_racks, asks, device, node, pictures, racks


def test_it_gives_back_what_it_was_given() -> None:
    one = node("n1", schedulable=False, memory_used_bytes=5, site_id="s", rack_id="r", simulated=True)
    other = device("d1", "n1", used_mask=0b101, healthy=False, nvlink_domain="x")
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([one])
    fleet.upsert_devices([other])
    assert fleet.node_state("n1") == one
    assert fleet.device_state("d1") == other


def test_a_device_on_an_unknown_node_is_refused() -> None:
    with pytest.raises(KeyError):
        Fleet(CLASSES).upsert_devices([device("d1", "n1")])


def test_more_drivers_than_bits_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="62 drivers"):
        Fleet(CLASSES).upsert_nodes([node("n1", drivers=frozenset(map(str, range(63))))])


@given(pictures(), st.data())
def test_apply_and_revert_are_inverse(picture: Picture, data: st.DataObject) -> None:
    fleet = picture.fleet()
    fresh = fleet.digest().partition("-")[2]
    plans: list[Plan] = []
    for ask in data.draw(st.lists(asks(), max_size=5)):
        decision = place(fleet, ask)
        if isinstance(decision, Plan):
            fleet.apply(decision.grants)
            plans.append(decision)
    for plan in data.draw(st.permutations(plans)):
        fleet.revert(plan.grants)
    assert [fleet.node_state(one.node_id) for one in picture.nodes] == list(picture.nodes)
    assert [fleet.device_state(one.device_id) for one in picture.devices] == list(picture.devices)
    assert fleet.digest().partition("-")[2] == fresh


def test_a_refused_apply_or_revert_changes_nothing() -> None:
    fleet = racks(1, nodes=1)
    good = Grant("r0-n0", "r0-n0-d0", 0b11, 7, 7)
    before = fleet.digest().partition("-")[2]
    for bad, error in (
        (Grant("r0-n0", "r0-n0-d0", 0b10, 0, 0), ValueError),
        (Grant("r0-n0", "nobody", 1, 0, 0), KeyError),
        (Grant("nowhere", None, 0, 1, 1), KeyError),
    ):
        with pytest.raises(error):
            fleet.apply([good, bad])
        assert fleet.digest().partition("-")[2] == before
    with pytest.raises(ValueError, match="not held"):
        fleet.revert([good])
    assert fleet.digest().partition("-")[2] == before


def test_the_version_grows_and_the_hash_names_the_content() -> None:
    one, other = racks(2), Fleet(CLASSES)
    add_racks(other, 2, nodes=18, per_node=4, device_class="GB200")
    other.upsert_nodes([node("r0-n0", schedulable=False, rack_id="r0")])
    assert one.digest().partition("-")[2] != other.digest().partition("-")[2]
    other.upsert_nodes([node("r0-n0", rack_id="r0")])
    assert one.digest().partition("-")[2] == other.digest().partition("-")[2]
    assert other.version > one.version


@given(pictures(), st.data())
def test_a_fleet_that_changed_decides_like_one_loaded_afresh(picture: Picture, data: st.DataObject) -> None:
    """Whatever the change log follows must end where a restart begins."""
    fleet = picture.fleet()
    ask = data.draw(asks())
    for _ in range(data.draw(st.integers(1, 4))):
        place(fleet, ask)  # so that there is something to keep up to date
        picture = _changed(picture, fleet, data)
    fresh = picture.fleet()
    assert fleet.device_count == len(picture.devices)
    assert isinstance(place(fleet, ask), Plan) == isinstance(place(fresh, ask), Plan)
    assert place(fleet, ask).rejected == place(fresh, ask).rejected
    assert fleet.digest().partition("-")[2] == fresh.digest().partition("-")[2]


def _changed(picture: Picture, fleet: Fleet, data: st.DataObject) -> Picture:
    """Change one thing in the fleet and in the picture of it."""
    nodes, devices = list(picture.nodes), list(picture.devices)
    what = data.draw(st.sampled_from(["node", "device", "add", "remove", "move", "remove_node"]))
    if what == "node" or not devices:
        number = data.draw(st.integers(0, len(nodes) - 1)) if nodes else None
        if number is None:
            return picture
        nodes[number] = replace(
            nodes[number],
            schedulable=data.draw(st.booleans()),
            memory_used_bytes=data.draw(st.integers(0, 4)),
            site_id=data.draw(st.sampled_from("st")),
        )
        fleet.upsert_nodes([nodes[number]])
        return Picture(tuple(nodes), tuple(devices))
    one = data.draw(st.sampled_from(devices))
    if what == "remove_node":
        fleet.remove_nodes([one.node_id, "unknown"])
        return Picture(
            tuple(other for other in nodes if other.node_id != one.node_id),
            tuple(other for other in devices if other.node_id != one.node_id),
        )
    if what == "add":
        another = replace(one, device_id=one.device_id + "x", nvlink_domain="another")
        fleet.upsert_devices([another])
        return Picture(
            tuple(nodes), (*(two for two in devices if two.device_id != another.device_id), another)
        )
    devices.remove(one)
    if what == "remove":
        fleet.remove_devices([one.device_id, "unknown"])
        return Picture(tuple(nodes), tuple(devices))
    if what == "move":
        target = data.draw(st.sampled_from(nodes)).node_id
        one = replace(one, node_id=target, nvlink_domain=data.draw(st.sampled_from([None, "p", "q"])))
    else:
        one = replace(one, used_mask=data.draw(st.sampled_from([0, 1])), healthy=data.draw(st.booleans()))
    fleet.upsert_devices([one])
    return Picture(tuple(nodes), (*devices, one))
