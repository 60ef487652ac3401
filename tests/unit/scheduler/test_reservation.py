"""The planner and the calendar: complete, judged by the domain alone, and the picture is left as it was."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.claim import Ask, DeviceState
from penstock.domain.reservation import Booking, Leaving, used_later
from penstock.scheduler import Fleet, NoPlan, Plan, place
from penstock.scheduler.calendar import at_a_later_time, book, earliest
from penstock.scheduler.reservation import Ends
from tests.support.fleets import CLASSES, Picture, asks, can_be_placed, device, node, pictures

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURS = st.integers(0, 4)


def hour(number: int) -> datetime:
    return NOW + number * HOUR


@st.composite
def calendars(draw: st.DrawFn) -> tuple[Picture, Ends]:
    """Return a picture with bookings that do not overlap, and some of what is in use with a known end."""
    picture = draw(pictures())
    devices: list[DeviceState] = []
    leaving: dict[str, tuple[Leaving, ...]] = {}
    for one in picture.devices:
        whole = (1 << one.slices) - 1
        bookings: list[Booking] = []
        for number in range(draw(st.integers(0, 2))):
            start, length = draw(HOURS), draw(st.integers(1, 2))
            mask = draw(st.sampled_from([whole, whole, 1]))
            name = f"r{draw(st.integers(0, 1))}"
            made = Booking(name, mask, hour(start), hour(start + length), begun=start == 0)
            if all(b.mask & mask == 0 or b.end <= made.start or made.end <= b.start for b in bookings):
                bookings.append(made)
            del number
        used = 0 if any(b.begun for b in bookings) else one.used_mask
        if used and draw(st.booleans()):
            leaving[one.device_id] = (Leaving(used, hour(draw(st.integers(1, 3)))),)
        yielding = used if one.device_id not in leaving and draw(st.booleans()) else 0
        devices.append(replace(one, bookings=tuple(bookings), used_mask=used, yielding_mask=yielding))
    return Picture(picture.nodes, tuple(devices)), leaving


def fleet_of(picture: Picture) -> Fleet:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes(picture.nodes)
    fleet.upsert_devices(picture.devices)
    return fleet


def orders() -> st.SearchStrategy[Ask]:
    """Return orders for now: open, with an end, or that yield."""
    times = st.one_of(st.just({}), st.builds(lambda end: {"ends_at": hour(end)}, st.integers(1, 6)))
    kinds = st.one_of(times, st.just({"preemptible": True}))
    return st.builds(lambda ask, more: replace(ask, **more), asks(counts=(1, 1, 2, 3)), kinds)


@settings(max_examples=100)
@given(calendars(), orders())
def test_an_order_for_now_is_placed_exactly_if_the_calendar_lets_it(
    made: tuple[Picture, Ends], ask: Ask
) -> None:
    picture, _ = made
    fleet = fleet_of(picture)
    before = fleet.digest()
    plan = place(fleet, ask)
    assert isinstance(plan, Plan) == can_be_placed(fleet, picture, ask)
    assert fleet.digest() == before


@settings(max_examples=100)
@given(calendars(), asks(counts=(1, 1, 2, 3)), HOURS, st.integers(1, 3))
def test_a_booking_is_planned_exactly_if_there_is_room_then(
    made: tuple[Picture, Ends], ask: Ask, start: int, length: int
) -> None:
    picture, leaving = made
    fleet = fleet_of(picture)
    before = fleet.digest()
    wanted = replace(
        ask, starts_at=hour(start), ends_at=hour(start + length), node_memory_bytes=0, node_cpu_millis=0
    )
    plan = book(fleet, wanted, leaving)  # judges itself: a plan that fits refuses raises
    assert fleet.digest() == before
    judged = fleet_of(
        replace(picture, devices=tuple(as_it_will_be(one, leaving, hour(start)) for one in picture.devices))
    )
    assert isinstance(plan, Plan) == can_be_placed(judged, picture, wanted)


def as_it_will_be(one: DeviceState, leaving: Ends, start: datetime) -> DeviceState:
    """Return a device without what is gone by ``start``; what is on the calendar stays for ``fits`` to judge."""
    ends = leaving.get(one.device_id, ())
    return replace(one, used_mask=used_later(one.used_mask, one.yielding_mask, ends, start), yielding_mask=0)


@given(calendars(), st.integers(1, 3))
def test_one_more_free_device_never_turns_a_booking_away(made: tuple[Picture, Ends], count: int) -> None:
    picture, leaving = made
    ask = Ask(count, "A", driver="a", starts_at=hour(1), ends_at=hour(2))
    before = book(fleet_of(picture), ask, leaving)
    more = replace(picture.nodes[0], node_id="more", schedulable=True, drivers=frozenset("a"))
    extra = replace(device("more-d", "more"), device_class="A")
    grown = fleet_of(Picture((*picture.nodes, more), (*picture.devices, extra)))
    if isinstance(before, Plan):
        assert isinstance(book(grown, ask, leaving), Plan)


@pytest.fixture
def eight() -> Fleet:
    """Two nodes of four H100; four of them booked from one to two o'clock."""
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("a"), node("b")])
    booking = Booking("rsv", 127, hour(1), hour(2))
    fleet.upsert_devices(device(f"a{n}", "a", bookings=(booking,)) for n in range(4))
    fleet.upsert_devices(device(f"b{n}", "b") for n in range(4))
    return fleet


