"""What a simulated site is made of, and which ones can be asked for."""

from collections import Counter

import pytest

from penstock.base.errors import InvalidInputError
from penstock.domain.device import load_device_classes
from penstock.drivers.simulated.site import NODES_MAX, node_facts, nvl72_site, parse_site

CLASSES = load_device_classes()


def test_the_shipped_site_is_14_nvl72_racks() -> None:
    spec = parse_site("nvl72", CLASSES)
    facts = node_facts(spec)
    devices = [device for node in facts for device in node.devices]
    assert (len(facts), len(devices)) == (252, 1_008)
    assert set(Counter(node.rack for node in facts).values()) == {18}
    assert set(Counter(device.nvlink_domain for device in devices).values()) == {72}
    assert {device.device_class for device in devices} == {"GB200"}
    assert nvl72_site().rack_power_watts == 132_000
    assert len({device.serial for device in devices}) == 1_008
    assert {node.leaf for node in facts} == {f"leaf-{n}" for n in range(1, 8)}
    assert {node.spine for node in facts} == {"spine-1", "spine-2"}


def test_everybody_can_see_that_it_is_simulated() -> None:
    for text in ("nvl72", "3x2:H100"):
        spec = parse_site(text, CLASSES)
        assert spec.name.startswith("simulated-")
        for node in node_facts(spec):
            assert node.notes == ("simulated: this node does not exist",)
            assert all("(simulated)" in device.model for device in node.devices)
            assert all(str(device.serial).startswith("SIM-") for device in node.devices)


def test_a_shape_gives_nodes_devices_and_class() -> None:
    spec = parse_site("16x8:H100", CLASSES)
    facts = node_facts(spec)
    assert (spec.racks, spec.nodes_per_rack, len(facts)) == (2, 8, 16)
    assert len({device.nvlink_domain for device in facts[0].devices}) == 1
    assert facts[0].devices[0].nvlink_domain != facts[1].devices[0].nvlink_domain
    assert facts[0].devices[0].memory_bytes == CLASSES["H100"].memory_bytes
    assert parse_site("7x1:H100", CLASSES).node_count == 7
    assert node_facts(spec) == facts  # the same at every start


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no simulated site"),
        ("big", "no simulated site"),
        ("2x2", "no simulated site"),
        ("-1x2:H100", "no simulated site"),
        ("2x2:H100\n", "no simulated site"),
        ("999999x2:H100", "no simulated site"),
        ("2x2:H999", "no device class"),
        ("0x2:H100", "1 to"),
        (f"{NODES_MAX + 1}x1:H100", "1 to"),
        ("1x73:H100", "1 to"),
        ("1x0:H100", "1 to"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(text: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as caught:
        parse_site(text, CLASSES)
    assert caught.value.field == "simulated"
