"""Transactions: committed or undone, clear when the database is away, tried again after a deadlock."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from penstock.base.errors import UnavailableError
from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM, Database
from penstock.store.schema import setting


def names(plane: ControlPlane) -> list[str]:
    """Return what these tests wrote; a factory has settings of its own."""
    mine = sa.select(setting.c.name).where(setting.c.name.startswith("test-")).order_by(setting.c.name)
    with plane.db.transaction(SYSTEM) as connection:
        return [name.removeprefix("test-") for name in connection.execute(mine).scalars()]


def put(connection: sa.Connection, name: str) -> None:
    connection.execute(sa.insert(setting).values(name=f"test-{name}", value={}))


def test_a_transaction_is_committed_or_undone_as_a_whole(control_plane: ControlPlane) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        put(connection, "a")

    def fail() -> None:
        with control_plane.db.transaction(SYSTEM) as connection:
            put(connection, "b")
            raise KeyError("c")

    with pytest.raises(KeyError):
        fail()
    assert names(control_plane) == ["a"]


def test_an_error_of_the_database_leaves_a_working_connection(control_plane: ControlPlane) -> None:
    for _ in range(20):
        with pytest.raises(sa.exc.ProgrammingError), control_plane.db.transaction(SYSTEM) as connection:
            connection.execute(sa.text("SELECT nonsense FROM nowhere"))
    assert names(control_plane) == []


def test_an_unreachable_database_is_unavailable_and_says_so() -> None:
    database = Database("postgresql+psycopg://nobody@/nothing?host=/nowhere")
    with (
        pytest.raises(UnavailableError, match="the database cannot be reached"),
        database.transaction(SYSTEM),
    ):
        pass
    database.dispose()


def test_a_connection_lost_under_way_is_unavailable_and_the_next_one_works(
    control_plane: ControlPlane,
) -> None:
    def lose() -> None:
        with control_plane.db.transaction(SYSTEM) as connection:
            put(connection, "lost")
            pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            with control_plane.db.transaction(SYSTEM) as other:
                other.execute(sa.text("RESET ROLE"))
                other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
                other.execute(sa.text("SET ROLE penstock_app"))
            put(connection, "never")

    with pytest.raises(UnavailableError):
        lose()
    assert names(control_plane) == []


def test_the_victim_of_a_deadlock_is_tried_again(control_plane: ControlPlane) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        put(connection, "a")
        put(connection, "b")
    meeting = threading.Barrier(2)
    tries = {"ab": 0, "ba": 0}

    def lock_both(order: str) -> None:
        def work(connection: sa.Connection) -> None:
            tries[order] += 1
            for position, name in enumerate(order):
                connection.execute(
                    sa.update(setting).where(setting.c.name == f"test-{name}").values(value={"by": order})
                )
                if position == 0 and tries[order] == 1:
                    meeting.wait(timeout=20)

        control_plane.db.retrying(SYSTEM, work)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(lock_both, order) for order in tries]:
            future.result(timeout=60)
    # The victim may overtake the other one while that wakes up, and one of them is a victim once more.
    assert max(tries.values()) >= 2


def test_the_application_cannot_change_its_tables(control_plane: ControlPlane) -> None:
    with (
        pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"),
        control_plane.db.transaction(SYSTEM) as connection,
    ):
        connection.execute(sa.text("ALTER TABLE project DISABLE ROW LEVEL SECURITY"))
