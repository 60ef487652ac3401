"""The network engine: makes of networks as they are wanted what each host that carries them is told.

Level-triggered: whoever changes a network counts its revision up and says that it is due; a tick compiles the whole
network again and writes what differs into the allocations of its hosts, in one transaction. A tick that dies halfway
has changed nothing. Agents report on these allocations as on any other.

What a host is told is numbered by the revision that it was made from, so that a port need not wait for changes that came
after it. A number that must be higher (the same is told again) counts the revision up with it: none is ahead of it.
"""

from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.domain.host_network import choose_gateway, configs_of
from penstock.domain.network_peering import PeeringState
from penstock.engine.told import Told, Waits
from penstock.store import allocation as allocation_store
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
_WAITS = Waits(answer=SETTLE_AGAIN, lost=SETTLE_AGAIN, failed=FAILED_AGAIN)
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
        told = Told(connection, now, _WAITS, lambda kind: TOLD.labels(kind).inc(), number=network["revision"])
        for row in allocation_store.carrying(connection, "network_id", network["id"]):
            told.existing(row, wanted.pop(row["node_id"], None))
        carried = allocation_store.carried("network_id", network)
        for node_id, config in wanted.items():
            told.new(carried, hosts[node_id]["driver"], hosts[node_id], config)
        if peers and (told.changed or network["wanted"] == "deleted"):
            for peer_id in peers:
                network_store.touch(connection, peer_id, now)
            peering_store.forget_ended(connection, network["id"])
        if network["wanted"] == "deleted" and not told.left:
            plan_store.remove(connection, network["id"])
            return True
        due_at = None if told.look_again is None else now + told.look_again
        plan_store.compiled(connection, network, told.number, gateway, due_at)
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
