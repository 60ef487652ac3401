"""The cheapest class that meets every need, and of each other class the first need that it misses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.units import BYTES_PER_GIB
from penstock.domain.device import DeviceClass
from penstock.scheduler.steer import Miss, Needs, Work, steer

EUR = 1_000_000


def kind(name: str, memory_gib: int, tflops: int, link: int, slices: int = 1) -> DeviceClass:
    return DeviceClass(
        name, "v", name, memory_gib << 30, slices, (memory_gib << 30) // slices, 300, (), "test", tflops, link
    )


SMALL, MIDDLE, FAST = (
    kind("small", 24, 125, 0),
    kind("middle", 80, 312, 600, 7),
    kind("fast", 80, 989, 900, 7),
)
BLANK = kind("blank", 96, 0, 0)
CLASSES = [FAST, SMALL, BLANK, MIDDLE]
PRICES = {"small": EUR, "middle": 2 * EUR, "fast": 4 * EUR}


@pytest.mark.parametrize(
    ("needs", "classes"),
    [
        (Needs(), ("small", "middle", "fast", "blank")),
        (Needs(memory_bytes_min=40 * BYTES_PER_GIB), ("middle", "fast", "blank")),
        (Needs(interconnect_gb_per_s_min=1), ("middle", "fast")),
        (Needs(interconnect_gb_per_s_min=601), ("fast",)),
        (Needs(tflops_min=313), ("fast",)),
        (Needs(microeur_per_hour_max=2 * EUR), ("small", "middle")),
        (Needs(slices=2), ("middle", "fast")),
        (Needs(slices=2, tflops_min=200), ("fast",)),
        (Needs(slices=2, microeur_per_hour_max=571_429), ("middle",)),
        (Needs(slices=8), ()),
        # 100 hours at 312: small takes 250, fast 32, and is cheaper for the whole work than middle is.
        (Needs(work=Work(100, 312, 300)), ("fast", "middle", "small")),
        (Needs(work=Work(100, 312, 100)), ("fast", "middle")),
        (Needs(count=2, work=Work(100, 312, 50)), ("fast", "middle")),
        (Needs(work=Work(100, 312, 31)), ()),
    ],
)
def test_the_cheapest_class_that_meets_the_needs_comes_first(needs: Needs, classes: tuple[str, ...]) -> None:
    steered = steer(CLASSES, PRICES, needs)
    assert steered.classes == classes
    assert {*classes, *(one.device_class for one in steered.missed)} == {one.name for one in CLASSES}


@pytest.mark.parametrize(
    ("needs", "name", "miss", "words"),
    [
        (Needs(slices=2), "small", Miss.CUT, "cannot be cut into slices of 2"),
        (Needs(memory_bytes_min=40 << 30), "small", Miss.MEMORY, "has 24 GiB, not 40 GiB"),
        (Needs(interconnect_gb_per_s_min=700), "middle", Miss.INTERCONNECT, "has 600 GB/s"),
        (Needs(interconnect_gb_per_s_min=700), "small", Miss.INTERCONNECT, "no known link"),
        (Needs(tflops_min=200), "small", Miss.SPEED, "does 125 TFLOPS, not 200"),
        (Needs(tflops_min=200), "blank", Miss.SPEED, "no known speed"),
        (Needs(work=Work(100, 312, 100)), "small", Miss.DEADLINE, "would need about 250 hours, not 100"),
        (Needs(work=Work(100, 312, 100)), "blank", Miss.DEADLINE, "no deadline can be promised"),
        (
            Needs(microeur_per_hour_max=EUR),
            "middle",
            Miss.PRICE,
            "costs 2.00 EUR an hour, and the cap is 1.00 EUR",
        ),
        (Needs(microeur_per_hour_max=EUR), "blank", Miss.PRICE, "has no price"),
    ],
)
def test_a_class_that_does_not_do_says_why(needs: Needs, name: str, miss: Miss, words: str) -> None:
    missed = {one.device_class: one for one in steer(CLASSES, PRICES, needs).missed}[name]
    assert missed.miss is miss
    assert words in missed.sentence
    assert name in missed.sentence


needs_of_all_kinds = st.builds(
    Needs,
    count=st.integers(1, 8),
    slices=st.sampled_from([0, 0, 1, 3]),
    memory_bytes_min=st.integers(0, 100).map(lambda gib: gib << 30),
    interconnect_gb_per_s_min=st.integers(0, 1000),
    tflops_min=st.integers(0, 1000),
    microeur_per_hour_max=st.one_of(st.none(), st.integers(0, 5 * EUR)),
)


@given(needs_of_all_kinds, st.permutations(CLASSES))
def test_prices_rise_along_the_answer_and_the_order_of_classes_does_not_matter(
    needs: Needs, classes: list[DeviceClass]
) -> None:
    steered = steer(classes, PRICES, needs)
    assert steered == steer(CLASSES, PRICES, needs)
    prices = [PRICES.get(name, 1 << 60) for name in steered.classes]
    assert prices == sorted(prices) or needs.slices


@given(needs_of_all_kinds, needs_of_all_kinds)
def test_asking_for_less_never_loses_a_class(needs: Needs, other: Needs) -> None:
    less = replace(
        needs,
        slices=needs.slices,
        memory_bytes_min=min(needs.memory_bytes_min, other.memory_bytes_min),
        interconnect_gb_per_s_min=min(needs.interconnect_gb_per_s_min, other.interconnect_gb_per_s_min),
        tflops_min=min(needs.tflops_min, other.tflops_min),
        microeur_per_hour_max=None,
    )
    assert set(steer(CLASSES, PRICES, needs).classes) <= set(steer(CLASSES, PRICES, less).classes)
