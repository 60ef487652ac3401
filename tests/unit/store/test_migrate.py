"""Bringing a database to this version: from empty, twice, two at once, and never back from a newer one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic.script import ScriptDirectory

from penstock.base.errors import StartupError
from penstock.drivers.embedded_postgres.server import EmbeddedPostgres
from penstock.store.migrate import migrate, migration_config
from tests.fixtures.factory import plain, swap_database


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres, database_url: str) -> Iterator[str]:
    del postgres
    name = database_url.rpartition("/")[2].partition("?")[0] + "_empty"
    with psycopg.connect(plain(database_url), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield swap_database(database_url, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def revisions(url: str) -> list[str]:
    with psycopg.connect(plain(url)) as connection:
        return [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]


def head() -> str | None:
    return ScriptDirectory.from_config(migration_config("")).get_current_head()


def test_an_empty_database_gets_all_tables_and_the_second_time_nothing_is_said(empty_url: str) -> None:
    said: list[str] = []
    migrate(empty_url, said.append)
    assert revisions(empty_url) == [head()]
    assert said == [f"migrating the database from empty to {head()}"]
    migrate(empty_url, said.append)
    assert len(said) == 1


def test_of_two_at_once_one_migrates_and_the_other_finds_it_done(empty_url: str) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(migrate, empty_url, said.append) for _ in range(2)]:
            future.result(timeout=60)
    assert len(said) == 1
    assert revisions(empty_url) == [head()]


def test_a_database_of_a_newer_version_is_left_alone(database_url: str) -> None:
    with psycopg.connect(plain(database_url)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_later'")
    with pytest.raises(StartupError, match=r"newer Penstock \(revision 9999_later\)"):
        migrate(database_url)
    assert revisions(database_url) == ["9999_later"]
    with psycopg.connect(plain(database_url)) as connection:  # nobody is left holding the lock of migrations
        held = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert held == (0,)


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(StartupError, match=r"127\.0\.0\.1:1/factory cannot be reached") as caught:
        migrate("postgresql+psycopg://owner:hidden-word@127.0.0.1:1/factory")
    assert "hidden-word" not in caught.value.sentence


def test_a_login_that_may_not_make_tables_is_told_what_it_needs(empty_url: str) -> None:
    with psycopg.connect(plain(empty_url), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS reader_of_migrate")
        connection.execute("CREATE ROLE reader_of_migrate LOGIN")
    try:
        url = empty_url + ("&" if "?" in empty_url else "?") + "options=-c%20role%3Dreader_of_migrate"
        with pytest.raises(StartupError, match="must own the database"):
            migrate(url)
    finally:
        with psycopg.connect(plain(empty_url), autocommit=True) as connection:
            connection.execute("DROP ROLE reader_of_migrate")
