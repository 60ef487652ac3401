"""Cuts in batches: the tiling holds, whatever is cut in one call or in two transactions at once."""

import random
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.control_plane import ControlPlane
from penstock.domain.segment import FREE, Holding, Segment, SegmentState, conservation_error_us
from penstock.store import segment
from penstock.store.database import SYSTEM
from tests.fixtures.factory import START

DARK = Holding(SegmentState.DARK, "node_unreachable")
SOLD = Holding(SegmentState.SOLD_IDLE, None, "ten_a", "prj_a", "svc_a", "off_a", "pbk_a")


def add_devices(connection: Connection, slices: Sequence[int]) -> list[str]:
    """Write the least rows a segment needs: a site, an agent, a node, a class and devices."""
    at = {"at": START}
    for statement in (
        "INSERT INTO site (id, name, simulated, created_at) VALUES ('sit_1', 'x', true, :at)",
        (
            "INSERT INTO agent (id, name, transport, state, last_seen_at, created_at) "
            "VALUES ('agt_1', 'a', 'in_process', 'active', :at, :at)"
        ),
        (
            "INSERT INTO node (id, site_id, agent_id, name, simulated, state, architecture, cpu_model, cpu_cores, "
            "cpu_threads, numa, disks, nics, notes, drivers, created_at) VALUES ('nod_1', 'sit_1', 'agt_1', 'n', true, "
            "'ready', 'x86_64', 'c', 1, 1, '[]', '[]', '[]', '[]', '{}', :at)"
        ),
        "INSERT INTO device_class (name, data) VALUES ('c', '{}')",
    ):
        connection.execute(sa.text(statement), at)
    ids = [f"dev_{n:04}" for n in range(len(slices))]
    for position, (id_, count) in enumerate(zip(ids, slices, strict=True)):
        connection.execute(
            sa.text(
                "INSERT INTO device (id, node_id, position, device_class, model, vendor, slices, health, simulated, "
                "created_at) VALUES (:id, 'nod_1', :position, 'c', 'm', 'v', :slices, 'ok', true, :at)"
            ),
            {"id": id_, "position": position, "slices": count, "at": START},
        )
    devices = segment.lock_devices(connection, ids)
    segment.open_for_new_devices(connection, devices, START)
    return ids


def history(connection: Connection, device_id: str) -> list[Segment]:
    rows = connection.execute(sa.text("SELECT * FROM segment WHERE device_id = :id"), {"id": device_id})
    return [segment.to_segment(dict(row)) for row in rows.mappings()]


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_new_device_is_free_over_all_its_slices(control_plane: ControlPlane) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        add_devices(connection, [7, 1])
        found = segment.open_segments(connection, ["dev_0000", "dev_0001"])
    assert found["dev_0000"] == [Segment("dev_0000", 0, 7, START, None, FREE)]
    assert found["dev_0001"] == [Segment("dev_0001", 0, 1, START, None, FREE)]


def test_selling_slices_splits_and_giving_back_closes(control_plane: ControlPlane) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        add_devices(connection, [7])
        assert segment.cut_many(connection, [("dev_0000", 2, 4, SOLD)], after(10)) == 3
        assert segment.cut_many(connection, [("dev_0000", 2, 4, FREE)], after(30)) == 1
        rows = history(connection, "dev_0000")
    assert conservation_error_us(rows, 7, START, after(100)) == 0
    sold = [s for s in rows if s.holding == SOLD]
    assert [(s.start, s.end, s.width) for s in sold] == [(after(10), after(30), 2)]


def test_same_state_again_writes_nothing(control_plane: ControlPlane) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        add_devices(connection, [7])
        segment.cut_many(connection, [("dev_0000", 0, 3, DARK)], after(1))
        assert (
            segment.cut_many(connection, [("dev_0000", 0, 3, DARK), ("dev_0000", 1, 2, DARK)], after(2)) == 0
        )
        assert len(history(connection, "dev_0000")) == 3


def test_two_changes_of_one_device_in_one_call_leave_no_row_of_the_moment_between(
    control_plane: ControlPlane,
) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        add_devices(connection, [4])
        segment.cut_many(connection, [("dev_0000", 0, 2, SOLD), ("dev_0000", 0, 4, DARK)], after(5))
        rows = history(connection, "dev_0000")
    assert [(s.slice_low, s.slice_high, s.holding.state) for s in rows] == [
        (0, 4, SegmentState.FREE),
        (0, 4, SegmentState.DARK),
    ]


def test_clock_that_went_back_makes_no_negative_time(control_plane: ControlPlane) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        add_devices(connection, [1])
        segment.cut_many(connection, [("dev_0000", 0, 1, SOLD)], after(10))
        segment.cut_many(connection, [("dev_0000", 0, 1, FREE)], after(3))
        rows = history(connection, "dev_0000")
    assert conservation_error_us(rows, 1, START, after(50)) == 0


@pytest.mark.parametrize("change", [("dev_none", 0, 1, FREE), ("dev_0000", 0, 8, DARK)])
def test_what_is_not_covered_is_refused(control_plane: ControlPlane, change: segment.Change) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        add_devices(connection, [7])
        with pytest.raises(ValueError, match=r"device|cover"):
            segment.cut_many(connection, [change], after(1))


@pytest.mark.parametrize("seed", range(4))
def test_tiling_survives_random_batches(control_plane: ControlPlane, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable example, no secret
    with control_plane.db.transaction(SYSTEM) as connection:
        ids = add_devices(connection, [7, 8, 1, 62])
        widths = dict(zip(ids, (7, 8, 1, 62), strict=True))
        for step in range(40):
            changes: list[segment.Change] = []
            for _ in range(chance.randrange(1, 6)):
                id_ = chance.choice(ids)
                low = chance.randrange(widths[id_])
                high = chance.randrange(low + 1, widths[id_] + 1)
                changes.append((id_, low, high, chance.choice([FREE, SOLD, DARK])))
            segment.cut_many(connection, changes, after(step + chance.randrange(-2, 3)))
        for id_ in ids:
            assert conservation_error_us(history(connection, id_), widths[id_], START, after(500)) == 0


def test_two_transactions_at_once_wait_for_each_other(control_plane: ControlPlane) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        add_devices(connection, [8])
    errors: list[BaseException] = []

    def sell(low: int) -> None:
        try:
            for n in range(10):
                with control_plane.db.transaction(SYSTEM) as connection:
                    holding = SOLD if n % 2 == 0 else FREE
                    segment.cut_many(connection, [("dev_0000", low, low + 4, holding)], after(n))
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=sell, args=(low,)) for low in (0, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with control_plane.db.transaction(SYSTEM) as connection:
        assert conservation_error_us(history(connection, "dev_0000"), 8, START, after(500)) == 0


def test_wider_device_starts_one_new_segment(control_plane: ControlPlane) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        add_devices(connection, [1])
        connection.execute(sa.text("UPDATE device SET slices = 7"))
        segment.replace_width(connection, ["dev_0000"], after(4))
        rows = history(connection, "dev_0000")
    assert sorted((s.slice_high, s.start, s.end) for s in rows if s.end is None) == [(7, after(4), None)]
    assert [(s.slice_high, s.end) for s in rows if s.end is not None] == [(1, after(4))]
