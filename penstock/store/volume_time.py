"""The time that volumes are charged for: a row for each size that a volume had, written with the change itself.

Growth: one row per volume, and one for each time it grew.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_BEGIN = sa.text(
    """
    INSERT INTO volume_time (volume_id, start_at, tenant_id, project_id, price_book_id, driver, size_gib)
    SELECT v.id, :at, v.tenant_id, v.project_id, b.id, v.driver, v.size_gib
    FROM volume v CROSS JOIN (SELECT id FROM price_book ORDER BY version DESC LIMIT 1) AS b WHERE v.id = :id
    """
)
_END = sa.text(
    "UPDATE volume_time SET end_at = GREATEST(start_at, :at) WHERE volume_id = :id AND end_at IS NULL"
)
_RESIZE = sa.text(
    "UPDATE volume_time SET size_gib = :size_gib WHERE volume_id = :id AND end_at IS NULL AND start_at >= :at"
)
_GROW = sa.text(
    """
    WITH ended AS (
        UPDATE volume_time SET end_at = :at WHERE volume_id = :id AND end_at IS NULL AND start_at < :at RETURNING *
    )
    INSERT INTO volume_time (volume_id, start_at, tenant_id, project_id, price_book_id, driver, size_gib)
    SELECT volume_id, end_at, tenant_id, project_id, price_book_id, driver, :size_gib FROM ended
    """
)


def begin(connection: Connection, volume_id: str, at: datetime) -> None:
    """Charge for a new volume from now on, by the newest price book; nothing if there is none."""
    connection.execute(_BEGIN, {"id": volume_id, "at": at})


def grow(connection: Connection, volume_id: str, size_gib: int, at: datetime) -> None:
    """Charge for the new size from now on, by the same price book."""
    for statement in (_RESIZE, _GROW):
        connection.execute(statement, {"id": volume_id, "at": at, "size_gib": size_gib})


def end(connection: Connection, volume_id: str, at: datetime) -> None:
    """Charge for a volume no more; ended before is fine."""
    connection.execute(_END, {"id": volume_id, "at": at})
