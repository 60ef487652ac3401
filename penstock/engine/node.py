"""The node engine: agents that fell silent, nodes that are lost with them, and nodes that come back.

One ``tick`` takes no input and looks only at what is silent, lost, returning, cordoned or ailing; its cost
does not grow with the healthy part of the fleet. What services had on a lost node is the service engine's.
"""

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.store import agent as agent_store
from penstock.store import allocation as allocation_store
from penstock.store import event as event_store
from penstock.store import node as node_store
from penstock.store import segment as segment_store
from penstock.store import service as service_store
from penstock.store.database import SYSTEM, Database
from penstock.store.event import NewEvent
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
LOST = Counter("penstock_nodes_lost_total", "Nodes marked unreachable because their agent fell silent.")
RETURNED = Counter("penstock_nodes_returned_total", "Nodes that were given back to work after being lost.")


class NodeEngine:
    """Moves nodes between ready, unreachable and recovering by what their agents show of themselves."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups

    def recover(self) -> None:
        """Count every agent's silence from now on; call it once before ticking.

        While the control plane was down nobody could be heard: without this, its own absence would look
        like the loss of every node.
        """
        with self._db.transaction(SYSTEM) as connection:
            agent_store.forgive(connection, self._clock.now())

    def tick(self) -> int:
        """Do what is due; return how many nodes and agents changed."""
        silent, woken = self._db.retrying(SYSTEM, self._lose_silent)
        settled = self._db.retrying(SYSTEM, self._settle_idle)
        returned = self._db.retrying(SYSTEM, self._settle_recovered)
        if woken or returned:
            self._wakeups.signal("service")
        if silent or returned:
            self._wakeups.signal("event")
        return silent + settled + returned

    def _lose_silent(self, connection: Connection) -> tuple[int, int]:
        """Mark agents silent and lose their nodes, in one transaction; return agents and services woken."""
        now = self._clock.now()
        agents = agent_store.mark_silent(connection, now - limits.AGENT_SILENT_AFTER)
        woken = 0
        for row in agents:
            nodes = node_store.reachable_among(connection, row["id"])
            seconds = int(limits.AGENT_SILENT_AFTER.total_seconds())
            message = f"its agent '{row['name']}' has been silent for more than {seconds} s"
            woken += len(node_store.lose(connection, nodes, message, now))
            event_store.emit_many(
                connection,
                [
                    NewEvent(
                        now, "agent.silent", row["id"], None, None, {"name": row["name"], "nodes": len(nodes)}
                    )
                ],
            )
            LOST.inc(len(nodes))
            log.warning("agent_silent", agent=row["id"], name=row["name"], nodes=len(nodes))
        return len(agents), woken

    def _settle_idle(self, connection: Connection) -> int:
        """Correct idle capacity that was given back to a node while it was being lost or cordoned."""
        nodes = segment_store.unsettled_nodes(connection)
        return segment_store.settle(connection, nodes, self._clock.now()) if nodes else 0

    def _settle_recovered(self, connection: Connection) -> int:
        """Give nodes back to work once their agent confirmed every removal, and let queued orders try them."""
        now = self._clock.now()
        nodes = node_store.settle_recovered(connection, now, limits.ENGINE_BATCH)
        if nodes:
            allocation_store.forget_on_nodes(connection, nodes)
            service_store.wake_queued(connection, now, limits.ENGINE_BATCH)
            RETURNED.inc(len(nodes))
            log.info("nodes_returned", nodes=len(nodes))
        return len(nodes)
