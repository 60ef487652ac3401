"""The engine of machines: what is placed is told what to be once its network is there; what moves is moved on.

One ``tick`` takes no input. A machine that waits stands in an index of its own, so the cost is that of what changes.
"""

from datetime import datetime

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.catalog.vm.machine import devices_at, push
from penstock.engine.vm_move import step
from penstock.store import console_session as session_store
from penstock.store import event as event_store
from penstock.store import port as port_store
from penstock.store import vm as vm_store
from penstock.store import vm_console as console_store
from penstock.store import vm_image as vm_image_store
from penstock.store import vm_time as time_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
TOLD = Counter("penstock_vms_told_total", "Machines whose node was told what to start.")


class VmEngine:
    """Moves machines on."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups

    def tick(self) -> int:
        """Handle what waits; return how many machines were told something."""
        with self._db.transaction(SYSTEM) as connection:
            waiting = vm_store.waiting(connection, limits.ENGINE_BATCH)
        topics = [self._db.retrying(SYSTEM, lambda c, row=row: self._tell(c, row)) for row in waiting]
        # Signals come after the commits, and once for all: whoever wakes earlier would find nothing and rest again.
        for topic in sorted({topic for topic in topics if topic is not None}):
            self._wakeups.signal(topic)
        told = topics.count("allocation")
        TOLD.inc(told)
        return told + self._move_on()

    def meter(self) -> int:
        """Note since when, until when and in what shape machines are charged; return how many changed."""
        return self._db.retrying(SYSTEM, lambda c: time_store.settle(c, self._clock.now()))

    def _move_on(self) -> int:
        """Bring every move one step on; return how many went on."""
        with self._db.transaction(SYSTEM) as connection:
            moving = vm_store.moving(connection, limits.ENGINE_BATCH)
        topics = [
            self._db.retrying(SYSTEM, lambda c, one=one: step(c, one, self._clock.now())) for one in moving
        ]
        for topic in {topic for each in topics for topic in each}:
            self._wakeups.signal(topic)
        return sum(bool(each) for each in topics)

    def forget_old(self) -> int:
        """Drop what consoles showed, and who typed there, before the time that is kept; return how many rows."""
        before = self._clock.now() - limits.CONSOLE_KEPT
        with self._db.transaction(SYSTEM) as connection:
            return console_store.forget(connection, before) + session_store.forget(connection, before)

    def end_lost(self) -> int:
        """Close sessions at consoles whose process carries them no more, and say so; return how many."""
        now = self._clock.now()

        def work(connection: Connection) -> int:
            lost = session_store.lost(connection, now - limits.CONSOLE_LOST_AFTER, limits.ENGINE_BATCH)
            for session_id in lost:
                row = session_store.close(connection, session_id, "lost", now)
                if row is not None:
                    _say_lost(connection, row, now)
            return len(lost)

        return self._db.retrying(SYSTEM, work)

    def _tell(self, connection: Connection, waiting: Row) -> str | None:
        """Plug a machine's ports in on its node; tell the node what to start once they are ready there.

        Return the topic to signal after the commit, None if nothing was due.
        """
        row = vm_store.get(connection, waiting["service_id"], lock=True)
        if row is None or row["allocation_id"] != waiting["id"] or "waiting" not in row["config"]:
            return None
        if vm_image_store.missing(connection, [row["service_id"]]):
            return None  # a clone whose disk is still being copied, or never will be: the service's engine gives up then
        ports = port_store.attachments_of(connection, row["service_id"])
        elsewhere = [port for port in ports if port.node_id != waiting["node_id"]]
        for port in elsewhere:
            port_store.bind(connection, port.port_id, waiting["node_id"], at=self._clock.now())
        if elsewhere:
            return "network"
        if not all(port_store.ready(connection, port.port_id) for port in ports):
            return None
        positions = row["config"].get("positions", [])
        devices = devices_at(connection, waiting["node_id"], positions) if positions else []
        return "allocation" if push(connection, row, waiting["id"], devices=devices) else None


def _say_lost(connection: Connection, row: Row, now: datetime) -> None:
    event_store.emit(
        connection,
        at=now,
        kind="vm.console_lost",
        subject_id=row["service_id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        data={
            "session": row["id"],
            "by": row["principal_id"],
            "seconds": round((now - row["opened_at"]).total_seconds()),
        },
    )
