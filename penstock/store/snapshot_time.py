"""The time that snapshots are charged for: from when their host says that they are made until they are deleted.

They are charged for what they occupy, in whole MiB, and never for more than what they are of. A snapshot that fails or is
deleted before it is made costs nothing. Growth: one row per snapshot.
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# What is new is found by an index of what nobody noted yet. Without a price book nothing is charged, then and later.
_BEGIN = """
    WITH made AS (
        UPDATE {table} p SET noted = true FROM allocation a {beside}
        WHERE NOT p.noted AND a.{of} = p.{of} AND {kept} AND a.detail -> 'snapshots' ->> p.id IS NOT NULL
        RETURNING p.id, p.tenant_id, p.project_id, p.{of} AS of_id, {driver} AS driver, p.size_gib,
            CAST(a.detail -> 'snapshots' ->> p.id AS bigint) AS bytes
    )
    INSERT INTO snapshot_time (snapshot_id, start_at, tenant_id, project_id, price_book_id, of_id, driver, size_mib)
    SELECT m.id, :now, m.tenant_id, m.project_id, b.id, m.of_id, m.driver,
        LEAST(CAST(m.size_gib AS bigint) * 1024, GREATEST(1, (m.bytes + 1048575) / 1048576))
    FROM made m CROSS JOIN (SELECT id FROM price_book ORDER BY version DESC LIMIT 1) AS b
    ON CONFLICT (snapshot_id) DO NOTHING
"""
_OF_MACHINES = sa.text(
    _BEGIN.format(
        table="vm_snapshot", of="service_id", kept="true", beside="", driver="CAST(:driver AS text)"
    )
)
_OF_VOLUMES = sa.text(
    _BEGIN.format(
        table="volume_snapshot",
        of="volume_id",
        kept="v.wanted = 'present'",
        beside="JOIN volume v ON v.id = a.volume_id",
        driver="v.driver",
    )
)
_END = "UPDATE snapshot_time SET end_at = GREATEST(start_at, :at) WHERE {one} AND end_at IS NULL"
_END_ONE = sa.text(_END.format(one="snapshot_id = :id"))
_END_ALL = sa.text(_END.format(one="of_id = ANY(:ids)"))


def settle(connection: Connection, driver: str, now: datetime) -> int:
    """Charge from ``now`` on for snapshots that are made; ``driver`` keeps machines. Return how many. System scope; repeatable."""
    of_machines = connection.execute(_OF_MACHINES, {"driver": driver, "now": now}).rowcount
    return of_machines + connection.execute(_OF_VOLUMES, {"now": now}).rowcount


def end(connection: Connection, snapshot_id: str, at: datetime) -> None:
    """Charge for a snapshot no more; ended before, or never begun, is fine."""
    connection.execute(_END_ONE, {"id": snapshot_id, "at": at})


def end_all(connection: Connection, of_ids: Sequence[str], at: datetime) -> None:
    """Charge no more for the snapshots of these machines and volumes."""
    connection.execute(_END_ALL, {"ids": list(of_ids), "at": at})
