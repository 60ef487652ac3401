"""Models: the catalogue of what LLM services can serve. A retired model stays for what already runs on it."""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import model, model_approval

_APPROVED = sa.text(
    """
    SELECT m.name, EXISTS (SELECT 1 FROM model_approval a WHERE a.model_id = m.id AND a.tenant_id = :tenant) AS approved
    FROM model m WHERE m.name = ANY(:names) AND m.needs_approval
    """
)
_ACTIVE = sa.select(model).where(model.c.state == "active").order_by(model.c.name)
_GET = sa.select(model).where((model.c.id == sa.bindparam("key")) | (model.c.name == sa.bindparam("key")))


def active(connection: Connection) -> list[Row]:
    """Return every model that may be ordered, by name."""
    return every(connection.execute(_ACTIVE))


def get(connection: Connection, key: str) -> Row | None:
    """Return the model of that id or name, or None."""
    return one(connection.execute(_GET, {"key": key}))


def add(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Add a model; False if the name is taken."""
    statement = upsert(model).values(**row).on_conflict_do_nothing(index_elements=["name"])
    return connection.execute(statement.returning(model.c.id)).scalar_one_or_none() is not None


def change(connection: Connection, model_id: str, values: Mapping[str, Any]) -> None:
    """Write what changed about a model."""
    connection.execute(sa.update(model).where(model.c.id == model_id).values(**values))


def page(
    connection: Connection, *, state: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` models by id; None filters are open."""
    query = sa.select(model).order_by(model.c.id).limit(limit)
    if state is not None:
        query = query.where(model.c.state == state)
    if name is not None:
        query = query.where(model.c.name == name)
    if after is not None:
        query = query.where(model.c.id > after)
    return every(connection.execute(query))


# ---- approvals ---------------------------------------------------------------------------------------------


def not_approved(connection: Connection, tenant_id: str, names: Collection[str]) -> list[str]:
    """Return which of the named models need an approval that a tenant does not have, by name."""
    if not names:
        return []
    rows = connection.execute(_APPROVED, {"tenant": tenant_id, "names": sorted(names)})
    return sorted(row.name for row in rows if not row.approved)


def approve(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Let a tenant use a model; False if it may already."""
    statement = upsert(model_approval).values(**row).on_conflict_do_nothing()
    return connection.execute(statement.returning(model_approval.c.model_id)).first() is not None


def withdraw(connection: Connection, model_id: str, tenant_id: str) -> bool:
    """Let a tenant order a model no longer; False if it might not."""
    statement = sa.delete(model_approval).where(
        model_approval.c.model_id == model_id, model_approval.c.tenant_id == tenant_id
    )
    return connection.execute(statement).rowcount == 1


def approvals(connection: Connection, model_id: str, *, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` approvals of a model by tenant, as far as the caller's scope shows them."""
    query = sa.select(model_approval).where(model_approval.c.model_id == model_id)
    if after is not None:
        query = query.where(model_approval.c.tenant_id > after)
    return every(connection.execute(query.order_by(model_approval.c.tenant_id).limit(limit)))


def approved_models(connection: Connection, tenant_id: str) -> set[str]:
    """Return the ids of the models that a tenant was approved for."""
    query = sa.select(model_approval.c.model_id).where(model_approval.c.tenant_id == tenant_id)
    return set(connection.execute(query).scalars())
