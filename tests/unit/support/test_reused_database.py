"""A database that served a test is as new for the next one, or it is another one."""

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest

from tests.support import reused_database
from tests.support.reused_database import ReusedDatabases

COUNTS = """
SELECT (SELECT count(*) FROM setting), (SELECT count(*) FROM alembic_version), (SELECT count(*) FROM pg_class)
"""


@pytest.fixture
def own(databases: ReusedDatabases) -> Iterator[ReusedDatabases]:
    """Nobody else gets databases from here."""
    found = ReusedDatabases(databases.url_of("postgres"), "template_penstock")
    yield found
    found.close()


def rows(url: str, statement: LiteralString) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def oid(url: str) -> object:
    return rows(url, "SELECT oid FROM pg_database WHERE datname = current_database()")[0][0]


def test_rows_are_gone_and_those_of_the_template_are_back(own: ReusedDatabases) -> None:
    with own.lend() as name:
        before, first = rows(own.url_of(name), COUNTS), oid(own.url_of(name))
        with psycopg.connect(own.url_of(name)) as connection:
            connection.execute("INSERT INTO setting (name, value) VALUES ('x', '1')")
            connection.execute("DELETE FROM alembic_version")
        held = psycopg.connect(own.url_of(name))
    with pytest.raises(psycopg.OperationalError):
        held.execute("SELECT 1")
    held.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(own.url_of(name))
    with own.lend() as name:
        assert rows(own.url_of(name), COUNTS) == before
        assert oid(own.url_of(name)) == first


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE setting CASCADE",
        "ALTER TABLE setting ADD x int",
        "ALTER TABLE service DISABLE ROW LEVEL SECURITY",
        "GRANT SELECT ON setting TO public",
        "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA more",
        "CREATE SCHEMA more; CREATE TABLE more.more (x int)",
        "CREATE TABLE more (x int); DROP FUNCTION knowledge_create",
    ],
)
def test_what_was_redefined_is_thrown_away(own: ReusedDatabases, change: LiteralString) -> None:
    with own.lend() as name:
        before, first = rows(own.url_of(name), COUNTS), oid(own.url_of(name))
        with psycopg.connect(own.url_of(name)) as connection:
            connection.execute(change)
    with own.lend() as name:
        assert oid(own.url_of(name)) != first
        assert rows(own.url_of(name), COUNTS) == before


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE more (x text REFERENCES setting (name))",
        "CREATE TABLE penstock_knowledge.more (x halfvec(3))",
    ],
)
def test_tables_that_were_added_are_dropped(own: ReusedDatabases, change: LiteralString) -> None:
    with own.lend() as name:
        before, first = rows(own.url_of(name), COUNTS), oid(own.url_of(name))
        with psycopg.connect(own.url_of(name)) as connection:
            connection.execute(change)
    with own.lend() as name:
        assert oid(own.url_of(name)) == first
        assert rows(own.url_of(name), COUNTS) == before


def test_a_database_serves_so_many_tests(own: ReusedDatabases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reused_database, "USES_MAX", 2)
    found: list[object] = []
    for _ in range(3):
        with own.lend() as name:
            found.append(oid(own.url_of(name)))
    assert found[0] == found[1] != found[2]


def test_two_at_once_are_two(own: ReusedDatabases) -> None:
    with own.lend() as one, own.lend() as other:
        assert one != other
