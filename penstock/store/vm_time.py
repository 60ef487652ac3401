"""The time that machines are charged for: a row for each shape that a machine had.

It begins when a machine is ready for the first time and goes on until its place is given back, stopped or not: its
processors, memory and disk are kept for it. Growth: one row per machine, and one for each change of its shape.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_SHAPE = "vcpus, memory_mib, disk_gib"
# Where a place was given back, that instant ends it, whenever it is looked at.
_END = sa.text(
    """
    UPDATE vm_time t SET end_at = GREATEST(t.start_at, LEAST(:now, COALESCE(
        (SELECT max(c.released_at) FROM claim c WHERE c.service_id = t.service_id), :now)))
    FROM service s
    WHERE s.id = t.service_id AND t.end_at IS NULL AND s.state IN ('released', 'failed')
    """
)
_CHANGE = sa.text(
    f"""
    WITH ended AS (
        UPDATE vm_time t SET end_at = GREATEST(t.start_at, :now) FROM vm v
        WHERE v.service_id = t.service_id AND t.end_at IS NULL AND t.start_at < :now
            AND (v.vcpus, v.memory_mib, v.disk_gib) <> (t.vcpus, t.memory_mib, t.disk_gib)
        RETURNING t.*
    )
    INSERT INTO vm_time (service_id, start_at, tenant_id, project_id, price_book_id, architecture, simulated, {_SHAPE})
    SELECT e.service_id, e.end_at, e.tenant_id, e.project_id, e.price_book_id, e.architecture, e.simulated,
        v.vcpus, v.memory_mib, v.disk_gib
    FROM ended e JOIN vm v ON v.service_id = e.service_id
    """  # noqa: S608 - a constant of this file
)
_BEGIN = sa.text(
    f"""
    INSERT INTO vm_time (service_id, start_at, tenant_id, project_id, price_book_id, architecture, simulated, {_SHAPE})
    SELECT v.service_id, COALESCE(min(a.ready_at), :now), v.tenant_id, v.project_id, s.price_book_id, v.architecture,
        COALESCE(s.simulated, false), v.vcpus, v.memory_mib, v.disk_gib
    FROM vm v JOIN service s ON s.id = v.service_id JOIN allocation a ON a.service_id = v.service_id
    WHERE s.state NOT IN ('released', 'failed') AND a.phase = 'ready'
        AND NOT EXISTS (SELECT FROM vm_time t WHERE t.service_id = v.service_id)
    GROUP BY v.service_id, s.id
    """  # noqa: S608 - a constant of this file
)


def settle(connection: Connection, now: datetime) -> int:
    """Begin, change and end what is charged for machines; return how many rows. System scope; repeatable."""
    return sum(connection.execute(statement, {"now": now}).rowcount for statement in (_END, _CHANGE, _BEGIN))
