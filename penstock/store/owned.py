"""What the tables of networks have in common: rows of a project, most of them parts of one network.

Prefixes and addresses leave as texts (``10.0.0.0/24``, ``10.0.0.9``), so that no driver's type travels upwards.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import CIDR, INET
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one


def shown(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Return the columns of a table as they leave the store."""
    return [_shown(column) for column in table.columns]


def _shown(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    if isinstance(column.type, CIDR):
        return sa.cast(column, sa.Text).label(column.name)
    if isinstance(column.type, INET):
        return sa.func.host(column).label(column.name)
    return column


def get(connection: Connection, table: sa.Table, object_id: str, *, lock: bool = False) -> Row | None:
    """Return one row, locked against changes until the transaction ends if asked; None if absent or hidden."""
    query = sa.select(*shown(table)).where(table.c.id == object_id)
    return one(connection.execute(query.with_for_update(key_share=True) if lock else query))


def insert(connection: Connection, table: sa.Table, row: Mapping[str, Any]) -> bool:
    """Add a row; False if a name, address or prefix in it is taken, whichever constraint says so."""
    statement = upsert(table).values(**row).on_conflict_do_nothing()
    return connection.execute(statement.returning(sa.literal(1))).first() is not None


def change(connection: Connection, table: sa.Table, object_id: str, values: Mapping[str, Any]) -> None:
    """Write what changed about a row."""
    connection.execute(sa.update(table).where(table.c.id == object_id).values(**values))


def remove(connection: Connection, table: sa.Table, object_id: str) -> None:
    """Remove a row; nothing if it is gone already."""
    connection.execute(sa.delete(table).where(table.c.id == object_id))


def count(connection: Connection, table: sa.Table, **equal: str | bool) -> int:
    """Return how many rows have these values."""
    query = sa.select(sa.func.count()).select_from(table)
    return connection.execute(
        query.where(*(table.c[name] == value for name, value in equal.items()))
    ).scalar_one()


def find(connection: Connection, table: sa.Table, **equal: Any) -> list[Row]:
    """Return the rows with these values, by id; the caller knows that they are few."""
    query = sa.select(*shown(table)).where(*(table.c[name] == value for name, value in equal.items()))
    key = table.c.id if "id" in table.c else next(iter(table.primary_key))
    return every(connection.execute(query.order_by(key)))


def find_any(connection: Connection, table: sa.Table, name: str, values: Collection[str]) -> list[Row]:
    """Return the rows that have one of these values in a column, by id; the caller knows that they are few."""
    query = sa.select(*shown(table)).where(table.c[name].in_(list(values))).order_by(table.c.id)
    return every(connection.execute(query))


def page(
    connection: Connection,
    table: sa.Table,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    after: str | None,
    limit: int,
    equal: Mapping[str, str | None] | None = None,
    columns: Sequence[sa.ColumnElement[Any]] | None = None,
) -> list[Row]:
    """Return up to ``limit`` rows by id; None filters are open, None columns are all."""
    query = sa.select(*(shown(table) if columns is None else columns)).order_by(table.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(table.c.project_id.in_(sorted(project_ids)))
    if after is not None:
        query = query.where(table.c.id > after)
    for name, value in (equal or {}).items():
        if value is not None:
            query = query.where(table.c[name] == value)
    return every(connection.execute(query))


def page_of(
    connection: Connection,
    select: str,
    alias: str,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    equal: Mapping[str, str | None],
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` rows of a statement with joins by id; ``alias`` is the table that owns them in it.

    ``select`` and the names in ``equal`` are the code's own, values travel as parameters; None filters are open.
    """
    values: dict[str, Any] = {name: value for name, value in equal.items() if value is not None}
    wheres = ["true", *(f"{alias}.{name} = :{name}" for name in values)]
    if tenant_id is not None:
        values["tenant_id"] = tenant_id
        wheres.append(f"{alias}.tenant_id = :tenant_id")
    if project_ids is not None:
        values["project_ids"] = sorted(project_ids)
        wheres.append(f"{alias}.project_id = ANY(:project_ids)")
    if after is not None:
        values["after"] = after
        wheres.append(f"{alias}.id > :after")
    query = sa.text(f"{select} WHERE {' AND '.join(wheres)} ORDER BY {alias}.id LIMIT :limit")
    return every(connection.execute(query, {**values, "limit": limit}))