def test_planning_for_later_leaves_every_count_and_what_was_known(eight: Fleet) -> None:
    eight.upsert_devices([device("b3", "b", used_mask=127, yielding_mask=127)])
    ask = Ask(2, "H100", ends_at=hour(1))
    before = place(eight, ask)
    pool = eight.pools["H100"]
    known = dict(pool.capacities)
    tables = [table.data.copy() for table in (pool.devices, pool.cells, pool.groups, pool.islands)]
    free = pool.layout().outer_free.copy()
    for start in range(1, 4):
        wanted = Ask(8, "H100", starts_at=hour(start), ends_at=hour(start + 1))
        assert isinstance(book(eight, wanted, {}), Plan) == (start > 1)
        runs = Ask(3, "H100", slices=3, starts_at=hour(start), ends_at=hour(start + 1))
        assert isinstance(book(eight, runs, {}), Plan)
    after = [table.data for table in (pool.devices, pool.cells, pool.groups, pool.islands)]
    assert all((one == other).all() for one, other in zip(tables, after, strict=True))
    assert (free == pool.layout().outer_free).all()
    assert dict(pool.capacities) == known
    assert place(eight, ask) == before


def test_the_earliest_start_is_when_the_last_booking_in_the_way_ends(eight: Fleet) -> None:
    assert earliest(eight, Ask(8, "H100"), {}, NOW, 3 * HOUR) == hour(2)
    assert earliest(eight, Ask(9, "H100"), {}, NOW, HOUR) is None
    leaving = {f"b{n}": (Leaving(127, hour(3)),) for n in range(4)}
    eight.upsert_devices(device(f"b{n}", "b", used_mask=127) for n in range(4))
    assert earliest(eight, Ask(4, "H100"), leaving, NOW, 3 * HOUR) == hour(2)
    assert earliest(eight, Ask(8, "H100"), leaving, NOW, 3 * HOUR) == hour(3)
    assert earliest(eight, Ask(8, "H100"), {}, NOW, HOUR) is None, "who says no end is taken to stay"


def test_the_counterfactual_names_the_time_and_what_it_needs(eight: Fleet) -> None:
    told = at_a_later_time(eight, Ask(8, "H100"), {}, NOW, 3 * HOUR)
    assert told is not None
    assert (told.sentence, told.orderable, told.start_at) == ("at 14:00 UTC with 8 devices", True, hour(2))
    open_ended = at_a_later_time(eight, Ask(8, "H100"), {}, NOW, None)
    assert open_ended is not None
    assert not open_ended.orderable


def test_inside_a_reservation_only_what_it_holds_is_given(eight: Fleet) -> None:
    inside = Ask(2, "H100", reservation_id="rsv", ends_at=hour(2))
    assert isinstance(place(eight, inside), NoPlan), "it has not begun"
    begun = Booking("rsv", 127, hour(1), hour(2), begun=True)
    eight.upsert_devices(device(f"a{n}", "a", bookings=(begun,)) for n in range(4))
    plan = place(eight, inside)
    assert isinstance(plan, Plan)
    assert {grant.node_id for grant in plan.grants} == {"a"}
    assert isinstance(place(eight, replace(inside, count=5)), NoPlan)
    assert isinstance(place(eight, Ask(5, "H100", preemptible=True)), NoPlan)
    eight.apply(plan.grants)
    assert isinstance(place(eight, replace(inside, count=3)), NoPlan)
