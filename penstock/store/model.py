"""Models: the catalogue of what LLM services can serve. A retired model stays for what already runs on it."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import model

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
