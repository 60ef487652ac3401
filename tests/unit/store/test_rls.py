"""The second wall: the database itself hides other tenants' rows, also from a query that forgot its filter."""

import itertools
import json
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from psycopg.types.range import Int8Range, TimestamptzRange
from sqlalchemy.dialects.postgresql import ARRAY, CIDR, INET, INT8RANGE, JSONB, TSTZRANGE
from sqlalchemy.exc import DBAPIError

from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM, Scope, tenant_scope
from penstock.store.schema import TENANT_TABLES, metadata
from penstock.store.schema.base import Xid8
from tests.fixtures.factory import plain

MINE, THEIRS = "ten_mine", "ten_theirs"
_numbers = itertools.count(1)


def value_for(column: sa.Column[Any], number: int) -> Any:
    """Return something that may stand in a column, different for each ``number``."""
    kind = column.type
    if isinstance(kind, JSONB):
        return json.dumps({})
    if isinstance(kind, ARRAY):
        return []
    if isinstance(kind, INT8RANGE):
        return Int8Range(number * 64, number * 64 + 1)
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.Integer):
        return number
    if isinstance(kind, sa.LargeBinary):
        return b""
    if isinstance(kind, sa.Date | sa.DateTime | TSTZRANGE):
        return time_for(column)
    if isinstance(kind, CIDR | INET):
        return f"10.{number >> 8 & 255}.{number & 255}.0"
    assert isinstance(kind, sa.Text), f"say here what may stand in a {kind!r}"
    return f"v1.{column.name}-{number}"  # as what is sealed begins, which the database wants of secrets


def time_for(column: sa.Column[Any]) -> Any:
    """Return a day, an instant or an interval; what ends does so after what starts."""
    if isinstance(column.type, sa.Date):
        return date(2026, 1, 1)
    instant = datetime(2026, 1, 2 if column.name == "end_at" else 1, tzinfo=UTC)
    return TimestamptzRange(instant, None) if isinstance(column.type, TSTZRANGE) else instant


def insert_any(connection: psycopg.Connection, name: str, tenant_id: str | None) -> None:
    """Insert a made-up row of ``tenant_id``; references need not exist for the superuser's replica mode."""
    table, number = metadata.tables[name], next(_numbers)
    values = {
        column.name: value_for(column, number)
        for column in table.columns
        if column.identity is None and not isinstance(column.type, Xid8)
    }
    values["tenant_id"] = tenant_id
    if name == "segment":
        values |= {"slice_low": 0, "slice_high": 1}
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(name),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    connection.execute(statement, list(values.values()))


