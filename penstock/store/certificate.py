"""Certificates and authorities of projects: keys are sealed by the caller before they come here, opened by nobody here."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.store import load_balancer as balancer_store
from penstock.store import owned
from penstock.store.rows import Row, every, one
from penstock.store.schema import certificate, certificate_authority, certificate_serial

_SHOWN = [column for column in certificate.c if column.name != "sealed_key"]


def insert(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Add a certificate; False if the project has one of that name."""
    statement = upsert(certificate).values(**row).on_conflict_do_nothing()
    return connection.execute(statement.returning(sa.literal(1))).first() is not None


def change(connection: Connection, certificate_id: str, values: Mapping[str, Any]) -> None:
    """Write what changed about a certificate."""
    connection.execute(sa.update(certificate).where(certificate.c.id == certificate_id).values(**values))


def renew(connection: Connection, row: Row, values: Mapping[str, Any], at: datetime) -> None:
    """Give a certificate another content, counted by its version; load balancers hear of it. Signal ``load_balancer``."""
    more = {"version": certificate.c.version + 1, "warned_at": None}
    change(connection, row["id"], {**values, **more})
    balancer_store.wake_users(connection, row["project_id"], row["id"], at)


def get(connection: Connection, certificate_id: str, *, lock: bool = False) -> Row | None:
    """Return a certificate without its key, locked if asked; None if absent or hidden."""
    query = sa.select(*_SHOWN).where(certificate.c.id == certificate_id)
    return one(connection.execute(query.with_for_update(key_share=True) if lock else query))


def sealed_key(connection: Connection, certificate_id: str) -> str | None:
    """Return the sealed private key of a certificate, None if it is gone."""
    query = sa.select(certificate.c.sealed_key).where(certificate.c.id == certificate_id)
    return connection.execute(query).scalar_one_or_none()


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` certificates by id without their keys; None filters are open."""
    return owned.page(
        connection,
        certificate,
        tenant_id=tenant_id,
        project_ids=project_ids,
        after=after,
        limit=limit,
        equal={"name": name},
        columns=_SHOWN,
    )


def count(connection: Connection, project_id: str) -> int:
    """Return how many certificates a project has."""
    return owned.count(connection, certificate, project_id=project_id)


def remove(connection: Connection, certificate_id: str) -> None:
    """Remove a certificate with its key."""
    connection.execute(sa.delete(certificate).where(certificate.c.id == certificate_id))


# -- authorities and serials


def authority(connection: Connection, project_id: str) -> Row | None:
    """Return the authority of a project with its sealed key, None if it has none yet."""
    query = sa.select(certificate_authority).where(certificate_authority.c.project_id == project_id)
    return one(connection.execute(query))


def insert_authority(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add the authority of a project; nothing if it has one, which then counts."""
    connection.execute(upsert(certificate_authority).values(**row).on_conflict_do_nothing())


def insert_serial(connection: Connection, row: Mapping[str, Any]) -> None:
    """Note a serial that a project's authority gave out."""
    connection.execute(sa.insert(certificate_serial).values(**row))


def revoke_serials(
    connection: Connection, certificate_id: str, now: datetime, *, but: str | None = None
) -> int:
    """Revoke what still holds of a certificate, all serials or all ``but`` one; return how many."""
    statement = sa.update(certificate_serial).where(
        certificate_serial.c.certificate_id == certificate_id,
        certificate_serial.c.revoked_at.is_(None),
        certificate_serial.c.expires_at > now,
    )
    if but is not None:
        statement = statement.where(certificate_serial.c.serial != but)
    return connection.execute(statement.values(revoked_at=now)).rowcount


def revoked(connection: Connection, project_id: str, now: datetime, limit: int) -> list[tuple[str, datetime]]:
    """Return the serials of a project that were revoked and would hold otherwise, with when, the oldest first."""
    query = (
        sa.select(certificate_serial.c.serial, certificate_serial.c.revoked_at)
        .where(
            certificate_serial.c.project_id == project_id,
            certificate_serial.c.revoked_at.is_not(None),
            certificate_serial.c.expires_at > now,
        )
        .order_by(certificate_serial.c.revoked_at, certificate_serial.c.serial)
        .limit(limit)
    )
    return [(serial, at) for serial, at in connection.execute(query)]


def forget_serials(connection: Connection, now: datetime) -> None:
    """Forget serials that have expired: nobody asks for them any more."""
    connection.execute(sa.delete(certificate_serial).where(certificate_serial.c.expires_at < now))


# -- what the engine looks at

_DUE = sa.text(
    """
    SELECT c.id FROM certificate c JOIN project p ON p.id = c.project_id
    WHERE c.rotate_at <= :now AND p.state = 'active' ORDER BY c.rotate_at, c.id LIMIT :limit
    FOR NO KEY UPDATE OF c SKIP LOCKED
    """
)
_ENDING = sa.text(
    """
    UPDATE certificate SET warned_at = :now WHERE id IN (
        SELECT id FROM certificate WHERE source = 'uploaded' AND warned_at IS NULL AND revoked_at IS NULL
            AND expires_at <= :before ORDER BY expires_at, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
    ) RETURNING id, tenant_id, project_id, name, expires_at
    """
)
_LEFT = sa.text(
    """
    SELECT source, width_bucket(extract(epoch FROM expires_at - CAST(:now AS timestamptz)) / 86400,
        ARRAY[0, 1, 7, 30, 90]) AS bucket, count(*) AS number
    FROM certificate WHERE revoked_at IS NULL GROUP BY 1, 2
    """
)


def due(connection: Connection, now: datetime, limit: int) -> list[str]:
    """Return certificates that must be rotated, locked; those that somebody else holds are skipped."""
    return list(connection.execute(_DUE, {"now": now, "limit": limit}).scalars())


def take_ending(connection: Connection, now: datetime, before: datetime, limit: int) -> list[Row]:
    """Return uploaded certificates that end ``before`` then, each once for a content."""
    return every(connection.execute(_ENDING, {"now": now, "before": before, "limit": limit}))


def days_left(connection: Connection, now: datetime) -> dict[tuple[str, int], int]:
    """Return how many certificates there are by source and bucket: ended, or less than 1, 7, 30, 90 days left, or more."""
    return {(row.source, row.bucket): row.number for row in connection.execute(_LEFT, {"now": now})}
