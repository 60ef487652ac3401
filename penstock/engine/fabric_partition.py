"""The engine of the fabric: each site's fabric manager is told who is in which partition, as placement comes and goes.

Level-triggered. Whoever is placed and asks for a partition waits, its nodes kept for its project, until the manager has
said that they are in it; whoever leaves stays kept until the manager has said that they are out. A tick that dies halfway
has changed nothing, or what the next one finds and goes on with.
"""

from datetime import datetime

from prometheus_client import Counter, Gauge
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.ids import new_id
from penstock.domain.fabric_partition import NEVER_MADE, MemberState, PartitionState, is_made
from penstock.engine.fabric_step import FabricStep
from penstock.store import event as event_store
from penstock.store import fabric_member as member_store
from penstock.store import fabric_partition as partition_store
from penstock.store import owned
from penstock.store import policy as policy_store
from penstock.store import service as service_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.schema import fabric_partition
from penstock.store.wakeups import Wakeups

CHANGES = Counter(
    "penstock_fabric_changes_total",
    "Nodes that joined or left partitions of the fabric, partitions made, repaired, failed, removed.",
    ("what",),
)
WAITING = Gauge("penstock_fabric_waiting", "Services whose nodes are joining a partition of the fabric.")


class FabricPartitionEngine:
    """Moves partitions, and who waits for them, on."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups
        self._looked_at: datetime | None = None

    def tick(self) -> int:
        """Bring what is due one step on; return how much changed."""
        now = self._clock.now()
        looks = self._looked_at is None or now - self._looked_at >= limits.FABRIC_LOOK
        if not looks and not self._is_asked():
            WAITING.set(0)
            return 0  # whatever any agent says wakes this engine, and in most factories none of it is about a fabric
        waiting = self._waiting()
        for one in waiting:
            self._db.retrying(SYSTEM, lambda c, one=one: self._want(c, one, now))
        with self._db.transaction(SYSTEM) as connection:
            member_store.wake(connection, now)
            if looks:
                self._looked_at = now
                member_store.look(connection, now)
            due = member_store.due(connection, now, limits.FABRIC_PARTITIONS_PER_TURN)
        done = sum(self._db.retrying(SYSTEM, lambda c, one=one: self._step(c, one)) for one in due)
        freed = sum(self._db.retrying(SYSTEM, lambda c, one=one: self._let_go(c, one)) for one in waiting)
        opened = self._db.retrying(SYSTEM, self._open)
        WAITING.set(len(waiting) - freed)
        if done or freed:
            self._wakeups.signal("allocation")
            self._wakeups.signal("event")
        if opened:
            self._wakeups.signal("service")
        return done + freed + opened

    def _is_asked(self) -> bool:
        with self._db.reading() as connection:
            return member_store.is_asked(connection)

    def _waiting(self) -> list[Row]:
        with self._db.transaction(SYSTEM) as connection:
            return member_store.isolating(connection, limits.ENGINE_BATCH)

    def _want(self, connection: Connection, one: Row, now: datetime) -> None:
        """Make the partition that a placed service names if it is not there and policy says so; let the engine look."""
        row = partition_store.named(connection, one["project_id"], one["name"])
        if row is None and is_made(policy_store.read(connection).fabric, one["node_ids"]):
            self._make(connection, one, now)
        elif row is not None and row["due_at"] is None and row["state"] == PartitionState.READY:
            member_store.touch(connection, row["id"], now)

    def _make(self, connection: Connection, one: Row, now: datetime) -> None:
        most = limits.FABRIC_PARTITIONS_PER_PROJECT_MAX
        if owned.count(connection, fabric_partition, project_id=one["project_id"]) >= most:
            member_store.say(
                connection, one["service_id"], f"the project has {most} fabric partitions; delete one"
            )
            return
        pkey = partition_store.free_pkey(connection)
        if pkey is None:
            member_store.say(connection, one["service_id"], "every partition key of the fabric is taken")
            return
        row: Row = {
            "id": new_id("fabric_partition", now),
            "tenant_id": one["tenant_id"],
            "project_id": one["project_id"],
            "name": one["name"],
            "created_at": now,
            "pkey": pkey,
            "node_ids": [],
            "automatic": True,
            "due_at": now,
        }
        if owned.insert(connection, fabric_partition, row):
            self._say(connection, row, "created", pkey=pkey, automatic=True)

    def _step(self, connection: Connection, partition_id: str) -> bool:
        """Bring one partition on; return whether anything changed."""
        row = owned.get(connection, fabric_partition, partition_id, lock=True)
        if row is None:
            return False
        now = self._clock.now()
        if row["automatic"] and row["wanted"] == "present" and not member_store.asking(connection, row):
            row |= {"wanted": "deleted"}
            member_store.note(connection, partition_id, {"wanted": "deleted"})
        step = FabricStep(connection, row, now, lambda what, **data: self._say(connection, row, what, **data))
        step.run()
        if row["wanted"] == "deleted" and not step.left:
            owned.remove(connection, fabric_partition, partition_id)
            self._say(connection, row, "deleted", pkey=row["pkey"])
            return True
        values = step.outcome()
        if values["state"] != row["state"] and PartitionState.FAILED in (values["state"], row["state"]):
            failed = values["state"] == PartitionState.FAILED
            self._say(
                connection,
                row,
                "failed" if failed else "recovered",
                **({"reason": values["reason"]} if failed else {}),
            )
        member_store.note(connection, partition_id, values)
        return step.changed

    def _let_go(self, connection: Connection, one: Row) -> bool:
        """Let a service start whose nodes are all in its partition; say of one that waits what for."""
        row = partition_store.named(connection, one["project_id"], one["name"])
        if row is None:
            if is_made(policy_store.read(connection).fabric, one["node_ids"]):
                return False  # it is being made
            if len(one["node_ids"]) > 1:
                self._wait(connection, one, NEVER_MADE)
                return False
        else:
            known = member_store.members(connection, row["id"])
            late = [key for key in one["node_ids"] if known.get(key, {}).get("state") != MemberState.MEMBER]
            if late:
                why = known.get(late[0], {}).get("reason") or row["reason"] or "its nodes join it"
                self._wait(connection, one, f"it waits for the fabric partition '{row['name']}': {why}")
                return False
        member_store.say(connection, one["service_id"], "")
        member_store.let_go(connection, one["allocation_ids"])
        return True

    def _wait(self, connection: Connection, one: Row, message: str) -> None:
        if one["message"] != message:
            member_store.say(connection, one["service_id"], message)

    def _open(self, connection: Connection) -> int:
        """Give nodes that have left to everybody again, and let queued orders try them."""
        opened = member_store.open_nodes(connection, limits.ENGINE_BATCH, self._clock.now())
        if opened:
            service_store.wake_queued(connection, self._clock.now(), limits.ENGINE_BATCH)
        return opened

    def _say(self, connection: Connection, row: Row, what: str, **data: object) -> None:
        CHANGES.labels(what).inc()
        event_store.emit(
            connection,
            at=self._clock.now(),
            kind=f"fabric_partition.{what}",
            subject_id=row["id"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            data={"name": row["name"], **data},
        )
