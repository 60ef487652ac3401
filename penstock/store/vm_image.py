"""Images made of machines: what a node is to copy and send, who may, how it ended, and whose disks wait for it."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import image

_PENDING = sa.select(image.c.id, image.c.from_service_id, image.c.from_snapshot_id)


def exports_of(connection: Connection, service_id: str) -> list[dict[str, Any]]:
    """Return what a machine's driver is told of images that are to be made of it, the oldest first."""
    return exports_by_machine(connection, [service_id]).get(service_id, [])


def exports_by_machine(
    connection: Connection, service_ids: Collection[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the same of many machines; nothing for one that no image is to be made of."""
    wanted = _PENDING.where(image.c.state == "pending", image.c.from_service_id.in_(list(service_ids)))
    found: dict[str, list[dict[str, Any]]] = {}
    for row in every(connection.execute(wanted.order_by(image.c.id))):
        snapshot = {} if row["from_snapshot_id"] is None else {"snapshot": row["from_snapshot_id"]}
        found.setdefault(row["from_service_id"], []).append({"image": row["id"], **snapshot})
    return found


_OF_AGENT = sa.text(
    """
    SELECT i.* FROM image i WHERE i.id = :id AND i.state = 'pending' AND EXISTS (
        SELECT FROM allocation a WHERE a.agent_id = :agent_id AND a.service_id = i.from_service_id
            AND a.wanted = 'present' AND a.config -> 'exports' @> jsonb_build_array(jsonb_build_object('image', i.id))
    )
    """
)


def of_agent(connection: Connection, agent_id: str, image_id: str) -> Row | None:
    """Return an image that an agent was told to make of one of its machines and that is not there yet."""
    return one(connection.execute(_OF_AGENT, {"id": image_id, "agent_id": agent_id}))


_ENDED = sa.text(
    """
    SELECT i.*, CASE
        WHEN s.wanted <> 'running' OR s.state IN ('released', 'failed') THEN 'the machine was terminated meanwhile'
        WHEN i.created_at < :since THEN 'it took longer than six hours'
        ELSE a.detail -> 'problems' ->> ('export:' || i.id) END AS why
    FROM image i JOIN service s ON s.id = i.from_service_id
    LEFT JOIN allocation a ON a.service_id = s.id AND a.wanted = 'present' AND jsonb_exists(a.config, 'exports')
    WHERE i.state = 'pending' AND (s.wanted <> 'running' OR s.state IN ('released', 'failed') OR i.created_at < :since
        OR jsonb_exists(a.detail -> 'problems', 'export:' || i.id))
    ORDER BY i.id LIMIT :limit
    """
)


def ended(connection: Connection, since: datetime, limit: int) -> list[Row]:
    """Return images that will not come any more, with ``why``; those announced before ``since`` took too long."""
    return every(connection.execute(_ENDED, {"since": since, "limit": limit}))


_UNUSED = sa.text(
    """
    SELECT i.* FROM image i WHERE i.temporary AND i.from_service_id IS NOT NULL AND i.message <> 'deleted'
        AND i.created_at < :before AND NOT EXISTS (
            SELECT FROM vm v JOIN service s ON s.id = v.service_id
            WHERE v.image_id = i.id AND s.state NOT IN ('released', 'failed')
        )
    ORDER BY i.id LIMIT :limit
    """
)


def unused(connection: Connection, before: datetime, limit: int) -> list[Row]:
    """Return images of clones that no live machine needs; one younger than ``before`` may still be ordered with."""
    return every(connection.execute(_UNUSED, {"before": before, "limit": limit}))


_WAKE = sa.text(
    "UPDATE service SET due_at = :now WHERE state = 'starting' "
    "AND id IN (SELECT service_id FROM vm WHERE image_id = :id)"
)


def wake(connection: Connection, image_id: str, now: datetime) -> None:
    """Let the engine look at the machines that wait for an image; signal ``service`` after the commit."""
    connection.execute(_WAKE, {"id": image_id, "now": now})


_STATES = sa.text(
    "SELECT v.service_id, i.state, i.message FROM vm v JOIN image i ON i.id = v.image_id "
    "WHERE v.service_id = ANY(:ids) AND i.temporary AND i.state <> 'active'"
)


def missing(connection: Connection, service_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return state and message of the image of each of these machines that has no whole one."""
    rows = every(connection.execute(_STATES, {"ids": list(service_ids)}))
    return {row["service_id"]: (row["state"], row["message"]) for row in rows}
