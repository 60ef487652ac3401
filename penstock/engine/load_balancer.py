"""The engine of load balancers: placed on a host, told there, moved when that is lost or cordoned, taken down when deleted.

Level-triggered: whoever changes one, or something that it is made of, says that it is due; a step compiles it again and
writes what differs into the allocation of its host. What hosts report of members and counters is read as it comes.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.domain.load_balancer import COUNTERS, MemberState, choose_host, config_of, moved, next_host
from penstock.engine.told import Told, Waits
from penstock.store import allocation as allocation_store
from penstock.store import certificate as certificate_store
from penstock.store import event as event_store
from penstock.store import load_balancer as balancer_store
from penstock.store import network as network_store
from penstock.store import owned
from penstock.store import port as port_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.schema import load_balancer
from penstock.store.wakeups import Wakeups

CHANGES = Counter(
    "penstock_load_balancer_changes_total",
    "Load balancers placed, moved, removed; members that fell ill or came back.",
    ("what",),
)

_WAITS = Waits(limits.BALANCER_SETTLE, limits.BALANCER_FAILED_AGAIN, limits.BALANCER_FAILED_AGAIN)


class LoadBalancerEngine:
    """Moves load balancers on."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups

    def tick(self) -> int:
        """Read what hosts said, bring what is due one step on; return how much changed."""
        now = self._clock.now()
        with self._db.transaction(SYSTEM) as connection:
            balancer_store.wake_orphans(connection, now)
            news = sum(
                self._hear(connection, row) for row in balancer_store.heard(connection, limits.ENGINE_BATCH)
            )
            waiting = balancer_store.due(connection, now, limits.BALANCERS_PER_TURN)
        done = sum(self._db.retrying(SYSTEM, lambda c, one=one: self._step(c, one)) for one in waiting)
        if done:
            self._wakeups.signal("allocation")
            self._wakeups.signal("network")
        if done or news:
            self._wakeups.signal("event")
        return done

    def _hear(self, connection: Connection, row: Row) -> bool:
        """Add up counters, tell of members that fell ill or came back; return whether any did."""
        health: Mapping[str, Any] = row["detail"].get("health", {})
        meters: Mapping[str, int] = row["detail"].get("meters", {})
        said = {name: int(meters.get(name, 0)) for name in COUNTERS}
        run = str(meters.get("run", ""))
        rose = moved(row["counted"], said, run, row["counted"].get("run"))
        values: dict[str, Any] = {name: row[name] + rose[name] for name in COUNTERS}
        values |= {"counted": {**said, "run": run}, "seen_at": row["observed_at"], "health": health}
        balancer_store.note(connection, row["id"], values)
        news = False
        for key, (state, check) in health.items():
            before = row["health"].get(key, (MemberState.UNKNOWN,))[0]
            fell = state == MemberState.DOWN and before != MemberState.DOWN
            if fell or (state == MemberState.UP and before == MemberState.DOWN):
                self._say(connection, row, "member_down" if fell else "member_up", member=key, check=check)
                news = True
        return news

    def _step(self, connection: Connection, balancer_id: str) -> bool:
        """Bring one load balancer on; return whether anybody is told something new."""
        seen = balancer_store.get(connection, balancer_id)
        if seen is None:
            return False
        network_store.lock(
            connection, seen["network_id"]
        )  # networks are locked before their parts, everywhere
        row = balancer_store.get(connection, balancer_id, lock=True)
        if row is None:
            return False
        step = _Step(connection, row, self._clock.now())
        if row["wanted"] == "deleted":
            step.end_everywhere()
            if not step.left:
                step.remove()
                self._say(connection, row, "deleted")
                return True
        else:
            went = step.place()
            step.tell()
            if step.take_over():
                went = "moved"
            if went is not None:
                self._say(connection, row, went)
        applied = row["revision"] if step.told else row["applied_revision"]
        balancer_store.note(connection, balancer_id, {"due_at": step.due_at, "applied_revision": applied})
        return step.changed

    def _say(self, connection: Connection, row: Row, what: str, **data: object) -> None:
        CHANGES.labels(what).inc()
        event_store.emit(
            connection,
            at=self._clock.now(),
            kind=f"load_balancer.{what}",
            subject_id=row["id"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            data={"name": row["name"], **data},
        )


class _Step:
    """One step of one load balancer, whose network and row are locked."""

    def __init__(self, connection: Connection, row: Row, now: datetime) -> None:
        self._connection = connection
        self._row = row
        self._now = now
        self._host: Row | None = None
        self._next: Row | None = None  # prepared while ``_host`` goes on
        self._waits: Row | None = None  # the allocation that is ready to take over there
        self._moved = False
        self._telling = Told(connection, now, _WAITS, lambda _kind: None)
        self.told = False  # the host was told everything up to now

    @property
    def changed(self) -> bool:
        """Tell whether anybody is told something new."""
        return self._moved or self._telling.changed

    @property
    def left(self) -> int:
        """Return how many hosts have it still."""
        return self._telling.left

    @property
    def due_at(self) -> datetime | None:
        """Return when to look again, None for when something changes."""
        wait = self._telling.look_again
        return None if wait is None else self._now + wait

    def place(self) -> str | None:
        """Choose the host and plug the port in there; return ``placed`` or ``moved`` if it is another one than before.

        From a host that is well it only goes once the other one is ready to take over; see ``take_over``.
        """
        hosts = balancer_store.hosts(self._connection)
        near = balancer_store.ports_by_node(self._connection, self._row["network_id"])
        before = self._row["node_id"]
        self._host = choose_host(hosts, before, near, balancer_store.by_node(self._connection))
        self._next = next_host(hosts, before, self._row["arriving_node_id"], self._host)
        if self._next is not None:
            self._host = next(one for one in hosts if one["node_id"] == before)
            if self._row["arriving_node_id"] == before:
                self._next = None  # it has only just come here: first the port settles
        self._expect(None if self._next is None else self._next["node_id"])
        if self._host is None or self._host["state"] != "ready" or self._host["cordoned"]:
            self._telling.soon(limits.BALANCER_FAILED_AGAIN)
        if self._host is None or self._host["node_id"] == before:
            return None
        values = {"node_id": self._host["node_id"]}
        balancer_store.note(self._connection, self._row["id"], values)
        port_store.bind(self._connection, self._row["port_id"], self._host["node_id"], at=self._now)
        self._moved = True
        return "placed" if before is None else "moved"

    def tell(self) -> None:
        """Tell the host what is wanted, once the network is ready there; others that the load balancer is to go."""
        if self._host is None:
            return  # nobody can take it: whoever has it goes on with it
        is_ready = port_store.ready(self._connection, self._row["port_id"])
        wanted = {self._host["node_id"]: self._host}
        if self._next is not None:
            wanted[self._next["node_id"]] = self._next
        for one in self._allocations():
            host = wanted.pop(one["node_id"], None)
            if host is None:
                self._telling.existing(one, None)
            elif is_ready:
                self._tell(host, one)
        if is_ready:
            for host in wanted.values():
                self._tell(host, None)
        if not is_ready or self._next is not None:
            self._telling.soon(limits.BALANCER_SETTLE)
        self._settle_port()

    def take_over(self) -> bool:
        """Let the host that is ready to take over do so, and the one before let go, in one transaction; return whether."""
        if self._waits is None or self._next is None:
            return False
        balancer_store.note(self._connection, self._row["id"], {"node_id": self._next["node_id"]})
        self._telling.existing(self._waits, self._config(standby=False))
        for one in self._allocations():
            if one["node_id"] != self._next["node_id"]:
                self._telling.existing(one, None)
        return True

    def end_everywhere(self) -> None:
        """Tell every host that the load balancer is to go."""
        for one in self._allocations():
            self._telling.existing(one, None)

    def _allocations(self) -> list[Row]:
        return allocation_store.carrying(self._connection, "load_balancer_id", self._row["id"])

    def remove(self) -> None:
        """Forget a load balancer that no host has any more, with its port."""
        owned.remove(self._connection, load_balancer, self._row["id"])
        for own in owned.find_any(self._connection, port_store.TABLE, "id", [self._row["port_id"]]):
            port_store.remove(self._connection, own, self._now)

    def _expect(self, node_id: str | None) -> None:
        """Let the network be prepared where the load balancer is to go; None: nowhere, unless it is about to settle there."""
        before = self._row["arriving_node_id"]
        if node_id != before and (node_id is not None or before != self._row["node_id"]):
            port_store.expect(self._connection, self._row["port_id"], node_id, at=self._now)
            self._moved = True

    def _settle_port(self) -> None:
        """Plug the port in where the load balancer has gone, once the host before has let go of it or is lost."""
        here = self._row["node_id"]
        if here is None or self._row["arriving_node_id"] != here:
            return
        if any(one["node_id"] != here and one["node_state"] == "ready" for one in self._allocations()):
            self._telling.soon(limits.BALANCER_SETTLE)
            return
        port_store.bind(self._connection, self._row["port_id"], here, at=self._now)
        self._moved = True

    def _tell(self, host: Row, one: Row | None) -> None:
        """Tell one host, by its allocation if there is one already."""
        standby = self._next is not None and host["node_id"] == self._next["node_id"]
        config = self._config(standby=standby)
        self.told = self.told or not standby
        if one is None:
            carried = allocation_store.carried("load_balancer_id", self._row)
            self._telling.new(carried, host["balancer_driver"], host, config)
            return
        self._telling.existing(one, config)
        is_told = one["wanted"] == "present" and one["config"] == config
        if standby and is_told and one["phase"] == "ready" and one["phase_generation"] == one["generation"]:
            self._waits = one

    def _config(self, *, standby: bool) -> dict[str, Any]:
        at = port_store.attachment(self._connection, self._row["port_id"])
        assert at is not None  # noqa: S101 - the database keeps the port of a load balancer
        names = {one["port_id"] for one in self._row["members"] if one["port_id"] is not None}
        alive = balancer_store.find_members(self._connection, names) if names else {}
        members = [one for one in self._row["members"] if one["port_id"] is None or one["port_id"] in alive]
        used = {one["certificate_id"] for one in self._row["listeners"] if one["certificate_id"] is not None}
        found = {one: certificate_store.get(self._connection, one) for one in used}
        certificates = {key: one for key, one in found.items() if one is not None}
        place = {
            name: getattr(at, name)
            for name in ("bridge", "tap", "mac", "address", "prefix_length", "gateway", "mtu")
        }
        return config_of(self._row, place, members, certificates, standby=standby)
