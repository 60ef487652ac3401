"""Sites: where hardware stands. A site is real or simulated as a whole, for ever."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import node, site

_ENSURE = sa.text(
    "INSERT INTO site (id, name, simulated, timezone, created_at) VALUES (:id, :name, :simulated, :timezone, :at) "
    "ON CONFLICT (name) DO NOTHING"
)


def ensure(
    connection: Connection, *, site_id: str, name: str, simulated: bool, timezone: str, at: datetime
) -> Row:
    """Return the site of that name, added under ``site_id`` if there is none."""
    query = sa.select(site).where(site.c.name == name)
    found = one(connection.execute(query))
    if found is None:
        parameters = {"id": site_id, "name": name, "simulated": simulated, "timezone": timezone, "at": at}
        connection.execute(_ENSURE, parameters)
        found = one(connection.execute(query))
    if found is None:
        raise RuntimeError("a site vanished: rows of sites are never removed")
    return found


_NODES = (
    sa.select(sa.func.count())
    .select_from(node)
    .where(node.c.site_id == site.c.id, node.c.state != "retired")
    .scalar_subquery()
    .label("nodes")
)


def get(connection: Connection, site_id: str) -> Row | None:
    """Return one site with its number of nodes, or None."""
    return one(connection.execute(sa.select(site, _NODES).where(site.c.id == site_id)))


def page(
    connection: Connection, *, simulated: bool | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` sites by id; None filters are open."""
    query = sa.select(site, _NODES).order_by(site.c.id).limit(limit)
    if simulated is not None:
        query = query.where(site.c.simulated == simulated)
    if name is not None:
        query = query.where(site.c.name == name)
    if after is not None:
        query = query.where(site.c.id > after)
    return every(connection.execute(query))


def find(connection: Connection, name: str) -> Row | None:
    """Return the site of that name, or None."""
    return one(connection.execute(sa.select(site).where(site.c.name == name)))
