"""The migrations make exactly the tables that the code describes, with the wall between tenants on each."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.engine import Connection

from penstock.store.schema import TENANT_TABLES, metadata
from penstock.store.schema.base import Xid8


@pytest.fixture
def owner(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A connection as the owner of a database that was migrated from empty."""
    monkeypatch.setitem(ischema_names, "xid8", Xid8)  # a type that SQLAlchemy does not know by itself
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def drift(connection: Connection, tables: sa.MetaData) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, tables))


def structure(connection: Connection) -> set[tuple[str, str, str]]:
    """Return (table, name, definition) of every constraint and index: the comparison above skips some of them."""
    rows = connection.execute(
        sa.text(
            "SELECT c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid) FROM pg_constraint c "
            "WHERE c.connamespace = 'public'::regnamespace AND c.contype <> 'n' "
            "UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        )
    )
    return {(str(table), str(name), str(definition)) for table, name, definition in rows}


def test_the_migrated_database_is_what_the_tables_describe(owner: Connection) -> None:
    assert drift(owner, metadata) == []


def test_constraints_and_indexes_are_what_the_tables_describe(owner: Connection) -> None:
    migrated = {row for row in structure(owner) if row[0] != "alembic_version"}
    owner.rollback()
    owner.execute(sa.text("DROP SCHEMA public CASCADE"))
    owner.execute(sa.text("CREATE SCHEMA public"))
    metadata.create_all(owner)
    described = structure(owner)
    owner.rollback()
    assert migrated == described


def test_a_planted_difference_is_found(owner: Connection) -> None:
    owner.execute(sa.text("ALTER TABLE invoice ADD COLUMN planted text"))
    owner.execute(sa.text("ALTER TABLE offer ALTER COLUMN title TYPE varchar(10)"))
    found = str(drift(owner, metadata))
    owner.rollback()
    assert "planted" in found
    assert "title" in found


def test_every_table_of_tenants_is_behind_the_wall(owner: Connection) -> None:
    walled = owner.execute(
        sa.text(
            "SELECT c.relname FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid "
            "WHERE c.relrowsecurity AND c.relforcerowsecurity AND p.polname = 'tenant_wall' AND p.polcmd = '*'"
        )
    )
    assert set(walled.scalars()) == set(TENANT_TABLES)


def test_every_table_that_names_a_tenant_is_a_table_of_tenants() -> None:
    naming = {name for name, table in metadata.tables.items() if "tenant_id" in table.columns}
    assert naming == set(TENANT_TABLES)
