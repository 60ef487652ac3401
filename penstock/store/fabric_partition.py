"""Fabric partitions and where nodes are in the fabric: as people ask for them."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every
from penstock.store.schema import device, fabric_member, fabric_partition, node, rack

# Keys of other tenants are hidden from a tenant's transaction; which are taken is asked of all rows.
_FREE = sa.text("SELECT fabric_free_pkey()")
_MEMBERS = sa.text(
    "SELECT partition_id, count(*) FILTER (WHERE state = 'member') AS members FROM fabric_member "
    "WHERE partition_id = ANY(:ids) GROUP BY partition_id"
)
_MEMBER_PAGE = sa.text(
    "SELECT m.node_id, n.name AS node, m.state, m.reason, m.since FROM fabric_member m JOIN node n ON n.id = m.node_id "
    "WHERE m.partition_id = :id AND (CAST(:after AS text) IS NULL OR m.node_id > :after) ORDER BY m.node_id LIMIT :limit"
)
_OF_NODE = sa.text(
    "SELECT p.id, p.name, p.tenant_id, p.project_id, p.pkey, m.state, m.reason, m.since FROM fabric_member m "
    "JOIN fabric_partition p ON p.id = m.partition_id WHERE m.node_id = :id ORDER BY p.id LIMIT :limit"
)
_OF_NODES = sa.text(
    "SELECT m.node_id, p.id, p.name, p.pkey, m.state FROM fabric_member m "
    "JOIN fabric_partition p ON p.id = m.partition_id WHERE m.node_id = ANY(:ids) ORDER BY m.node_id, p.pkey"
)
_ASKED_BY = sa.text(
    "SELECT name FROM service WHERE project_id = :project_id AND spec ->> 'fabric' = :name "
    "AND state NOT IN ('released', 'failed') ORDER BY id LIMIT 3"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the fabric: nodes at a switch, in an NVLink domain, in a partition or on the way; None: anywhere."""

    leaf: str | None = None
    spine: str | None = None
    core: str | None = None
    nvlink_domain: str | None = None
    partition_id: str | None = None


def free_pkey(connection: Connection) -> int | None:
    """Return the lowest key that nobody has, None if all are taken; locked until the transaction ends."""
    return connection.execute(_FREE).scalar_one_or_none()


def named(connection: Connection, project_id: str, name: str) -> Row | None:
    """Return a project's partition by name."""
    query = sa.select(fabric_partition).where(
        fabric_partition.c.project_id == project_id, fabric_partition.c.name == name
    )
    return next(iter(every(connection.execute(query))), None)


def asked_by(connection: Connection, project_id: str, name: str) -> list[str]:
    """Return the names of up to three services that are not over and ask for a partition."""
    return list(connection.execute(_ASKED_BY, {"project_id": project_id, "name": name}).scalars())


def member_counts(connection: Connection, partition_ids: list[str]) -> dict[str, int]:
    """Return how many nodes are in each partition; those without any are left out."""
    return {row.partition_id: row.members for row in connection.execute(_MEMBERS, {"ids": partition_ids})}


def member_page(connection: Connection, partition_id: str, *, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` nodes of a partition by id, with what became of each."""
    return every(connection.execute(_MEMBER_PAGE, {"id": partition_id, "after": after, "limit": limit}))


def of_node(connection: Connection, node_id: str, limit: int) -> list[Row]:
    """Return up to ``limit`` partitions that a node is in, joins, leaves or cannot join."""
    return every(connection.execute(_OF_NODE, {"id": node_id, "limit": limit}))


def inventory(connection: Connection, place: Place, *, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` nodes of a part by id: where each is in the fabric, its NVLink domains, its partitions."""
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
        .where(node.c.state != "retired", *_inside(place))
        .order_by(node.c.id)
        .limit(limit)
    )
    nodes = every(connection.execute(query if after is None else query.where(node.c.id > after)))
    partitions: dict[str, list[Row]] = {row["node_id"]: [] for row in nodes}
    for row in every(connection.execute(_OF_NODES, {"ids": list(partitions)})):
        partitions[row["node_id"]].append(row)
    return [{**row, "partitions": partitions[row["node_id"]]} for row in nodes]


def _inside(place: Place) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a node is in that part of the fabric."""
    wheres = [
        node.c[name] == value
        for name in ("leaf", "spine", "core")
        if (value := getattr(place, name)) is not None
    ]
    if place.nvlink_domain is not None:
        of_domain = sa.select(device.c.node_id).where(device.c.nvlink_domain == place.nvlink_domain)
        wheres.append(node.c.id.in_(of_domain))
    if place.partition_id is not None:
        of_partition = sa.select(fabric_member.c.node_id).where(
            fabric_member.c.partition_id == place.partition_id
        )
        wheres.append(node.c.id.in_(of_partition))
    return wheres
