"""Networks: their rows, and what the engine must know of one to make it real on hosts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store import network_peering as peering_store
from penstock.store import owned
from penstock.store.rows import Row, every
from penstock.store.schema import (
    allocation,
    dns_record,
    floating_address,
    load_balancer,
    network,
    network_route,
    port,
    security_binding,
    security_group,
    security_rule,
    subnet,
)

_NEXT_VNI = sa.text("SELECT nextval('network_vni')")


def insert(connection: Connection, row: Mapping[str, Any]) -> int | None:
    """Add a network with a number of its own and return that; None if the project has one of that name."""
    vni = int(connection.execute(_NEXT_VNI).scalar_one())
    return vni if owned.insert(connection, network, {**row, "vni": vni}) else None


def get(connection: Connection, network_id: str) -> Row | None:
    """Return a network, also one that is being deleted, or None."""
    return owned.get(connection, network, network_id)


def lock(connection: Connection, network_id: str) -> Row | None:
    """Return a network and keep others from changing it or its parts until the transaction ends."""
    return owned.get(connection, network, network_id, lock=True)


def touch(connection: Connection, network_id: str, at: datetime) -> int | None:
    """Count a change of a network or its parts, and let the engine make it real: now, even if a later look was planned.

    Return the revision that has it, None if there is no such network.
    """
    counted = sa.update(network).where(network.c.id == network_id)
    values = {"revision": network.c.revision + 1, "due_at": sa.func.least(network.c.due_at, at)}
    return connection.execute(counted.values(**values).returning(network.c.revision)).scalar_one_or_none()


def want_deleted(connection: Connection, network_id: str) -> None:
    """Remove what a network consists of; the engine takes it off the hosts and then removes the row."""
    groups = sa.select(security_group.c.id).where(security_group.c.network_id == network_id)
    connection.execute(sa.delete(security_rule).where(security_rule.c.group_id.in_(groups)))
    for table in (security_binding, security_group, dns_record, network_route, subnet):
        connection.execute(sa.delete(table).where(table.c.network_id == network_id))
    peering_store.end_all(connection, network_id)
    closed = {"wanted": "deleted", "egress_pool_id": None, "egress_address": None}
    connection.execute(sa.update(network).where(network.c.id == network_id).values(**closed))


def hosts_of(connection: Connection, network_id: str) -> list[Row]:
    """Return on which nodes a network is or was made, with how far each is."""
    query = sa.select(
        allocation.c.node_id,
        allocation.c.wanted,
        allocation.c.generation,
        allocation.c.phase,
        allocation.c.phase_generation,
        allocation.c.code,
        allocation.c.message,
    ).where(allocation.c.network_id == network_id)
    return every(connection.execute(query.order_by(allocation.c.node_id)))


def uses(connection: Connection, network_id: str) -> dict[str, int]:
    """Return what keeps a network from being deleted: how many of each."""
    counts = {
        "load_balancers": owned.count(connection, load_balancer, network_id=network_id),
        "ports": owned.count(connection, port, network_id=network_id),
        "floating_addresses": owned.count(connection, floating_address, network_id=network_id, egress=False),
    }
    return {name: number for name, number in counts.items() if number}
