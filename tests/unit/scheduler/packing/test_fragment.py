"""Fragments by the FGD study's definition, and its policy."""

import pytest

from penstock.scheduler.packing.fragment import fleet_fragment_milli, fragment_milli, typical_of
from penstock.scheduler.packing.residual import NodeKind, Residuals, State
from tests.support.packing import BIG, ask, table_of, workload


@pytest.mark.parametrize(
    ("state", "fragment"),
    [
        (State(96_000, 0, (1_000, 1_000)), 0.0),
        (State(96_000, 0, (1_000, 400)), 400.0),  # one device has too little left
        (State(96_000, 0, (400, 400)), 800.0),  # the request cannot run at all
        (State(1_000, 0, (1_000, 1_000)), 2_000.0),  # not enough CPU
        (State(96_000, 1, (1_000,)), 1_000.0),  # another model
        (State(96_000, -1, ()), 0.0),
    ],
)
def test_what_one_request_cannot_use(state: State, fragment: float) -> None:
    _, mix, _ = workload(ask(milli=500, cpu=4_000, models=1))
    assert fragment_milli(state, typical_of(mix)) == pytest.approx(fragment)


def test_requests_count_by_their_share_and_those_without_devices_use_none() -> None:
    _, mix, _ = workload(*[ask(milli=500)] * 3, ask(0))
    assert fragment_milli(State(96_000, 0, (1_000,)), typical_of(mix)) == pytest.approx(250.0)


def test_the_rarest_requests_are_not_typical_and_memory_does_not_tell_them_apart() -> None:
    _, mix, _ = workload(*[ask(memory=1)] * 50, *[ask(memory=2)] * 46, *[ask(milli=300)] * 4)
    typical = typical_of(mix)
    assert typical.device_milli.tolist() == [1_000]
    assert typical.share.tolist() == [1.0]


def test_the_fragment_of_a_fleet_is_the_sum() -> None:
    _, mix, _ = workload(ask(milli=500))
    fleet = Residuals([BIG, BIG, NodeKind(1_000, 1_000, 2, 0)])
    assert fleet_fragment_milli(fleet, typical_of(mix)) == pytest.approx(2_000.0)


def test_fgd_places_where_the_fragment_grows_least() -> None:
    table, rows = table_of("fgd", [BIG, BIG], *[ask(milli=600)] * 5, *[ask(milli=400)] * 5, ask())
    table.claim(rows[0], 1)  # leaves 400 of one device
    place = table.place(rows[5])
    assert place is not None
    assert (place.node, place.devices) == (1, (0,))
