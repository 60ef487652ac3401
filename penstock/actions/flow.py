"""Flows and counters of ports: taken from agents, shown to the tenants whose they are."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions.agent import require_agent
from penstock.actions.context import Actor, Context
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.drivers.base import Traffic
from penstock.store import flow as flow_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from penstock.store.schema import port

KEPT = Counter("penstock_flows_kept_total", "Flows of tenants' networks that hosts told of.")
LOST = Counter("penstock_flows_lost_total", "Flows left out because there were too many at once.")


def take(context: Context, agent_id: str, said: Traffic) -> int:
    """Keep what an agent says of the networks that it carries, and of no other; return how many flows were kept.

    Raises UnauthenticatedError if the agent was revoked.
    """
    now = context.clock.now()

    def work(connection: Connection) -> int:
        require_agent(connection, agent_id)
        if said.counts:
            flow_store.count(connection, agent_id, [asdict(one) for one in said.counts], now)
        if not said.flows:
            return 0
        return flow_store.put(
            connection,
            agent_id,
            [asdict(one) for one in said.flows],
            now=now,
            oldest=now - limits.FLOW_KEPT,
            most=limits.FLOWS_PER_NETWORK_MAX,
        )

    kept = context.db.retrying(SYSTEM, work)
    KEPT.inc(kept)
    LOST.inc(said.lost)
    return kept


def list_page(
    context: Context,
    actor: Actor,
    *,
    equal: Mapping[str, str | None],
    since: datetime | None,
    until: datetime | None,
    before: int | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` flows of networks that the caller may see, newest first.

    ``equal`` may name ``network_id``, ``port_id`` and ``verdict``.
    """
    tenant_id = tenant_for_list(actor, "flow:read", None)
    with context.db.transaction(actor.scope) as connection:
        if (network_id := equal.get("network_id")) is not None:
            network_actions.visible(connection, actor, network_id)
        if (port_id := equal.get("port_id")) is not None:
            network_part.visible(connection, actor, port, port_id)
        return flow_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            equal=equal,
            since=since,
            until=until,
            before=before,
            limit=limit,
        )


def counters(context: Context, actor: Actor, port_id: str) -> Row:
    """Return what a port has counted since it was plugged in, all None before it was."""
    with context.db.transaction(actor.scope) as connection:
        network_part.visible(connection, actor, port, port_id)
        found = flow_store.counted(connection, port_id)
        return found or {"port_id": port_id, **dict.fromkeys(flow_store.COUNTS), "counted_at": None}


def own_series(context: Context, actor: Actor) -> list[Row]:
    """Return the counters of the ports that the caller may see, by id; at most ``limits.PORT_SERIES_MAX``."""
    tenant_id = tenant_for_list(actor, "port:read", None)
    with context.db.transaction(actor.scope) as connection:
        return flow_store.series(
            connection,
            since=context.clock.now() - limits.PORT_SERIES_FRESH,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            limit=limits.PORT_SERIES_MAX,
        )


def every_series(context: Context) -> list[Row]:
    """Return the counters of every port, for whoever watches the factory from its own loopback."""
    with context.db.reading() as connection:
        return flow_store.series(
            connection,
            since=context.clock.now() - limits.PORT_SERIES_FRESH,
            tenant_id=None,
            project_ids=None,
            limit=limits.PORT_SERIES_MAX,
        )
