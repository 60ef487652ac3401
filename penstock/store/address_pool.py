"""Address pools, and the lowest address of one that nobody has."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store import owned
from penstock.store.rows import Row, every
from penstock.store.schema import address_pool

# Rows of other tenants are hidden from a tenant's transaction; which addresses are taken is for everybody to see.
_FREE = sa.text("SELECT host(pool_free_address(:pool_id))")
_TAKEN = sa.text("SELECT pool_id, taken FROM pool_taken()")


def free_address(connection: Connection, pool_id: str) -> str | None:
    """Return the lowest free address, None if there is none; the pool stays locked until the transaction ends."""
    return connection.execute(_FREE, {"pool_id": pool_id}).scalar_one_or_none()


def every_pool(connection: Connection) -> list[Row]:
    """Return all pools by name, each with the number of addresses taken."""
    taken = {row["pool_id"]: row["taken"] for row in every(connection.execute(_TAKEN))}
    rows = every(connection.execute(sa.select(*owned.shown(address_pool)).order_by(address_pool.c.name)))
    return [{**row, "taken": taken.get(row["id"], 0)} for row in rows]
