"""Events: a reader that goes on from the last event it got never misses one, whoever commits when."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from penstock.control_plane import ControlPlane
from penstock.store import event as event_store
from penstock.store.database import SYSTEM, tenant_scope
from penstock.store.event import NewEvent
from penstock.store.rows import Row

TENANT, OTHER = "ten_a", "ten_b"


def new(
    plane: ControlPlane, kind: str, tenant_id: str | None = TENANT, project_id: str | None = None
) -> NewEvent:
    return NewEvent(plane.clock.now(), kind, "svc_1", tenant_id, project_id, {"n": kind})


def read(plane: ControlPlane, after_id: int = 0, limit: int = 100, **more: object) -> list[Row]:
    wanted = {"tenant_id": None, "project_ids": None, **more}
    with plane.db.transaction(SYSTEM) as connection:
        return event_store.read_after(connection, after_id=after_id, limit=limit, **wanted)  # pyright: ignore[reportArgumentType] - the test's own keywords


def kinds(rows: list[Row]) -> list[str]:
    return [row["kind"] for row in rows]


def test_a_batch_keeps_its_order_and_content(control_plane: ControlPlane) -> None:
    batch = [new(control_plane, f"k{n}", None if n % 2 else TENANT) for n in range(50)]
    with control_plane.db.transaction(SYSTEM) as connection:
        event_store.emit_many(connection, [])
        event_store.emit_many(connection, batch)
    rows = read(control_plane)
    assert kinds(rows) == [f"k{n}" for n in range(50)]
    assert rows[3]["data"] == {"n": "k3"}
    assert rows[3]["at"] == control_plane.clock.now()
    assert rows[3]["tenant_id"] is None


def test_a_slow_transaction_holds_later_events_back_instead_of_being_skipped(
    control_plane: ControlPlane,
) -> None:
    with control_plane.db.transaction(tenant_scope(TENANT)) as slow:
        event_store.emit_many(slow, [new(control_plane, "slow-1")])
        with control_plane.db.transaction(SYSTEM) as quick:
            event_store.emit_many(quick, [new(control_plane, "quick")])
        assert kinds(read(control_plane)) == []
        event_store.emit_many(slow, [new(control_plane, "slow-2")])
    assert kinds(read(control_plane)) == ["slow-1", "slow-2", "quick"]


def test_a_later_transaction_with_a_smaller_number_is_not_skipped(control_plane: ControlPlane) -> None:
    """The case that a cursor over ids alone loses: the older transaction emits last and commits first."""
    plane = control_plane
    newer_has_emitted, older_is_done = threading.Event(), threading.Event()

    def newer() -> None:
        with plane.db.transaction(tenant_scope(OTHER)) as connection:
            event_store.emit_many(connection, [new(plane, "newer", OTHER)])
            newer_has_emitted.set()
            assert older_is_done.wait(20)

    with ThreadPoolExecutor(1) as pool:
        with plane.db.transaction(tenant_scope(TENANT)) as older:
            event_store.emit_many(older, [new(plane, "older-1")])
            waiting = pool.submit(newer)
            assert newer_has_emitted.wait(20)
            event_store.emit_many(older, [new(plane, "older-2")])
        first = read(plane)
        assert kinds(first) == ["older-1", "older-2"]
        older_is_done.set()
        waiting.result(timeout=20)
    rest = read(plane, after_id=first[-1]["id"])
    assert kinds(rest) == ["newer"]
    assert rest[0]["id"] < first[-1]["id"], "this is what the test is about"


def test_a_reader_misses_nothing_while_many_write(control_plane: ControlPlane) -> None:
    plane, writers, each = control_plane, 6, 15
    done = threading.Event()
    got: list[str] = []

    def write(number: int) -> None:
        rng = random.Random(number)  # noqa: S311 - a test's dice
        for turn in range(each):
            with plane.db.transaction(tenant_scope(TENANT)) as connection:
                for part in range(rng.randint(1, 3)):
                    event_store.emit_many(connection, [new(plane, f"{number}-{turn}-{part}")])

    def follow() -> None:
        place = 0
        while True:
            ending = done.is_set()
            rows = read(plane, after_id=place, limit=7)
            got.extend(kinds(rows))
            place = rows[-1]["id"] if rows else place
            if ending and not rows:
                return

    reader = threading.Thread(target=follow)
    reader.start()
    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    done.set()
    reader.join(timeout=60)
    assert not reader.is_alive()
    everything = kinds(read(plane, limit=1_000))
    assert len(everything) >= writers * each
    assert got == everything


def test_filters_and_unknown_places(control_plane: ControlPlane) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        event_store.emit_many(
            connection,
            [
                new(control_plane, "a.one", TENANT, "prj_1"),
                new(control_plane, "a_two", TENANT, "prj_2"),
                new(control_plane, "b.one", TENANT),
                new(control_plane, "c", None),
                new(control_plane, "c", OTHER),
            ],
        )
    assert kinds(read(control_plane, tenant_id=TENANT)) == ["a.one", "a_two", "b.one"]
    assert kinds(read(control_plane, tenant_id=TENANT, project_ids={"prj_1"})) == ["a.one"]
    assert kinds(read(control_plane, tenant_id=TENANT, project_ids=set())) == []
    assert kinds(read(control_plane, kind_prefix="a.")) == ["a.one"]
    assert kinds(read(control_plane, kind_prefix="a_")) == ["a_two"]
    assert read(control_plane, subject_id="svc_2") == []
    assert read(control_plane, after_id=10_000) == []
    with control_plane.db.transaction(SYSTEM) as connection:
        assert event_store.latest_id(connection, tenant_id=None) == 5
        assert event_store.latest_id(connection, tenant_id=TENANT) == 3
        assert event_store.latest_id(connection, tenant_id="ten_none") == 0


@pytest.mark.parametrize("statement", ["UPDATE event SET kind = 'x'", "DELETE FROM event"])
def test_events_are_never_rewritten(control_plane: ControlPlane, statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        control_plane.db.transaction(SYSTEM) as c,
    ):
        c.execute(sa.text(statement))
