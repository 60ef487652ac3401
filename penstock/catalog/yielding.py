"""The work that yields, as the planner knows it: read where somebody waits, never on the path of an order that fits."""

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.domain.claim import Grant
from penstock.scheduler.preempt import Yielding
from penstock.store import yielding as yielding_store
from penstock.store.rows import Row


def yielding_now(connection: Connection) -> list[Yielding]:
    """Return the work that yields, what has run longest first; ``connection`` is of the system scope."""
    found: dict[str, tuple[list[Grant], bool]] = {}
    for row in yielding_store.held(connection, limits.YIELDING_CONSIDERED_MAX):
        grants, _ = found.setdefault(row["service_id"], ([], bool(row["stopping"])))
        grants.append(_grant(row))
    return [Yielding(service_id, tuple(grants), stopping) for service_id, (grants, stopping) in found.items()]


def _grant(row: Row) -> Grant:
    return Grant(
        row["node_id"], row["device_id"], row["mask"], row["node_memory_bytes"], row["node_cpu_millis"]
    )
