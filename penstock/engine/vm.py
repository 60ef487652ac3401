"""The engine of machines: what is placed is told what to be once its network is there; what moves is moved on.

One ``tick`` takes no input. A machine that waits stands in an index of its own, so the cost is that of what changes.
"""

from collections.abc import Sequence
from datetime import datetime

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.catalog.vm.machine import configs_of, devices_at
from penstock.catalog.vm.spec import ENGINE
from penstock.engine.vm_move import step
from penstock.store import console_session as session_store
from penstock.store import event as event_store
from penstock.store import port as port_store
from penstock.store import snapshot_time
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
        with self._db.reading() as connection:
            waiting = vm_store.waiting(connection)
            moving = vm_store.moving(connection)
        unplugged = [one for one in waiting if one["unplugged"]]
        plugged = [one for one in waiting if not one["unplugged"]]
        told = 0
        # Signals come after the commits: whoever wakes earlier would find nothing and rest again.
        if unplugged and self._db.retrying(SYSTEM, lambda c: self._plug_in(c, unplugged)):
            self._wakeups.signal("network")
        if plugged:
            told = self._db.retrying(SYSTEM, lambda c: self._tell(c, plugged))
            if told:
                self._wakeups.signal("allocation")
                TOLD.inc(told)
        return told + self._move_on(moving)

    def meter(self) -> int:
        """Note since when, until when and in what shape machines are charged, and which snapshots are made; return how many changed."""
        return self._db.retrying(SYSTEM, self._settle)

    def _settle(self, connection: Connection) -> int:
        now = self._clock.now()
        return time_store.settle(connection, now) + snapshot_time.settle(connection, ENGINE, now)

    def _move_on(self, moving: Sequence[str]) -> int:
        """Bring every move one step on; return how many went on."""
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

    def _plug_in(self, connection: Connection, waiting: Sequence[Row]) -> int:
        """Plug ports in where their machines were placed; return how many."""
        ports = port_store.attachments_by_service(connection, [one["service_id"] for one in waiting])
        if all(
            port.node_id == one["node_id"] for one in waiting for port in ports.get(one["service_id"], ())
        ):
            return 0
        node_of = {
            port.port_id: one["node_id"]
            for one, _ in _still(connection, waiting)
            for port in ports.get(one["service_id"], ())
            if port.node_id != one["node_id"]
        }
        port_store.bind_all(connection, node_of, at=self._clock.now())
        return len(node_of)

    def _tell(self, connection: Connection, waiting: Sequence[Row]) -> int:
        """Tell nodes what to start, once the ports of it are ready there; return how many machines."""
        ports = port_store.attachments_by_service(connection, [one["service_id"] for one in waiting])
        every_port = [port.port_id for each in ports.values() for port in each]
        ready = port_store.ready_among(connection, every_port) if every_port else set[str]()

        def is_due(one: Row) -> bool:
            return all(
                port.node_id == one["node_id"] and port.port_id in ready
                for port in ports.get(one["service_id"], ())
            )

        due = _still(connection, [one for one in waiting if is_due(one)])
        configs = configs_of(connection, [row for _, row in due])
        for one, row in due:
            positions = row["config"].get("positions", [])
            devices = devices_at(connection, one["node_id"], positions) if positions else []
            configs[row["service_id"]]["devices"] = devices
        return vm_store.push_all(connection, {one["id"]: configs[one["service_id"]] for one, _ in due})


def _still(connection: Connection, waiting: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Lock machines; return those that still wait at that place, each with its row.

    A clone is left out whose disk is still being copied, or never will be: the service's engine gives up then.
    """
    rows = vm_store.lock_all(connection, [one["service_id"] for one in waiting])
    missing = vm_image_store.missing(connection, list(rows)) if rows else {}
    return [
        (one, row)
        for one in waiting
        if (row := rows.get(one["service_id"])) is not None
        and row["allocation_id"] == one["id"]
        and "waiting" in row["config"]
        and one["service_id"] not in missing
    ]


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
