"""Replicas of endpoints one by one: which there are, who still uses them, and taking single ones away.

A replica that is taken away drains first: gateways begin nothing new on it (``draining_at``), and it is stopped
once no gateway that is alive names it any more.
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every

_OF_SERVICES = sa.text(
    """
    SELECT a.*, n.state AS node_state, n.name AS node_name, n.simulated AS node_simulated,
        (SELECT min(c.held_from) FROM claim c WHERE c.service_id = a.service_id AND c.allocation_id = a.id
            AND c.released_at IS NULL) AS held_from,
        EXISTS (SELECT FROM gateway_signal g JOIN gateway_seen w ON w.gateway = g.gateway
            WHERE g.service_id = a.service_id AND w.seen_at > :alive AND a.id = ANY(g.upstreams)) AS in_use
    FROM allocation a JOIN node n ON n.id = a.node_id
    WHERE a.service_id = ANY(:ids) ORDER BY a.id
    """
)


def of_services(
    connection: Connection, service_ids: Sequence[str], gateways_alive_since: datetime
) -> dict[str, list[Row]]:
    """Return the replicas of each service by age, with the state of their node, ``held_from`` and ``in_use``."""
    values = {"ids": list(service_ids), "alive": gateways_alive_since}
    found: dict[str, list[Row]] = {service_id: [] for service_id in service_ids}
    for row in every(connection.execute(_OF_SERVICES, values)):
        found[row["service_id"]].append(row)
    return found


_STOP = sa.text(
    "UPDATE allocation SET wanted = 'absent', generation = generation + 1 "
    "WHERE id = ANY(:ids) AND wanted = 'present'"
)
_DRAIN = sa.text("UPDATE allocation SET draining_at = :at WHERE id = ANY(:ids) AND draining_at IS NULL")
_KEEP = sa.text("UPDATE allocation SET draining_at = NULL WHERE id = ANY(:ids) AND wanted = 'present'")
_FORGET = sa.text(
    "DELETE FROM allocation WHERE id = ANY(:ids) "
    "AND wanted = 'absent' AND phase = 'absent' AND phase_generation = generation"
)


def stop(connection: Connection, allocation_ids: Sequence[str]) -> None:
    """Ask the agents to remove these replicas."""
    connection.execute(_STOP, {"ids": list(allocation_ids)})


def drain(connection: Connection, allocation_ids: Sequence[str], at: datetime) -> None:
    """Let gateways begin nothing new on these replicas. Undo: ``keep``."""
    connection.execute(_DRAIN, {"ids": list(allocation_ids), "at": at})


def keep(connection: Connection, allocation_ids: Sequence[str]) -> None:
    """Take draining replicas back into use."""
    connection.execute(_KEEP, {"ids": list(allocation_ids)})


def forget(connection: Connection, allocation_ids: Sequence[str]) -> None:
    """Delete replicas whose removal the agents confirmed; those on lost nodes stay until they do."""
    connection.execute(_FORGET, {"ids": list(allocation_ids)})
