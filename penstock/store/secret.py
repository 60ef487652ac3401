"""Secrets of projects: sealed by the caller before they come here, opened by nobody here."""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.store import owned
from penstock.store.rows import Row, one
from penstock.store.schema import secret

_SHOWN = [column for column in secret.c if column.name != "sealed"]


def put(connection: Connection, row: Mapping[str, Any]) -> Row:
    """Add a secret, or replace the value of the project's secret of that name; return it without its value."""
    statement = upsert(secret).values(**row)
    statement = statement.on_conflict_do_update(
        index_elements=["project_id", "name"],
        set_={name: statement.excluded[name] for name in ("sealed", "updated_by", "updated_at")},
    )
    found = one(connection.execute(statement.returning(*_SHOWN)))
    assert found is not None  # noqa: S101 - an upsert returns its row
    return found


def named(connection: Connection, project_id: str, name: str) -> Row | None:
    """Return the project's secret of that name without its value, or None."""
    query = sa.select(*_SHOWN).where(secret.c.project_id == project_id, secret.c.name == name)
    return one(connection.execute(query))


def get(connection: Connection, secret_id: str) -> Row | None:
    """Return a secret without its value, or None."""
    return one(connection.execute(sa.select(*_SHOWN).where(secret.c.id == secret_id)))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` secrets by id without their values; None filters are open."""
    return owned.page(
        connection,
        secret,
        tenant_id=tenant_id,
        project_ids=project_ids,
        after=after,
        limit=limit,
        equal={"name": name},
        columns=_SHOWN,
    )


def count(connection: Connection, project_id: str) -> int:
    """Return how many secrets a project has."""
    return owned.count(connection, secret, project_id=project_id)


_USERS = sa.text(
    """
    SELECT name FROM service WHERE project_id = :project AND wanted = 'running' AND spec ->> 'secret' = :name
        AND state NOT IN ('released', 'failed') ORDER BY name LIMIT 3
    """
)


def users(connection: Connection, project_id: str, name: str) -> list[str]:
    """Return the names of up to three live services that need a secret."""
    return list(connection.execute(_USERS, {"project": project_id, "name": name}).scalars())


def delete(connection: Connection, secret_id: str) -> None:
    """Remove a secret."""
    connection.execute(sa.delete(secret).where(secret.c.id == secret_id))


_OF_ALLOCATION = sa.text(
    """
    SELECT x.id, x.sealed FROM allocation a JOIN secret x ON x.project_id = a.project_id AND x.name = a.config ->> 'secret'
    WHERE a.id = :allocation
    """
)


def of_allocation(connection: Connection, allocation_id: str) -> Row | None:
    """Return id and sealed value of the secret that an allocation names, of its own project; system scope."""
    return one(connection.execute(_OF_ALLOCATION, {"allocation": allocation_id}))
