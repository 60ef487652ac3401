"""Arrivals follow the study's protocol and depend on the seed alone."""

from collections import Counter

import numpy as np
import pytest

from penstock.base.errors import InvalidInputError
from penstock.scheduler.packing.residual import NodeKind
from penstock.twin.place import arrivals as protocol
from penstock.twin.place.arrivals import arrivals
from penstock.twin.place.traces import Fleet, Workload
from tests.support.packing import ask, workload

FLEET = Fleet([NodeKind(64_000, 256_000, 8, 0), NodeKind(64_000, 256_000, 2, 1)], ("A", "B"))


def requests(*each: tuple[int, int]) -> Workload:
    """Return a workload of (how many, device milli)."""
    shapes, _, rows = workload(*(ask(milli=milli) for count, milli in each for _ in range(count)))
    return Workload(shapes, np.array(rows, dtype=np.int64))


def test_the_list_comes_once_and_samples_fill_up_to_130_percent() -> None:
    coming = arrivals(FLEET, requests((4, 1_000), (8, 500)), 1)
    taken = [[500, 1_000][shape] for shape in coming.shapes]
    assert Counter(coming.shapes[:12]) == {1: 4, 0: 8}
    assert 12_500 <= sum(taken) <= 13_000
    assert sorted(coming.nodes, key=lambda node: node.devices) == sorted(
        FLEET.nodes, key=lambda node: node.devices
    )


def test_a_longer_list_is_cut() -> None:
    coming = arrivals(FLEET, requests((40, 1_000)), 1)
    assert len(coming.shapes) == 13


def test_the_seed_decides() -> None:
    work = requests((4, 1_000), (30, 100))
    assert arrivals(FLEET, work, 5) == arrivals(FLEET, work, 5)
    assert arrivals(FLEET, work, 5).shapes != arrivals(FLEET, work, 6).shapes


def test_copies_multiply_the_fleet() -> None:
    coming = arrivals(FLEET, requests((4, 1_000)), 1, copies=3)
    assert len(coming.nodes) == 6
    assert len(coming.shapes) == 39


def test_arrivals_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "TWIN_ARRIVALS_MAX", 50)
    with pytest.raises(InvalidInputError, match="more than 50 arrivals"):
        arrivals(FLEET, requests((4, 100)), 1)
