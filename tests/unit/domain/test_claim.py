"""The one judge of feasibility refuses for the right reason, and for no other."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import (
    REFUSAL_SENTENCES,
    Ask,
    DeviceState,
    Grant,
    Level,
    NodeState,
    Refusal,
    fits,
    lowest_free_run,
    shape_fits,
)
from tests.support.fleets import device, node

NODE = node("n1", memory_used_bytes=500 * BYTES_PER_GIB, cpu_used_millis=60_000)
DEVICE = device("d1", "n1")
WHOLE = Grant("n1", "d1", 0b1111111, 12 * BYTES_PER_GIB, 4_000)
ASK = Ask(count=1)


def test_exactly_enough_fits() -> None:
    assert fits(ASK, WHOLE, NODE, DEVICE) is None


@pytest.mark.parametrize(
    ("changed_node", "refusal"),
    [
        (replace(NODE, schedulable=False), Refusal.NODE_NOT_SCHEDULABLE),
        (replace(NODE, drivers=frozenset({"ctranslate2"})), Refusal.DRIVER_MISSING),
        (replace(NODE, memory_used_bytes=NODE.memory_used_bytes + 1), Refusal.NODE_MEMORY),
        (replace(NODE, cpu_used_millis=NODE.cpu_used_millis + 1), Refusal.NODE_CPU),
    ],
)
def test_each_rule_about_the_node_refuses(changed_node: NodeState, refusal: Refusal) -> None:
    assert fits(ASK, WHOLE, changed_node, DEVICE) is refusal


@pytest.mark.parametrize(
    ("ask", "refusal"),
    [
        (replace(ASK, avoid_nodes=frozenset({"n1"})), Refusal.NODE_AVOIDED),
        (replace(ASK, architecture="aarch64"), Refusal.ARCHITECTURE),
        (replace(ASK, networks=True), Refusal.NO_NETWORKS),
        (replace(ASK, device_class="H200"), Refusal.DEVICE_CLASS),
        (replace(ASK, memory_bytes_min=80 * BYTES_PER_GIB + 1), Refusal.DEVICE_MEMORY),
        (replace(ASK, slices=3), Refusal.SLICES),
    ],
)
def test_each_rule_of_the_ask_refuses(ask: Ask, refusal: Refusal) -> None:
    assert fits(ask, WHOLE, NODE, DEVICE) is refusal


@pytest.mark.parametrize(
    ("changed_device", "refusal"),
    [
        (replace(DEVICE, healthy=False), Refusal.DEVICE_UNHEALTHY),
        (replace(DEVICE, used_mask=0b1000000), Refusal.DEVICE_USED),
        (replace(DEVICE, slices=8), Refusal.SLICES),
    ],
)
def test_each_rule_about_the_device_refuses(changed_device: DeviceState, refusal: Refusal) -> None:
    assert fits(ASK, WHOLE, NODE, changed_device) is refusal


def test_a_node_share_is_judged_by_the_node_alone() -> None:
    share = replace(WHOLE, device_id=None, mask=0)
    assert fits(replace(ASK, count=0, device_class="H200"), share, NODE, None) is None


@pytest.mark.parametrize(
    ("slices", "mask", "used", "refusal"),
    [
        (3, 0b0000111, 0b1111000, None),
        (3, 0b0000111, 0b0000100, Refusal.DEVICE_USED),
        (3, 0b0000011, 0, Refusal.SLICES),
        (3, 0b111 << 5, 0, Refusal.SLICES),
        (8, 0b11111111, 0, Refusal.SLICES),
    ],
)
def test_slices_must_be_as_many_as_asked_free_and_on_the_device(
    slices: int, mask: int, used: int, refusal: Refusal | None
) -> None:
    ask, grant = replace(ASK, slices=slices), replace(WHOLE, mask=mask)
    assert fits(ask, grant, NODE, replace(DEVICE, used_mask=used)) is refusal


def test_a_device_that_cannot_be_cut_gives_no_slice() -> None:
    uncut = device("d1", "n1", "L40S")
    assert fits(replace(ASK, slices=1), replace(WHOLE, mask=1), NODE, uncut) is Refusal.SLICES


def test_the_memory_of_a_slice_counts_for_a_slice() -> None:
    ask, grant = replace(ASK, slices=2, memory_bytes_min=20 * BYTES_PER_GIB), replace(WHOLE, mask=0b11)
    assert fits(ask, grant, NODE, DEVICE) is None
    more = replace(ask, memory_bytes_min=20 * BYTES_PER_GIB + 1)
    assert fits(more, grant, NODE, DEVICE) is Refusal.DEVICE_MEMORY


def test_every_refusal_has_a_sentence() -> None:
    assert set(REFUSAL_SENTENCES) == set(Refusal)


@given(st.integers(1, 62), st.data())
def test_the_lowest_free_run_is_adjacent_free_and_lowest(slices: int, data: st.DataObject) -> None:
    used = data.draw(st.integers(0, (1 << slices) - 1))
    wanted = data.draw(st.integers(1, slices))
    mask = lowest_free_run(used, slices, wanted)
    starts = [shift for shift in range(slices - wanted + 1) if not used & (((1 << wanted) - 1) << shift)]
    assert mask == (((1 << wanted) - 1) << starts[0] if starts else None)


def placed(*places: tuple[NodeState, str | None]) -> tuple[list[NodeState], list[DeviceState]]:
    """Return nodes and devices for ``shape_fits``: one device on each node, in the domain named."""
    devices = [
        device(f"d{number}", one.node_id, nvlink_domain=domain) for number, (one, domain) in enumerate(places)
    ]
    return [one for one, _ in places], devices


HERE = node("n1", site_id="s", rack_id="r1", leaf="l1", pod="p1")
RACK_2 = node("n2", site_id="s", rack_id="r2", leaf="l1", pod="p1")
LEAF_2 = node("n3", site_id="s", rack_id="r3", leaf="l2", pod="p1")
NAMELESS = node("n4", site_id="s")


@pytest.mark.parametrize(
    ("ask", "places", "refusal"),
    [
        (Ask(2), [(HERE, "a"), (LEAF_2, None)], None),
        (Ask(2), [(HERE, "a"), (replace(HERE, node_id="n9", site_id="t"), "a")], Refusal.SHAPE),
        (Ask(2, within=Level.RACK), [(HERE, "a"), (HERE, "b")], None),
        (Ask(2, within=Level.RACK), [(HERE, "a"), (RACK_2, "a")], Refusal.SHAPE),
        (Ask(2, within=Level.LEAF), [(HERE, "a"), (RACK_2, "b")], None),
        (Ask(2, within=Level.LEAF), [(HERE, "a"), (LEAF_2, "a")], Refusal.SHAPE),
        (Ask(2, within=Level.POD), [(HERE, "a"), (LEAF_2, "b")], None),
        (Ask(2, within=Level.POD), [(HERE, "a"), (NAMELESS, "b")], Refusal.SHAPE),
        (Ask(2, within=Level.LEAF), [(NAMELESS, "a"), (NAMELESS, "b")], None),
        (Ask(2, same_nvlink_domain=True), [(HERE, "a"), (RACK_2, "a")], None),
        (Ask(2, same_nvlink_domain=True), [(HERE, "a"), (RACK_2, "b")], Refusal.SHAPE),
        (Ask(2, same_nvlink_domain=True), [(HERE, None), (HERE, None)], Refusal.SHAPE),
        (Ask(1, same_nvlink_domain=True), [(HERE, None)], None),
        (Ask(3, domains_max=2), [(HERE, "a"), (RACK_2, "b"), (LEAF_2, "a")], None),
        (Ask(3, domains_max=2), [(HERE, "a"), (RACK_2, "b"), (LEAF_2, "c")], Refusal.SHAPE),
    ],
)
def test_a_shape_is_judged_over_all_grants(
    ask: Ask, places: list[tuple[NodeState, str | None]], refusal: Refusal | None
) -> None:
    assert shape_fits(ask, *placed(*places)) is refusal


def test_an_order_is_of_one_class() -> None:
    devices = [device("d1", "n1"), device("d2", "n1", "A100")]
    assert shape_fits(Ask(2), [HERE, HERE], devices) is Refusal.SHAPE
