"""What the network engine reads and writes: due networks, everything about one, its allocations on hosts."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.host_network import NetworkFacts
from penstock.store import network_host as host_store
from penstock.store import network_peering as peering_store
from penstock.store import owned
from penstock.store import setting as setting_store
from penstock.store.rows import Row, every
from penstock.store.schema import (
    address_pool,
    dns_record,
    floating_address,
    network,
    network_route,
    port,
    security_binding,
    security_group,
    security_rule,
    subnet,
)

FORBIDDEN = "forbidden_prefixes"  # the setting with what no guest may reach

_WAKE = sa.text(
    "UPDATE network SET due_at = :now WHERE (due_at IS NULL OR due_at > :now) AND gateway_node_id IN "
    "(SELECT h.node_id FROM network_host h JOIN node n ON n.id = h.node_id WHERE n.state <> 'ready')"
)

_MACHINES = sa.text(
    "SELECT s.id, s.name, v.tags FROM service s LEFT JOIN vm v ON v.service_id = s.id "
    "WHERE s.id IN (SELECT service_id FROM port WHERE network_id = :network_id) ORDER BY s.id"
)


def wake_orphans(connection: Connection, now: datetime) -> None:
    """Make due the networks whose way out is on a node that is not well."""
    connection.execute(_WAKE, {"now": now})


def due(connection: Connection, now: datetime, limit: int) -> list[Row]:
    """Return networks that must be looked at, locked; those that somebody else holds are skipped."""
    query = (
        sa.select(*owned.shown(network))
        .where(network.c.due_at <= now)
        .order_by(network.c.due_at, network.c.id)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    return every(connection.execute(query))


def facts(connection: Connection, row: Row) -> NetworkFacts:
    """Return everything about one network."""
    network_id = row["id"]
    groups = sa.select(security_group.c.id).where(security_group.c.network_id == network_id)
    rules = sa.select(*owned.shown(security_rule)).where(security_rule.c.group_id.in_(groups))
    floating = [
        one for one in owned.find(connection, floating_address, network_id=network_id) if not one["egress"]
    ]
    pool_id = row["egress_pool_id"] or next((one["pool_id"] for one in floating), None)
    hosts = host_store.every_host(connection)
    underlays = [f"{host['underlay_address']}/32" for host in hosts]
    return NetworkFacts(
        network=row,
        hosts=hosts,
        subnets=owned.find(connection, subnet, network_id=network_id),
        ports=owned.find(connection, port, network_id=network_id),
        rules=every(connection.execute(rules.order_by(security_rule.c.id))),
        bindings=owned.find(connection, security_binding, network_id=network_id),
        records=owned.find(connection, dns_record, network_id=network_id),
        routes=owned.find(connection, network_route, network_id=network_id),
        floating=[one for one in floating if one["port_id"] is not None],
        pool=None if pool_id is None else owned.get(connection, address_pool, pool_id),
        forbidden=[*forbidden(connection), *underlays],
        peers=peering_store.facts(connection, network_id),
        machines=every(connection.execute(_MACHINES, {"network_id": network_id})),
    )


def forbidden(connection: Connection) -> list[str]:
    """Return the prefixes that no guest may reach, as the operator set them."""
    return list(setting_store.get(connection, FORBIDDEN) or ())


def set_forbidden(connection: Connection, prefixes: Sequence[str]) -> None:
    """Write the prefixes that no guest may reach."""
    setting_store.put(connection, FORBIDDEN, list(prefixes))


def touch_all(connection: Connection, now: datetime) -> None:
    """Make every network due: something changed that all of them are told."""
    connection.execute(sa.update(network).values(revision=network.c.revision + 1, due_at=now))


def compiled(
    connection: Connection, row: Row, revision: int, gateway: str | None, due_at: datetime | None
) -> None:
    """Note that the hosts have been told everything of a network, which is at ``revision`` now."""
    noted = {"revision": revision, "applied_revision": revision}
    connection.execute(
        sa.update(network)
        .where(network.c.id == row["id"])
        .values(**noted, gateway_node_id=gateway, due_at=due_at)
    )


def look_again(connection: Connection, network_id: str, at: datetime) -> None:
    """Make a network due at another time."""
    connection.execute(sa.update(network).where(network.c.id == network_id).values(due_at=at))


def remove(connection: Connection, network_id: str) -> None:
    """Forget a network that no host carries any more."""
    owned.remove(connection, network, network_id)
