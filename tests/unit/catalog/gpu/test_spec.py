"""What an order of devices asks for, holds of quotas and is priced by, and what it cannot ask for."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.catalog.base import Known, merge_order
from penstock.catalog.gpu.spec import FORM, class_holds, compile_order
from penstock.domain.claim import Level
from penstock.domain.device import load_device_classes
from penstock.rating.estimate import GpuOrder

KNOWN = Known(load_device_classes(), {})
H100 = KNOWN.device_classes["H100"]
UNCUT = next(one for one in KNOWN.device_classes.values() if one.slices == 1)


def spec(**asked: Any) -> dict[str, Any]:
    return merge_order(FORM, {}, asked)


def test_whole_devices_of_a_class_hold_devices_and_their_memory() -> None:
    order = compile_order(spec(count=2, device_class="H100", same_nvlink_domain=True), KNOWN)
    (ask,) = order.asks
    assert (ask.count, ask.device_class, ask.slices, ask.same_nvlink_domain) == (2, "H100", 0, True)
    assert order.holds["devices:H100"] == 2
    assert order.holds["device_memory_bytes:H100"] == 2 * H100.memory_bytes
    assert order.holds["services"] == 1
    assert order.gpu_orders == (GpuOrder("H100", 2, H100.slices, H100.slices),)


def test_slices_hold_slices_their_memory_and_are_priced_as_a_part() -> None:
    order = compile_order(spec(count=3, device_class="H100", slices=2), KNOWN)
    assert order.asks[0].slices == 2
    assert order.holds["slices:H100"] == 6
    assert order.holds["device_memory_bytes:H100"] == 6 * H100.slice_memory_bytes
    assert not any(dimension.startswith("devices") for dimension in order.holds)
    assert order.gpu_orders == (GpuOrder("H100", 3, 2, H100.slices),)


@pytest.mark.parametrize("asked", [{"count": 2}, {"count": 2, "slices": 3}])
def test_an_open_class_holds_the_same_once_it_is_placed_as_if_it_had_been_named(
    asked: dict[str, Any],
) -> None:
    opened = spec(**asked)
    first = compile_order(opened, KNOWN)
    assert first.gpu_orders == ()
    later = class_holds(opened, "H100", KNOWN)
    named = spec(**asked, device_class="H100")
    assert {**first.holds, **later} == compile_order(named, KNOWN).holds
    assert class_holds(named, "H100", KNOWN) == {}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"device_class": "H1000"}, "spec.device_class"),
        ({"device_class": UNCUT.name, "slices": 1}, "spec.slices"),
        ({"device_class": "H100", "slices": 8}, "spec.slices"),
        ({"device_class": "H100", "memory_gib_min": 81}, "spec.memory_gib_min"),
        ({"device_class": "H100", "slices": 1, "memory_gib_min": 80}, "spec.memory_gib_min"),
    ],
)
def test_what_no_device_of_the_class_can_be_is_refused_at_the_order(
    asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        compile_order(spec(**asked), KNOWN)
    assert caught.value.field == field


def test_memory_that_is_just_enough_is_enough() -> None:
    gib = H100.memory_bytes // BYTES_PER_GIB
    order = compile_order(spec(device_class="H100", memory_gib_min=gib), KNOWN)
    assert order.asks[0].memory_bytes_min == H100.memory_bytes


def test_the_form_is_a_valid_schema_and_bounds_the_count() -> None:
    Draft202012Validator.check_schema(FORM)
    assert spec(count=limits.DEVICES_PER_SERVICE_MAX)["slices"] == 0
    for count in (0, limits.DEVICES_PER_SERVICE_MAX + 1):
        with pytest.raises(InvalidInputError) as caught:
            spec(count=count)
        assert caught.value.field == "spec.count"


def test_a_shape_becomes_part_of_the_ask() -> None:
    (ask,) = compile_order(spec(count=144, device_class="GB200", domains_max=2, within="pod"), KNOWN).asks
    assert (ask.domains_max, ask.within, ask.domain_limit) == (2, Level.POD, 2)
    (older,) = compile_order(
        {name: value for name, value in spec(count=2).items() if name not in ("domains_max", "within")}, KNOWN
    ).asks
    assert (older.domains_max, older.within) == (0, None)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"count": 2, "slices": 1, "domains_max": 2}, "spec.domains_max"),
        ({"count": 2, "slices": 1, "within": "leaf"}, "spec.within"),
        ({"count": 2, "same_nvlink_domain": True, "domains_max": 2}, "spec.domains_max"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_with_its_field(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        compile_order(spec(**asked), KNOWN)
    assert refusal.value.field == field


@pytest.mark.parametrize("asked", [{"within": "galaxy"}, {"domains_max": -1}, {"domains_max": 9}])
def test_a_shape_outside_the_form_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        spec(count=2, **asked)
