"""The network engine: makes of networks as they are wanted what each host that carries them is told.

Level-triggered: whoever changes a network counts its revision up and says that it is due; a tick compiles the whole
network again and writes what differs into the allocations of its hosts, in one transaction. A tick that dies halfway
has changed nothing. Agents report on these allocations as on any other.
"""

from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.ids import new_id
from penstock.domain.host_network import Config, choose_gateway, configs_of
from penstock.domain.network_peering import PeeringState
from penstock.store import event as event_store
from penstock.store import host_network as plan_store
from penstock.store import network as network_store
from penstock.store import network_peering as peering_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
COMPILED = Counter("penstock_networks_compiled_total", "Networks compiled for their hosts.")
TOLD = Counter("penstock_network_changes_told_total", "Changes of a network told to a host.", ("kind",))
MOVED = Counter("penstock_network_gateways_moved_total", "Networks whose way out moved to another host.")

SETTLE_AGAIN = timedelta(seconds=1)  # how often to look whether a host has done what it was told
FAILED_AGAIN = timedelta(seconds=15)
PEER_AGAIN = timedelta(milliseconds=200)
_JOINED = (PeeringState.ACTIVE, PeeringState.ENDED)


class NetworkEngine:
    """Compiles networks that are due and tells their hosts."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups

    def tick(self) -> int:
        """Compile what is due; return how many networks changed something."""
        now = self._clock.now()
        changed = 0
        with self._db.transaction(SYSTEM) as connection:
            plan_store.wake_orphans(connection, now)
            for network in plan_store.due(connection, now, limits.NETWORKS_PER_TURN):
                changed += self._compile(connection, network, now)
        if changed:
            self._wakeups.signal("allocation")
            self._wakeups.signal("event")
        return changed

    def _compile(self, connection: Connection, network: Row, now: datetime) -> bool:
        peers = peering_store.peers_of(connection, network["id"], _JOINED)
        if peers and peering_store.lock(connection, peers, wait=False) != set(peers):
            # Somebody changes a peer at this moment: it is told of this network, or this one of it, a little later.
            plan_store.look_again(connection, network["id"], now + PEER_AGAIN)
            return False
        if peers:  # one that was compiled before in this tick may have counted this one's revision up
            network = network_store.get(connection, network["id"]) or network
        COMPILED.inc()
        facts = plan_store.facts(connection, network)
        gateway = choose_gateway(facts)
        if gateway != network["gateway_node_id"]:
            self._moved(connection, network, gateway, now)
        wanted = configs_of(facts, gateway)
        hosts = {host["node_id"]: dict(host) for host in facts.hosts}
        told = _Told(connection, network, now)
        for row in plan_store.allocations(connection, network["id"]):
            told.existing(row, wanted.pop(row["node_id"], None))
        for node_id, config in wanted.items():
            told.new(hosts[node_id], config)
        if peers and (told.changed or network["wanted"] == "deleted"):
            for peer_id in peers:
                network_store.touch(connection, peer_id, now)
            peering_store.forget_ended(connection, network["id"])
        if network["wanted"] == "deleted" and not told.left:
            plan_store.remove(connection, network["id"])
            return True
        due_at = None if told.look_again is None else now + told.look_again
        plan_store.compiled(connection, network, gateway, due_at)
        return told.changed

    def _moved(self, connection: Connection, network: Row, gateway: str | None, now: datetime) -> None:
        MOVED.inc()
        event_store.emit(
            connection,
            at=now,
            kind="network.gateway_moved",
            subject_id=network["id"],
            tenant_id=network["tenant_id"],
            project_id=network["project_id"],
            data={"reachable": gateway is not None},
        )


class _Told:
    """What one network's hosts are told in one tick."""

    def __init__(self, connection: Connection, network: Row, now: datetime) -> None:
        self._connection = connection
        self._network = network
        self._now = now
        self.changed = False
        self.left = 0
        self.look_again: timedelta | None = None

    def new(self, host: Row, config: Config) -> None:
        """Tell a host about a network for the first time."""
        allocation_id = new_id("allocation", self._now)
        plan_store.insert_allocation(self._connection, allocation_id, self._network, host, config)
        self._count("new")
        self.left += 1
        self._soon(SETTLE_AGAIN)

    def existing(self, row: Row, config: Config | None) -> None:
        """Tell a host what changed, or that the network is to go."""
        self.left += 1
        if config is None:
            self._end(row)
        elif row["wanted"] != "present" or row["config"] != config:
            plan_store.change_allocation(self._connection, row["id"], "present", config)
            self._count("changed")
            self._soon(SETTLE_AGAIN)
        elif row["phase_generation"] != row["generation"]:
            self._soon(SETTLE_AGAIN)  # its agent has not said yet what became of it
        elif row["phase"] == "failed":
            # What a person has to mend on the host is tried again by itself once that may have been done.
            if row["observed_at"] is not None and self._now - row["observed_at"] >= FAILED_AGAIN:
                plan_store.change_allocation(self._connection, row["id"], "present", config)
                self._count("again")
            self._soon(FAILED_AGAIN)

    def _end(self, row: Row) -> None:
        gone = (
            row["wanted"] == "absent"
            and row["phase"] == "absent"
            and row["phase_generation"] == row["generation"]
        )
        if gone or row["node_state"] == "retired":
            plan_store.remove_allocation(self._connection, row["id"])
            self.left -= 1
            self._count("gone")
            return
        if row["wanted"] != "absent":
            plan_store.change_allocation(self._connection, row["id"], "absent", row["config"])
            self._count("ending")
        self._soon(SETTLE_AGAIN)

    def _soon(self, wait: timedelta) -> None:
        self.look_again = wait if self.look_again is None else min(self.look_again, wait)

    def _count(self, kind: str) -> None:
        TOLD.labels(kind).inc()
        self.changed = True
