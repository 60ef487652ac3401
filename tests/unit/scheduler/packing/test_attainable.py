"""What a node can still attain: sizes have values, and less is never worth more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.scheduler.packing.attainable import LEVELS, UNIT, Attainable, sizes_of
from penstock.scheduler.packing.residual import Request
from tests.support.packing import ask, requests, workload

WHOLE_UNIT = UNIT * len(LEVELS)


def test_sizes_are_worth_what_they_make_impossible() -> None:
    _, mix, _ = workload(*[ask(milli=810)] * 5, *[ask(milli=470)] * 4, ask(), ask(0))
    sizes = sizes_of(mix)
    assert sizes.milli.tolist() == [470, 810, 1_000]
    assert sizes.value == pytest.approx([0.5, 1.0, 1.0])


def test_the_value_of_a_node_never_grows_with_less() -> None:
    _, mix, _ = workload(*[ask(milli=470, cpu=8_000)] * 3, *[ask(cpu=11_000)] * 3, ask(milli=230, cpu=4_000))
    attainable = Attainable(mix)
    full = attainable.value(96_000, (1_000,) * 8)
    assert full <= 8 * WHOLE_UNIT
    assert attainable.value(40_000, (1_000,) * 8) < full
    assert attainable.value(96_000, (1_000,) * 7 + (530,)) < full
    assert attainable.value(0, (1_000,) * 8) == 0
    assert attainable.value(96_000, ()) == 0


@settings(max_examples=60, deadline=None)
@given(
    coming=st.lists(requests, min_size=1, max_size=12),
    cpu=st.integers(0, 200_000),
    devices=st.lists(st.integers(0, 1_000), max_size=8),
)
def test_the_value_is_between_nothing_and_everything(
    coming: list[Request], cpu: int, devices: list[int]
) -> None:
    _, mix, _ = workload(*coming)
    attainable = Attainable(mix)
    value = attainable.value(cpu, tuple(devices))
    slack = len(devices) * len(LEVELS)  # each device's best cut is rounded to a whole unit
    assert 0 <= value <= len(devices) * WHOLE_UNIT + slack
    assert attainable.value(cpu + 1_000, tuple(devices)) >= value
    assert attainable.value(cpu, (*devices, 1_000)) >= value
