"""Ports: where something is plugged into a network. How to use one is told in ``domain/port.py``."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.network import bridge_name
from penstock.domain.port import Attachment, tap_name
from penstock.domain.quota import Measure
from penstock.store import load_balancer as balancer_store
from penstock.store import network as network_store
from penstock.store import owned
from penstock.store import quota as quota_store
from penstock.store import security_group as group_store
from penstock.store.rows import Row, every, one
from penstock.store.schema import floating_address, network, network_route, port, subnet

TABLE = port
# The lowest free address: the first of the prefix, or the one after some port's. The subnet's row is locked.
_FREE = sa.text(
    """
    SELECT host(candidate) FROM (
        SELECT set_masklen(CAST(CAST(:prefix AS cidr) AS inet), 32) + 2 AS candidate
        UNION ALL SELECT address + 1 FROM port WHERE subnet_id = :subnet_id
    ) AS candidates
    WHERE candidate <<= CAST(:prefix AS inet) AND candidate < set_masklen(broadcast(CAST(:prefix AS inet)), 32)
        AND candidate <> CAST(:gateway AS inet)
        AND NOT EXISTS (SELECT FROM port p WHERE p.vni = :vni AND p.address = candidate)
    ORDER BY candidate LIMIT 1
    """
)


def free_address(connection: Connection, subnet_row: Row) -> str | None:
    """Return the lowest address of a subnet that nobody has, None if it is full; lock the network before."""
    parameters = {
        "prefix": subnet_row["prefix"],
        "gateway": subnet_row["gateway"],
        "vni": subnet_row["vni"],
        "subnet_id": subnet_row["id"],
    }
    return connection.execute(_FREE, parameters).scalar_one_or_none()


def taken(connection: Connection, vni: int, address: str) -> bool:
    """Tell whether some port of that network has the address."""
    query = sa.select(sa.literal(1)).where(
        port.c.vni == vni, port.c.address == sa.cast(address, port.c.address.type)
    )
    return connection.execute(query).first() is not None


def bind(
    connection: Connection, port_id: str, node_id: str, *, service_id: str | None = None, at: datetime
) -> bool:
    """Say on which node a port is plugged in from now on, and for which service (None: as it was).

    The network is made ready there; see ``ready``. Its address and MAC stay. False if there is no such port.
    Signal the topic ``network`` after the commit.
    """
    values: dict[str, Any] = {"node_id": node_id, "arriving_node_id": None}
    if service_id is not None:
        values["service_id"] = service_id
    return _place(connection, port_id, values, at)


def expect(connection: Connection, port_id: str, node_id: str | None, *, at: datetime) -> bool:
    """Prepare a port on a second node too, from where ``bind`` makes it its place; None: not any more.

    While it is prepared in two places, packets for it go where its guest is: away from the first at the moment its
    device there is gone, to the second from the first frame that the guest sends there. Signal ``network``.
    """
    return _place(connection, port_id, {"arriving_node_id": node_id}, at)


def unbind(connection: Connection, port_id: str, *, at: datetime, forget_service: bool = False) -> bool:
    """Unplug a port; it keeps its addresses, and its service unless that is to be forgotten."""
    values: dict[str, Any] = {"node_id": None, "arriving_node_id": None}
    if forget_service:
        values |= {"service_id": None, "metadata": {}}
    return _place(connection, port_id, values, at)


_PLUG = sa.text(
    """
    UPDATE port p SET node_id = a.node_id, arriving_node_id = NULL, generation = p.generation + 1
    FROM unnest(CAST(:ids AS text[]), CAST(:nodes AS text[])) AS a(id, node_id)
    WHERE p.id = a.id RETURNING p.id, p.network_id
    """
)
_IN_ORDER = sa.text("SELECT FROM port WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")


def bind_all(connection: Connection, node_of: Mapping[str, str], at: datetime) -> None:
    """Bind many ports, by id, as ``bind`` does, and count one change of each network. Signal ``network``."""
    connection.execute(_IN_ORDER, {"ids": list(node_of)})
    plugged = every(connection.execute(_PLUG, {"ids": list(node_of), "nodes": list(node_of.values())}))
    _note_place(connection, plugged, at)


def _place(connection: Connection, port_id: str, values: dict[str, Any], at: datetime) -> bool:
    statement = (
        sa.update(port)
        .where(port.c.id == port_id)
        .values(**values, generation=port.c.generation + 1)
        .returning(port.c.id, port.c.network_id)
    )
    placed = every(connection.execute(statement))
    _note_place(connection, placed, at)
    return bool(placed)


def _note_place(connection: Connection, placed: Sequence[Row], at: datetime) -> None:
    """Count a change of the networks of these ports, and note from which revision on hosts know of them."""
    by_network: dict[str, list[str]] = {}
    for row in placed:
        by_network.setdefault(row["network_id"], []).append(row["id"])
    for network_id in sorted(by_network):
        revision = network_store.touch(connection, network_id, at)
        noted = sa.update(port).where(port.c.id.in_(by_network[network_id]))
        connection.execute(noted.values(placed_revision=revision))


def _knows(allocation: str) -> str:
    """Return the condition that a node has made real what it was told since the port got its place.

    What it is told is numbered by the network's revision that it was made from (``engine/network``), so later changes,
    on which it may be at work, are not waited for. It was not told anew where the place changed nothing for it.
    """
    return f"""{allocation}.wanted = 'present' AND {allocation}.phase = 'ready' AND (
        {allocation}.phase_generation >= p.placed_revision
        OR {allocation}.phase_generation = {allocation}.generation AND n.applied_revision >= p.placed_revision)"""


# That a port ``p`` is ready, as a condition.
IS_READY = f"""
    EXISTS (
        SELECT FROM network n JOIN allocation a ON a.network_id = n.id AND a.node_id = p.node_id
        LEFT JOIN allocation b ON b.network_id = n.id AND b.node_id = p.arriving_node_id
        WHERE n.id = p.network_id AND {_knows("a")} AND (p.arriving_node_id IS NULL OR {_knows("b")})
    )
