"""Offers: what may be ordered, at which form, by whom."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import offer


def insert(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add an offer; IntegrityError if its name is taken."""
    connection.execute(sa.insert(offer), row)


def get(connection: Connection, offer_id: str) -> Row | None:
    """Return an offer, active or retired."""
    return one(connection.execute(sa.select(offer).where(offer.c.id == offer_id)))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    after: str | None,
    limit: int,
    name: str | None = None,
    kind: str | None = None,
    state: str | None = None,
) -> list[Row]:
    """Return offers by id: active ones that ``tenant_id`` may order (None: all, retired ones too)."""
    query = sa.select(offer).order_by(offer.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(
            offer.c.state == "active",
            sa.or_(offer.c.eligible_tenants.is_(None), offer.c.eligible_tenants.any_() == tenant_id),
        )
    for column, value in ((offer.c.name, name), (offer.c.kind, kind), (offer.c.state, state)):
        if value is not None:
            query = query.where(column == value)
    if after is not None:
        query = query.where(offer.c.id > after)
    return every(connection.execute(query))


def update(connection: Connection, offer_id: str, generation: int, values: Mapping[str, Any]) -> bool:
    """Change an offer if it still has ``generation``; False if somebody else was faster."""
    statement = (
        sa.update(offer)
        .where(offer.c.id == offer_id, offer.c.generation == generation)
        .values(**values, generation=generation + 1)
    )
    return connection.execute(statement).rowcount == 1
