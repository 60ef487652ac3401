"""Hosts that carry networks: where each is reached by the others, and whether it has a way out."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.base.errors import InvalidInputError
from penstock.store import owned
from penstock.store.rows import Row, every, one
from penstock.store.schema import network_host, node, port, site

_FREE_SLOT = sa.text(
    "SELECT coalesce(min(s.slot), 0) FROM (SELECT 0 AS slot UNION ALL SELECT slot + 1 FROM network_host) s "
    "WHERE NOT EXISTS (SELECT FROM network_host h WHERE h.slot = s.slot)"
)


def put(
    connection: Connection,
    *,
    node_id: str,
    underlay_address: str,
    external_bridge: str | None,
    driver: str,
    at: datetime,
) -> bool:
    """Make a node carry networks, or change how; False if another node has that address."""
    connection.execute(sa.text("LOCK TABLE network_host IN SHARE ROW EXCLUSIVE MODE"))
    taken = sa.select(sa.literal(1)).where(
        network_host.c.underlay_address == underlay_address, network_host.c.node_id != node_id
    )
    if connection.execute(taken).first() is not None:
        return False
    values = {"underlay_address": underlay_address, "external_bridge": external_bridge, "driver": driver}
    slot = connection.execute(_FREE_SLOT).scalar_one()
    statement = upsert(network_host).values(node_id=node_id, slot=slot, created_at=at, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["node_id"], set_=values))
    _changed(connection, node_id)
    return True


def _changed(connection: Connection, node_id: str) -> None:
    """Let planners read the node again: what is placed on it depends on whether it carries networks."""
    connection.execute(sa.update(node).where(node.c.id == node_id).values(generation=node.c.generation + 1))


def get(connection: Connection, node_id: str) -> Row | None:
    """Return how a node carries networks, None if it does not."""
    query = sa.select(*owned.shown(network_host)).where(network_host.c.node_id == node_id)
    return one(connection.execute(query))


def require(connection: Connection, node_id: str) -> None:
    """Raise InvalidInputError unless the node carries networks."""
    if get(connection, node_id) is None:
        raise InvalidInputError(
            f"the node '{node_id}' carries no networks; an operator makes it do so with "
            "`penstock network-host set`",
            field="node_id",
        )


def every_host(connection: Connection) -> list[Row]:
    """Return all hosts with their node's name, state, agent and site, by slot."""
    of_node = (node.c.name, node.c.state, node.c.agent_id, site.c.name.label("site"))
    query = (
        sa.select(*owned.shown(network_host), *of_node)
        .join_from(network_host, node, node.c.id == network_host.c.node_id)
        .join(site, site.c.id == node.c.site_id)
        .order_by(network_host.c.slot)
    )
    return every(connection.execute(query))


def in_use(connection: Connection, node_id: str) -> int:
    """Return how many ports are plugged in on a node."""
    return owned.count(connection, port, node_id=node_id) + owned.count(
        connection, port, arriving_node_id=node_id
    )


def remove(connection: Connection, node_id: str) -> None:
    """Make a node carry networks no longer."""
    connection.execute(sa.delete(network_host).where(network_host.c.node_id == node_id))
    _changed(connection, node_id)
