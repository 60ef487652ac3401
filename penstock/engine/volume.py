"""The engine of volumes: what is to be plugged in is, once it is made; what is let go is free; what is deleted goes.

One ``tick`` takes no input. What is unfinished stands in an index of its own, so the cost is that of what changes.
"""

from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.catalog.vm import machine
from penstock.domain.service import TERMINAL, ServiceState
from penstock.store import event as event_store
from penstock.store import owned, snapshot_time
from penstock.store import vm as vm_store
from penstock.store import volume as volume_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.schema import volume, volume_snapshot
from penstock.store.wakeups import Wakeups

CHANGES = Counter(
    "penstock_volume_changes_total", "Volumes that were plugged in, let go or removed.", ("what",)
)


class VolumeEngine:
    """Moves volumes on."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups

    def tick(self) -> int:
        """Bring every unfinished volume one step on; return how many went on."""
        with self._db.reading() as connection:
            waiting = volume_store.unfinished(connection, limits.ENGINE_BATCH)
        done = sum(self._db.retrying(SYSTEM, lambda c, one=one: self._step(c, one)) for one in waiting)
        if done:
            self._wakeups.signal("allocation")
            self._wakeups.signal("event")
        return done

    def meter(self) -> int:
        """Meter what volumes hold; return how many were due."""
        with self._db.transaction(SYSTEM) as connection:
            return volume_store.meter(
                connection, self._clock.now(), limits.VOLUME_METER_SECONDS, limits.ENGINE_BATCH
            )

    def _step(self, connection: Connection, volume_id: str) -> bool:
        seen = volume_store.get(connection, volume_id)
        if seen is None:
            return False
        # Machines are locked before their volumes, as everywhere.
        held = None if seen["service_id"] is None else vm_store.get(connection, seen["service_id"], lock=True)
        row = volume_store.get(connection, volume_id, lock=True)
        if row is None or row["service_id"] != seen["service_id"]:
            return False
        if row["wanted"] == "deleted":
            return self._remove(connection, row)
        if held is None:
            return False
        if row["detaching"]:
            return self._let_go(connection, row, held)
        return not row["attached"] and self._plug(connection, row, held)

    def _plug(self, connection: Connection, row: Row, held: Row) -> bool:
        """Tell the machine's node about a volume that is made."""
        if row["phase"] != "ready" or not row["current"] or held["move"] is not None:
            return False
        now = self._clock.now()
        vm_store.change(connection, held["service_id"], now, {"volumes": [*held["volumes"], row["id"]]})
        owned.change(connection, volume, row["id"], {"attached": True})
        machine.tell(connection, held["service_id"])
        return self._say(connection, row, "attached")

    def _let_go(self, connection: Connection, row: Row, held: Row) -> bool:
        """Free a volume once its machine's node has said that the machine is without it."""
        gone = ServiceState(held["service_state"]) in TERMINAL
        detail: Mapping[str, Any] = row["vm_detail"] or {}
        if not gone and (not row["vm_current"] or "volumes" in detail.get("problems", {})):
            return False
        owned.change(
            connection, volume, row["id"], {"service_id": None, "attached": False, "detaching": False}
        )
        return self._say(connection, row, "detached")

    def _remove(self, connection: Connection, row: Row) -> bool:
        """Forget a volume whose bytes are gone."""
        kept = [
            place
            for place in volume_store.places(connection, row["id"])
            if not vm_store.forget_place(connection, place)
        ]
        if kept:
            return False
        for snapshot in volume_store.snapshots(connection, row["id"]):
            owned.remove(connection, volume_snapshot, snapshot["id"])
        snapshot_time.end_all(connection, [row["id"]], self._clock.now())
        owned.remove(connection, volume, row["id"])
        return self._say(connection, row, "deleted")

    def _say(self, connection: Connection, row: Row, what: str) -> bool:
        CHANGES.labels(what).inc()
        event_store.emit(
            connection,
            at=self._clock.now(),
            kind=f"volume.{what}",
            subject_id=row["id"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            data={"name": row["name"], "vm": row["service_id"]},
        )
        return True
