"""The ledger's sums and the proof that it tiles: SQL says what the domain's own sweep says."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.control_plane import ControlPlane
from penstock.domain.segment import FREE, Holding, Segment, SegmentState, conservation_error_us
from penstock.store import report as report_store
from penstock.store import segment as segment_store
from penstock.store.database import SYSTEM
from penstock.store.schema import device, segment
from tests.fixtures.factory import START
from tests.support.commerce import HOUR, Market, make_market

SOLD = Holding(SegmentState.SOLD_IDLE, None, "ten_a", "prj_a", "svc_a", "off_a", "pbk_a")
DARK = Holding(SegmentState.DARK, "node_unreachable")
END = START + 10 * HOUR


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    return make_market(control_plane)


@pytest.fixture
def connection(market: Market) -> Iterator[Connection]:
    """A transaction as the owner of the tables, so that a test may break the ledger; undone at the end."""
    engine = sa.create_engine(market.plane.db.url, poolclass=sa.NullPool)
    with engine.connect() as opened:
        opened.execute(sa.text("SELECT set_config('penstock.scope', '*', false)"))
        yield opened
        opened.rollback()
    engine.dispose()


def of_device(connection: Connection, device_id: str) -> list[Segment]:
    rows = connection.execute(sa.select(segment).where(segment.c.device_id == device_id)).mappings()
    return [segment_store.to_segment(dict(row)) for row in rows]


def swept(connection: Connection, market: Market, start: datetime, end: datetime, slices: int = 7) -> int:
    """Return what the domain's function finds on all devices, each present since START."""
    return sum(
        conservation_error_us(of_device(connection, id_), slices, max(start, START), end)
        for id_ in market.devices
    )


def shuffled_ledger(connection: Connection, market: Market, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test's dice
    at = START
    for _ in range(60):
        at += timedelta(microseconds=chance.randrange(1, 500_000_000))
        low = chance.randrange(0, 7)
        high = chance.randrange(low + 1, 8) if chance.random() < 0.7 else 7
        holding = chance.choice([FREE, SOLD, DARK])
        segment_store.cut_many(connection, [(chance.choice(market.devices), low, high, holding)], at)


@pytest.mark.parametrize("seed", range(4))
def test_a_ledger_of_cuts_tiles_and_its_states_sum_up_to_the_capacity(
    connection: Connection, market: Market, seed: int
) -> None:
    shuffled_ledger(connection, market, seed)
    for start, end in ((START, END), (START + HOUR, START + 3 * HOUR), (START - HOUR, START + HOUR)):
        assert report_store.conservation_error(connection, start, end) == 0
        found = report_store.summary(connection, start, end)
        lived = (end - max(start, START)) // timedelta(microseconds=1)
        assert sum(row.slice_us for row in found.states) == lived * 7 * len(market.devices)
        assert found.conservation_error_us == 0


@pytest.mark.parametrize("seed", range(6))
def test_damage_is_found_to_the_microsecond(connection: Connection, market: Market, seed: int) -> None:
    shuffled_ledger(connection, market, seed)
    chance = random.Random(1_000 + seed)  # noqa: S311 - a test's dice
    rows = connection.execute(sa.select(segment.c.id, segment.c.start_at).order_by(segment.c.id)).all()
    for row in chance.sample(rows, 5):
        kind = chance.choice(["lost", "twice", "moved"])
        if kind == "lost":
            connection.execute(sa.delete(segment).where(segment.c.id == row.id))
        elif kind == "moved":
            moved = timedelta(microseconds=chance.randrange(-900_000_000, 0))
            connection.execute(
                sa.update(segment).where(segment.c.id == row.id).values(start_at=row.start_at + moved)
            )
        else:
            copied = [c for c in segment.c if c.name not in ("id", "end_at")]
            connection.execute(
                sa.insert(segment).from_select(
                    [c.name for c in copied] + ["end_at"],
                    sa.select(*copied, sa.func.coalesce(segment.c.end_at, END)).where(segment.c.id == row.id),
                )
            )
    for start, end in ((START, END), (START + HOUR, START + 2 * HOUR)):
        expected = swept(connection, market, start, end)
        assert report_store.conservation_error(connection, start, end) == expected
    assert swept(connection, market, START, END) > 0


def test_a_gap_and_an_overlap_of_the_same_size_do_not_cancel(connection: Connection, market: Market) -> None:
    segment_store.cut_many(connection, [(market.devices[0], 0, 7, SOLD)], START + HOUR)
    segment_store.cut_many(connection, [(market.devices[0], 0, 7, FREE)], START + 2 * HOUR)
    connection.execute(
        sa.update(segment)
        .where(segment.c.state == "sold_idle")
        .values(start_at=START + HOUR / 2, end_at=START + HOUR * 1.5)
    )
    expected = 7 * 3_600_000_000
    assert (
        report_store.conservation_error(connection, START, END)
        == expected
        == swept(connection, market, START, END)
    )


def test_a_device_without_any_segment_misses_its_whole_life(connection: Connection, market: Market) -> None:
    connection.execute(sa.delete(segment).where(segment.c.device_id == market.devices[0]))
    assert report_store.conservation_error(connection, START, START + HOUR) == 7 * 3_600_000_000
    assert report_store.conservation_error(connection, START - HOUR, START) == 0, "it did not exist then"


def test_a_device_that_is_cut_anew_and_back_still_tiles(connection: Connection, market: Market) -> None:
    changed = market.devices[0]
    for n, slices in enumerate((1, 4, 7), start=1):
        connection.execute(sa.update(device).where(device.c.id == changed).values(slices=slices))
        segment_store.replace_width(connection, [changed], START + n * HOUR)
    found = report_store.summary(connection, START, END)
    assert found.conservation_error_us == 0
    time = sum((Fraction(r.slice_us, r.slices_of_device) for r in found.states), start=Fraction(0))
    assert time == 10 * 3_600_000_000 * len(market.devices)
    connection.execute(
        sa.update(segment)
        .where(segment.c.device_id == changed, segment.c.device_slices == 4)
        .values(end_at=START + 3 * HOUR - timedelta(microseconds=4))
    )
    assert report_store.conservation_error(connection, START, END) == 4 * 7


def test_the_ledger_begins_with_the_first_device(
    control_plane: ControlPlane,
) -> None:
    with control_plane.db.transaction(SYSTEM) as empty:
        assert report_store.first_device_at(empty) is None
    make_market(control_plane)
    with control_plane.db.transaction(SYSTEM) as filled:
        assert report_store.first_device_at(filled) == START


def test_the_oracle_itself_sees_a_planted_gap() -> None:
    whole = Segment("dev", 0, 7, START, None, FREE)
    short = replace(whole, start=START + timedelta(microseconds=1))
    assert conservation_error_us([short], 7, START, END) == 7
