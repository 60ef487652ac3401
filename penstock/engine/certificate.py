"""The engine of certificates: those that were issued are rotated in time, owners of uploaded ones are told that theirs end.

One ``tick`` takes no input. What is due stands in an index of its own, so the cost is that of what changes.
"""

from datetime import datetime

import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import UnavailableError
from penstock.catalog import certificate as issuing
from penstock.domain.certificate import CertificateSource
from penstock.drivers.pki.vault import Vault
from penstock.store import certificate as certificate_store
from penstock.store import event as event_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
ROTATED = Counter("penstock_certificates_rotated_total", "Rotations of issued certificates.", ("outcome",))
HELD = Gauge(
    "penstock_certificates", "Certificates that are not revoked, by days to expiry.", ("source", "days_left")
)
DAYS_LEFT = ("expired", "under_1", "under_7", "under_30", "under_90", "more")


class CertificateEngine:
    """Rotates and warns."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups, vault: Vault) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups
        self._vault = vault

    def tick(self) -> int:
        """Rotate what is due, warn of what ends; return how many certificates that was."""
        now = self._clock.now()
        with self._db.transaction(SYSTEM) as connection:
            due = certificate_store.due(connection, now, limits.CERTIFICATES_PER_TURN)
            for certificate_id in due:
                self._rotate(connection, certificate_id, now)
            ending = certificate_store.take_ending(
                connection, now, now + limits.CERTIFICATE_WARNED_BEFORE, limits.CERTIFICATES_PER_TURN
            )
            for row in ending:
                self._say(connection, row, "expiring", expires_at=row["expires_at"].isoformat())
            certificate_store.forget_serials(connection, now)
            left = certificate_store.days_left(connection, now)
        for source in CertificateSource:
            for bucket, words in enumerate(DAYS_LEFT):
                HELD.labels(source.value, words).set(left.get((source.value, bucket), 0))
        if due or ending:
            self._wakeups.signal("event")
            self._wakeups.signal("load_balancer")
        return len(due) + len(ending)

    def _rotate(self, connection: Connection, certificate_id: str, now: datetime) -> None:
        row = certificate_store.get(connection, certificate_id)
        if row is None:
            return
        try:
            values = issuing.issue(connection, self._vault, row, now)
        except UnavailableError as error:
            # What holds now goes on holding; a person has to restore a key or replace the authority meanwhile.
            log.warning("certificate_not_rotated", certificate=certificate_id, error=str(error))
            again = {"rotate_at": now + limits.CERTIFICATE_ROTATED_AGAIN}
            certificate_store.change(connection, certificate_id, again)
            self._say(connection, row, "rotation_failed", expires_at=row["expires_at"].isoformat())
            ROTATED.labels("failed").inc()
            return
        certificate_store.renew(connection, row, values, now)
        self._say(connection, row, "rotated", serial=values["serial"])
        ROTATED.labels("done").inc()

    def _say(self, connection: Connection, row: Row, what: str, **data: object) -> None:
        event_store.emit(
            connection,
            at=self._clock.now(),
            kind=f"certificate.{what}",
            subject_id=row["id"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            data={"name": row["name"], **data},
        )
