"""Peerings: rows that both sides see, and what of a network its peers must know."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.host_network import PeerFacts
from penstock.domain.network_peering import PeeringState
from penstock.store import owned
from penstock.store.rows import Row, every
from penstock.store.schema import network, network_peering, network_route, port, subnet

_asker = network_peering.c.network_id
_asked = network_peering.c.peer_network_id


def between(connection: Connection, one: str, other: str) -> Row | None:
    """Return the peering of two networks, whoever asked for it; None if there is none."""
    query = sa.select(network_peering).where(
        sa.or_(sa.and_(_asker == one, _asked == other), sa.and_(_asker == other, _asked == one))
    )
    return next(iter(every(connection.execute(query))), None)


def count(connection: Connection, network_id: str) -> int:
    """Return how many peerings a network has, asked for or active."""
    query = sa.select(sa.func.count()).select_from(network_peering).where(_of(network_id))
    return connection.execute(query).scalar_one()


def _of(network_id: str) -> sa.ColumnElement[bool]:
    return sa.or_(_asker == network_id, _asked == network_id)


def peers_of(
    connection: Connection,
    network_id: str,
    states: Collection[PeeringState] = (PeeringState.ACTIVE,),
) -> list[str]:
    """Return the networks that one is peered with, by id."""
    other = sa.case((_asker == network_id, _asked), else_=_asker)
    query = sa.select(other.label("id")).where(_of(network_id), network_peering.c.state.in_(list(states)))
    return sorted(connection.execute(query).scalars())


def lock(connection: Connection, network_ids: Collection[str], *, wait: bool = True) -> set[str]:
    """Keep others from changing networks until the transaction ends, in the order that everybody takes.

    Without ``wait`` those that somebody else holds are left out. Returns those that are locked.
    """
    query = sa.select(network.c.id).where(network.c.id.in_(sorted(network_ids))).order_by(network.c.id)
    locked = query.with_for_update(key_share=True, skip_locked=not wait)
    return set(connection.execute(locked).scalars())


def prefixes_of(connection: Connection, network_ids: Collection[str]) -> dict[str, list[str]]:
    """Return the prefixes of networks' subnets, by network."""
    query = (
        sa.select(subnet.c.network_id, sa.cast(subnet.c.prefix, sa.Text).label("prefix"))
        .where(subnet.c.network_id.in_(list(network_ids)))
        .order_by(subnet.c.prefix)
    )
    found: dict[str, list[str]] = {}
    for row in every(connection.execute(query)):
        found.setdefault(row["network_id"], []).append(row["prefix"])
    return found


def reached_from(connection: Connection, network_id: str) -> list[str]:
    """Return every prefix that means something in a network: of its subnets, its routes, its peers' subnets."""
    ids = [network_id, *peers_of(connection, network_id)]
    found = [prefix for each in prefixes_of(connection, ids).values() for prefix in each]
    return found + [row["prefix"] for row in owned.find(connection, network_route, network_id=network_id)]


def reached_by_peering(connection: Connection, network_id: str) -> list[str]:
    """Return the prefixes of a network's peers."""
    peers = peers_of(connection, network_id)
    return [prefix for each in prefixes_of(connection, peers).values() for prefix in each]


def facts(connection: Connection, network_id: str) -> list[PeerFacts]:
    """Return what a network is told of its peers, by id."""
    ids = peers_of(connection, network_id)
    if not ids:
        return []
    prefixes = prefixes_of(connection, ids)
    places: dict[str, set[str]] = {}
    plugged = sa.select(port.c.network_id, port.c.node_id, port.c.arriving_node_id).where(
        port.c.network_id.in_(ids), port.c.node_id.is_not(None)
    )
    for row in every(connection.execute(plugged)):
        places.setdefault(row["network_id"], set()).update(
            node_id for node_id in (row["node_id"], row["arriving_node_id"]) if node_id is not None
        )
    return [
        PeerFacts(
            row["id"],
            row["vni"],
            row["mtu"],
            prefixes.get(row["id"], []),
            frozenset(places.get(row["id"], ())),
        )
        for row in owned.find_any(connection, network, "id", ids)
    ]


def end_all(connection: Connection, network_id: str) -> None:
    """Take back what was asked for, and end what is active: the engine tells the other sides."""
    asked = sa.and_(_of(network_id), network_peering.c.state == PeeringState.REQUESTED)
    connection.execute(sa.delete(network_peering).where(asked))
    ended = sa.update(network_peering).where(_of(network_id))
    connection.execute(ended.values(state=PeeringState.ENDED.value))


def forget_ended(connection: Connection, network_id: str) -> None:
    """Remove the peerings of a network that ended; the other sides are due."""
    ended = sa.and_(_of(network_id), network_peering.c.state == PeeringState.ENDED)
    connection.execute(sa.delete(network_peering).where(ended))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    equal: Mapping[str, str | None],
    network_id: str | None,
    after: str | None,
    limit: int,
) -> Sequence[Row]:
    """Return up to ``limit`` peerings by id that a tenant or projects are a side of; None filters are open."""
    query = sa.select(network_peering).where(network_peering.c.state != PeeringState.ENDED.value)
    query = query.order_by(network_peering.c.id).limit(limit)
    sides: list[tuple[Any, Any]] = []
    if tenant_id is not None:
        sides.append(
            (network_peering.c.tenant_id == tenant_id, network_peering.c.peer_tenant_id == tenant_id)
        )
    if project_ids is not None:
        known = sorted(project_ids)
        sides.append((network_peering.c.project_id.in_(known), network_peering.c.peer_project_id.in_(known)))
    for mine, theirs in sides:
        query = query.where(sa.or_(mine, theirs))
    if network_id is not None:
        query = query.where(_of(network_id))
    if after is not None:
        query = query.where(network_peering.c.id > after)
    for name, value in equal.items():
        if value is not None:
            query = query.where(network_peering.c[name] == value)
    return every(connection.execute(query))
