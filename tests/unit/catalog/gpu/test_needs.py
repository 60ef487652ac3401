"""What an order needs decides its classes; a need that nothing meets is named."""

from dataclasses import replace
from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Known, merge_order
from penstock.catalog.gpu.spec import FORM, compile_order
from penstock.catalog.known import asks_prices, priced
from penstock.domain.device import load_device_classes
from penstock.domain.price import Meter, Price, PriceBook

EUR = 1_000_000
BOOK = PriceBook(
    "prb_1",
    1,
    tuple(
        Price(Meter.GPU_HOURS, name, int(eur * EUR))
        for name, eur in {"GB200": 7, "H100": 2.5, "A100": 1.5, "L40S": 1.2, "*": 5}.items()
    ),
)
KNOWN = priced(Known(load_device_classes(), {}), BOOK)


def classes(**asked: Any) -> tuple[str, ...]:
    (ask,) = compile_order(merge_order(FORM, {}, asked), KNOWN).asks
    return ask.classes


def test_an_open_class_is_every_class_that_does_cheapest_first() -> None:
    assert classes(count=1)[:3] == ("L40S", "A100", "H100")
    assert classes(count=1, memory_gib_min=60)[:2] == ("A100", "H100")
    assert classes(count=1, interconnect_gb_per_s_min=900, microeur_per_hour_max=3 * EUR) == ("H100",)
    assert "L40S" not in classes(count=1, slices=2)


def test_a_named_class_without_needs_is_left_alone_and_with_needs_is_judged() -> None:
    assert classes(count=1, device_class="A100") == ()
    assert "A100" in classes(count=1, device_class="A100", interconnect_gb_per_s_min=600)
    with pytest.raises(InvalidInputError, match="A100 has 600 GB/s") as refusal:
        classes(count=1, device_class="A100", interconnect_gb_per_s_min=601)
    assert refusal.value.field == "spec.interconnect_gb_per_s_min"


def test_a_deadline_leaves_the_classes_that_are_fast_enough() -> None:
    work = {"work_gpu_hours": 800, "work_measured_on": "A100", "deadline_hours": 60}
    assert set(classes(count=8, **work)) == {"GB200", "B200", "H200", "H100", "MI300X", "Gaudi3"}
    assert classes(count=8, **work)[:2] == ("B200", "H100"), "the cheapest for the work, not by the hour"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"memory_gib_min": 4000}, "spec.memory_gib_min"),
        ({"interconnect_gb_per_s_min": 9000}, "spec.interconnect_gb_per_s_min"),
        ({"bf16_tflops_min": 9000}, "spec.bf16_tflops_min"),
        ({"microeur_per_hour_max": 1}, "spec.microeur_per_hour_max"),
        ({"slices": 8, "bf16_tflops_min": 2000}, "spec.bf16_tflops_min"),
        ({"work_gpu_hours": 10}, "spec.work_measured_on"),
        ({"deadline_hours": 10}, "spec.work_gpu_hours"),
        ({"work_gpu_hours": 10, "work_measured_on": "A100"}, "spec.deadline_hours"),
        ({"work_gpu_hours": 10, "work_measured_on": "abacus", "deadline_hours": 1}, "spec.work_measured_on"),
        ({"work_gpu_hours": 999_999, "work_measured_on": "A100", "deadline_hours": 1}, "spec.deadline_hours"),
    ],
)
def test_a_need_that_nothing_meets_is_named(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        classes(count=1, **asked)
    assert refusal.value.field == field


def test_prices_are_read_where_they_decide() -> None:
    assert asks_prices({"device_class": None})
    assert asks_prices({"device_class": "H100", "microeur_per_hour_max": 5})
    assert not asks_prices({"device_class": "H100", "microeur_per_hour_max": None})
    assert not asks_prices({"model": "m"})
    assert priced(replace(KNOWN, prices={}), BOOK).prices["Gaudi3"] == 5 * EUR