@pytest.fixture
def filled(control_plane: ControlPlane) -> ControlPlane:
    """A database with one row of each of two tenants in every tenant table, and one of nobody's where possible."""
    with psycopg.connect(plain(control_plane.db.url), autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        for name in TENANT_TABLES:
            owners: list[str | None] = [MINE, THEIRS]
            if metadata.tables[name].c.tenant_id.nullable:
                owners.append(None)
            for owner in owners:
                insert_any(superuser, name, owner)
    return control_plane


def owners_seen(plane: ControlPlane, scope: Scope, name: str) -> set[str | None]:
    with plane.db.transaction(scope) as connection:
        return set(connection.execute(sa.select(metadata.tables[name].c.tenant_id)).scalars())


def test_every_table_with_a_tenant_is_behind_the_wall() -> None:
    named = {name for name, table in metadata.tables.items() if "tenant_id" in table.c}
    assert named == set(TENANT_TABLES)


def test_the_wall_stands_on_every_table_for_its_owner_too(control_plane: ControlPlane) -> None:
    query = sa.text(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relrowsecurity AND relforcerowsecurity"
    )
    with control_plane.db.transaction(SYSTEM) as connection:
        assert set(connection.execute(query).scalars()) == set(TENANT_TABLES)
        role = connection.execute(
            sa.text("SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
        ).one()
    assert tuple(role) == ("penstock_app", False, False)


def test_a_query_without_filter_sees_its_own_rows_only(filled: ControlPlane) -> None:
    for name in TENANT_TABLES:
        assert owners_seen(filled, tenant_scope(MINE), name) == {MINE}, name
        everybody = owners_seen(filled, SYSTEM, name)
        assert {MINE, THEIRS} <= everybody, name


def test_a_transaction_that_said_nothing_sees_nothing(filled: ControlPlane) -> None:
    for name in TENANT_TABLES:
        assert owners_seen(filled, Scope(""), name) == set(), name


def test_the_scope_ends_with_its_transaction(filled: ControlPlane) -> None:
    assert owners_seen(filled, tenant_scope(MINE), "project") == {MINE}
    assert owners_seen(filled, Scope(""), "project") == set()
    assert owners_seen(filled, tenant_scope(THEIRS), "project") == {THEIRS}


@pytest.mark.parametrize(
    "call",
    ["SELECT * FROM pool_taken()", "SELECT pool_free_address('none')", "SELECT fabric_free_pkey()"],
    ids=["taken", "address", "key"],
)
def test_a_function_that_looks_at_all_rows_puts_the_scope_back(
    control_plane: ControlPlane, call: str
) -> None:
    with control_plane.db.transaction(tenant_scope(MINE)) as connection:
        connection.execute(sa.text(call))
        assert connection.execute(sa.text("SELECT current_setting('penstock.scope')")).scalar_one() == MINE


def test_a_change_without_filter_touches_its_own_rows_only(filled: ControlPlane) -> None:
    never_changed = {"audit", "event"}
    never_deleted = never_changed | {"segment", "invoice", "token_usage", "deletion_proof"}
    for name in TENANT_TABLES:
        table = metadata.tables[name]
        with filled.db.transaction(tenant_scope(MINE)) as connection:
            if name not in never_changed:
                assert connection.execute(sa.update(table).values(tenant_id=MINE)).rowcount == 1, name
        if name in never_deleted:
            continue
        with filled.db.transaction(tenant_scope(MINE)) as connection:
            assert connection.execute(sa.delete(table)).rowcount == 1, name
        assert THEIRS in owners_seen(filled, SYSTEM, name)


@pytest.mark.parametrize("owner", [THEIRS, None])
def test_a_row_cannot_be_given_to_or_made_for_another_tenant(filled: ControlPlane, owner: str | None) -> None:
    for name in ("project", "principal", "event", "audit", "quota_use"):
        table = metadata.tables[name]
        if owner is None and not table.c.tenant_id.nullable:
            continue
        number = next(_numbers)
        values: dict[str, Any] = {
            column.name: {} if isinstance(column.type, JSONB) else value_for(column, number)
            for column in table.columns
            if column.identity is None and not isinstance(column.type, Xid8)
        }
        values["tenant_id"] = owner
        with (
            pytest.raises(DBAPIError, match="row-level security"),
            filled.db.transaction(tenant_scope(MINE)) as connection,
        ):
            connection.execute(sa.insert(table).values(**values))
    with (
        pytest.raises(DBAPIError, match="row-level security"),
        filled.db.transaction(tenant_scope(MINE)) as connection,
    ):
        connection.execute(sa.update(metadata.tables["principal"]).values(tenant_id=owner))


def test_what_must_never_be_rewritten_cannot_be(filled: ControlPlane) -> None:
    for name in ("audit", "event", "price", "price_book"):
        table = metadata.tables[name]
        column = next(c for c in table.columns if c.identity is None)
        for statement in (sa.delete(table), sa.update(table).values({column: column})):
            with (
                pytest.raises(DBAPIError, match="permission denied"),
                filled.db.transaction(SYSTEM) as connection,
            ):
                connection.execute(statement)
    for name in ("segment", "invoice", "token_usage", "deletion_proof"):
        with (
            pytest.raises(DBAPIError, match="permission denied"),
            filled.db.transaction(SYSTEM) as connection,
        ):
            connection.execute(sa.delete(metadata.tables[name]))


@pytest.mark.parametrize("text", ["", "mine", "*", "ten_x'; DROP TABLE tenant; --", "ten_X", "prj_1"])
def test_a_scope_is_a_tenant_id_and_nothing_else(control_plane: ControlPlane, text: str) -> None:
    with pytest.raises(ValueError, match="tenant id"):
        tenant_scope(text)
    if text not in {"", "*"}:
        with pytest.raises(ValueError, match="scope"), control_plane.db.transaction(Scope(text)):
            pass
