"""Fabric partitions and where nodes are in the fabric."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every
from penstock.store.schema import device, node, rack

# Keys of other tenants are hidden from a tenant's transaction; which are taken is asked of all rows.
_FREE = sa.text("SELECT fabric_free_pkey()")


def free_pkey(connection: Connection) -> int | None:
    """Return the lowest key that nobody has, None if all are taken; locked until the transaction ends."""
    return connection.execute(_FREE).scalar_one_or_none()


def inventory(connection: Connection, *, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` nodes by id with their place in the fabric and their NVLink domains."""
    domains = (
        sa.select(sa.func.array_agg(sa.distinct(device.c.nvlink_domain)))
        .where(device.c.node_id == node.c.id, device.c.nvlink_domain.is_not(None))
        .scalar_subquery()
    )
    query = (
        sa.select(
            node.c.id.label("node_id"),
            node.c.name,
            rack.c.name.label("rack"),
            node.c.leaf,
            node.c.spine,
            node.c.core,
            sa.func.coalesce(domains, sa.text("'{}'::text[]")).label("nvlink_domains"),
            node.c.simulated,
        )
        .outerjoin_from(node, rack, rack.c.id == node.c.rack_id)
        .where(node.c.state != "retired")
        .order_by(node.c.id)
        .limit(limit)
    )
    return every(connection.execute(query if after is None else query.where(node.c.id > after)))
