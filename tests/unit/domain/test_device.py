"""Device classes as data: the shipped ones are sound, a wrong one is named, models find their class."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.domain.device import SLICES_MAX, classify, load_device_classes

CLASSES = load_device_classes()
ROW = '[X1]\nvendor = "v"\nmodel = "X1"\nmemory_gib = 40\npower_watts = 300\nsource = "s"\n'


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_shipped_class_is_whole_and_its_slices_fit_into_its_memory(name: str) -> None:
    one = CLASSES[name]
    assert one.name == name
    assert 1 <= one.slices <= SLICES_MAX
    assert 0 < one.slices * one.slice_memory_bytes <= one.memory_bytes
    assert one.power_watts > 0
    assert one.source
    assert one.whole_mask.bit_count() == one.slices


def test_a_class_that_says_no_more_is_one_slice_with_all_the_memory() -> None:
    one = load_device_classes(ROW)["X1"]
    assert (one.slices, one.whole_mask) == (1, 1)
    assert one.slice_memory_bytes == one.memory_bytes == 40 * BYTES_PER_GIB
    assert one.match == ()


def test_slice_memory_may_be_less_than_its_even_share() -> None:
    one = load_device_classes(ROW + "slices = 7\nslice_memory_gib = 5\n")["X1"]
    assert one.slice_memory_bytes == 5 * BYTES_PER_GIB
    assert one.whole_mask == 0b1111111


@pytest.mark.parametrize("missing", ["vendor", "model", "memory_gib", "power_watts", "source"])
def test_a_class_with_a_field_missing_is_named(missing: str) -> None:
    text = "\n".join(line for line in ROW.splitlines() if not line.startswith(missing))
    with pytest.raises(InvalidInputError, match=missing) as caught:
        load_device_classes(text)
    assert caught.value.field == "X1"


@pytest.mark.parametrize("slices", [-1, SLICES_MAX + 1])
def test_a_class_with_slices_no_mask_can_hold_is_refused(slices: int) -> None:
    with pytest.raises(InvalidInputError):
        load_device_classes(f"{ROW}slices = {slices}\nslice_memory_gib = 1\n")


def test_a_row_that_is_no_table_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_device_classes("X1 = 3\n")
    assert caught.value.field == "X1"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("nvidia h100 pcie", "H100"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA B200", "B200"),
        ("Some Card 3000", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_longest_matching_text_decides_whatever_its_case(model: str, name: str) -> None:
    assert classify(model, CLASSES) == name


def test_the_order_of_the_classes_does_not_matter() -> None:
    backwards = dict(reversed(CLASSES.items()))
    for one in CLASSES.values():
        for text in one.match:
            assert classify(f"Maker {text} Edition", backwards) == classify(f"Maker {text} Edition", CLASSES)
