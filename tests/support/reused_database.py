"""Migrated databases that test after test gets as if they were new.

Copying the template costs some 1,000 files each time; emptying what a test wrote costs a few rows. A database whose
functions or rules a test changed is thrown away instead, and so is one that served many tests; tables that it added are
dropped.
"""

import itertools
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

USES_MAX = 60  # deleted rows stay in the files until somebody cleans up; a new copy is cheaper then
# One number for everything that a test could define in a database and that would outlive it.
_DEFINED = """
SELECT md5(string_agg(concat_ws('|', kind, id, what), ',' ORDER BY kind, id)) FROM (
    SELECT 'relation' kind, c.oid id, concat(relname, relkind, relrowsecurity, relforcerowsecurity, relacl) what
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_|^information_schema$'
    UNION ALL
    SELECT 'column', attrelid, string_agg(concat(attname, atttypid, attnotnull, attisdropped), ',' ORDER BY attnum)
      FROM pg_attribute WHERE attnum > 0 AND attrelid >= 16384 GROUP BY attrelid
    UNION ALL SELECT 'function', oid, concat(proname, md5(prosrc)) FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'constraint', oid, concat(conname, convalidated) FROM pg_constraint WHERE oid >= 16384
    UNION ALL SELECT 'trigger', oid, concat(tgname, tgenabled) FROM pg_trigger WHERE oid >= 16384
    UNION ALL SELECT 'policy', oid, polname FROM pg_policy
    UNION ALL SELECT 'schema', oid, concat(nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$'
    UNION ALL SELECT 'extension', oid, concat(extname, extversion) FROM pg_extension
    UNION ALL SELECT 'setting', 0, setconfig::text FROM pg_db_role_setting
      WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) found
"""
_TABLES = """
SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
 WHERE relkind = 'r' AND nspname !~ '^pg_|^information_schema$' ORDER BY 1, 2
"""
_SEQUENCES = "SELECT schemaname, sequencename, start_value FROM pg_sequences WHERE last_value IS NOT NULL"
_CUT_OFF_SECONDS = 30.0
_numbers = itertools.count()
Connection = psycopg.Connection[tuple[Any, ...]]
Table = tuple[str, str]


class ReusedDatabases:
    """Copies of the database ``template`` on the server at ``url``, which is a superuser's, as psycopg takes it."""

    def __init__(self, url: str, template: str) -> None:
        self._server: Connection = psycopg.connect(url, autocommit=True)
        self._url = sa.make_url(url)
        self._template = template
        self._idle: list[tuple[str, int]] = []  # its name and how many tests it served
        with psycopg.connect(self.url_of(template)) as connection:
            self._defined = _defined(connection)
            self._tables = [(schema, table) for schema, table in connection.execute(_TABLES).fetchall()]
            self._kept = {table: _rows(connection, table) for table in self._full(connection)}

    def close(self) -> None:
        """Drop what nobody uses, and let the server go."""
        for name, _ in self._idle:
            self._drop(name)
        self._server.close()

    @contextmanager
    def lend(self) -> Generator[str]:
        """Yield the name of a database that is as the template, and that has this name for this once."""
        name, uses = self._taken()
        yield name
        # Whoever is still connected is cut off, and finds no database of that name any more: so nobody writes from here on.
        self._cut_off(name)
        name = self._renamed(name)
        if uses < USES_MAX and self._reset(name):
            self._idle.append((name, uses))
        else:
            self._drop(name)

    def _cut_off(self, name: str) -> None:
        """End the connections to a database; returns when they are gone, as a rename looks again only after 100 ms."""
        asked = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        end = time.monotonic() + _CUT_OFF_SECONDS
        while self._server.execute(asked, [name]).fetchall() and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(0.002)  # a process leaves that list a moment before it is gone

    def _drop(self, name: str) -> None:
        self._server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _taken(self) -> tuple[str, int]:
        if self._idle:
            name, uses = self._idle.pop()
            return name, uses + 1
        name = f"test_{next(_numbers)}"
        # Eight times as fast as by way of the log, which is the default.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        self._server.execute(statement.format(sql.Identifier(name), sql.Identifier(self._template)))
        return name, 1

    def _renamed(self, name: str) -> str:
        new = f"test_{next(_numbers)}"
        statement = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        self._server.execute(statement.format(sql.Identifier(name), sql.Identifier(new)))
        return new

    def _reset(self, name: str) -> bool:
        """Make a database as the template is; False if that takes more than rows."""
        with psycopg.connect(self.url_of(name)) as connection:
            if _defined(connection) != self._defined:
                self._drop_added(connection)
                if _defined(connection) != self._defined:
                    return False
            connection.execute("SET session_replication_role = replica")  # no triggers, no foreign keys
            for table in self._full(connection):
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table)))
            for table, rows in self._kept.items():
                statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(*table))
                with connection.cursor().copy(statement) as copy:
                    copy.write(rows)
            for schema, sequence, start in connection.execute(_SEQUENCES).fetchall():
                which = sql.Identifier(schema, sequence).as_string(connection)
                connection.execute("SELECT setval(%s::regclass, %s, false)", [which, start])
        return True

    def _drop_added(self, connection: Connection) -> None:
        """Drop the tables that the template has not, as those of knowledge bases."""
        for table in connection.execute(_TABLES).fetchall():
            if table not in self._tables:
                connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(*table)))

    def _full(self, connection: Connection) -> list[Table]:
        """Return the tables that have rows."""
        asked = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(sql.Literal(n), sql.Identifier(*table))
            for n, table in enumerate(self._tables)
        )
        return [self._tables[n] for (n,) in connection.execute(asked).fetchall()]

    def url_of(self, name: str) -> str:
        """Return the superuser's URL of a database."""
        return self._url.set(database=name).render_as_string(hide_password=False)


def _defined(connection: Connection) -> str:
    row = connection.execute(_DEFINED).fetchone()
    assert row is not None
    return str(row[0])


def _rows(connection: Connection, table: Table) -> bytes:
    with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(*table))) as copy:
        return b"".join(bytes(part) for part in copy)