"""
_READY = sa.text(f"SELECT EXISTS (SELECT FROM port p WHERE p.id = :port_id AND {IS_READY})")  # noqa: S608 - our own text
_ALL_READY = sa.text(f"SELECT p.id FROM port p WHERE p.id = ANY(:ids) AND {IS_READY}")  # noqa: S608 - our own text


def ready(connection: Connection, port_id: str) -> bool:
    """Tell whether everything that was asked for until the port got its place is in force on its node.

    And on the node too where it is expected.
    """
    return bool(connection.execute(_READY, {"port_id": port_id}).scalar_one())


def ready_among(connection: Connection, port_ids: Collection[str]) -> set[str]:
    """Return those of these ports that are ready."""
    return set(connection.execute(_ALL_READY, {"ids": list(port_ids)}).scalars())


_ATTACHED = (
    sa.select(
        *owned.shown(port),
        sa.func.masklen(subnet.c.prefix).label("prefix_length"),
        sa.func.host(subnet.c.gateway).label("gateway"),
        network.c.mtu,
    )
    .join_from(port, subnet, subnet.c.id == port.c.subnet_id)
    .join(network, network.c.id == port.c.network_id)
)


def attachment(connection: Connection, port_id: str) -> Attachment | None:
    """Return what whoever plugs a guest into this port must know, None if there is no such port."""
    row = one(connection.execute(_ATTACHED.where(port.c.id == port_id)))
    return None if row is None else _attachment(row)


def attachments_of(connection: Connection, service_id: str) -> list[Attachment]:
    """Return the ports of a service, by id."""
    return attachments_by_service(connection, [service_id]).get(service_id, [])


def attachments_by_service(
    connection: Connection, service_ids: Collection[str]
) -> dict[str, list[Attachment]]:
    """Return the ports of services, by id, by service; none for one without."""
    wanted = _ATTACHED.where(port.c.service_id.in_(list(service_ids))).order_by(port.c.id)
    found: dict[str, list[Attachment]] = {}
    for row in every(connection.execute(wanted)):
        found.setdefault(row["service_id"], []).append(_attachment(row))
    return found


def release(connection: Connection, service_ids: Sequence[str], at: datetime) -> None:
    """Unplug every port of services that are gone and forget the services; the ports stay their project's.

    Those that an order made go, unless a route leads to them; floating addresses that led there lead nowhere.
    """
    for row in owned.find_any(connection, port, "service_id", service_ids):
        unbind(connection, row["id"], at=at, forget_service=True)
        if row["goes_with_machine"] and not owned.count(connection, network_route, port_id=row["id"]):
            remove(connection, row, at)


def remove(connection: Connection, row: Row, at: datetime) -> None:
    """Remove a port; floating addresses that led there lead nowhere, load balancers do without it."""
    leads = sa.update(floating_address).where(floating_address.c.port_id == row["id"])
    connection.execute(leads.values(port_id=None, network_id=None))
    group_store.unbind_target(connection, row["id"])
    owned.remove(connection, port, row["id"])
    held = {Measure.PORTS.value: 1}
    quota_store.give_back_many(connection, [(row["tenant_id"], row["project_id"], held)])
    network_store.touch(connection, row["network_id"], at)
    balancer_store.wake_network(connection, row["network_id"], at)


def _attachment(row: Row) -> Attachment:
    return Attachment(
        port_id=row["id"],
        network_id=row["network_id"],
        subnet_id=row["subnet_id"],
        name=row["name"],
        mac=row["mac"],
        address=row["address"],
        prefix_length=row["prefix_length"],
        gateway=row["gateway"],
        tap=tap_name(row["id"]),
        bridge=bridge_name(row["vni"]),
        mtu=row["mtu"],
        node_id=row["node_id"],
        arriving_node_id=row["arriving_node_id"],
        service_id=row["service_id"],
    )
