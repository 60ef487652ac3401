"""How well hosts are, as their agents report it: the last word on each part, and an event when that changes."""

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import Gauge
from sqlalchemy.engine import Connection

from penstock.actions.agent import require_agent
from penstock.actions.context import Context
from penstock.base import limits
from penstock.base.clock import to_epoch_us
from penstock.drivers.base import Check, CheckState
from penstock.store import event as event_store
from penstock.store import host_check as check_store
from penstock.store.database import SYSTEM
from penstock.store.event import NewEvent
from penstock.store.rows import Row

STATE = Gauge(
    "penstock_host_check", "How well a part of a host is: 0 ok, 1 warning, 2 bad.", ("node", "check")
)
_LEVELS = {CheckState.OK: 0, CheckState.WARNING: 1, CheckState.BAD: 2}


def take(context: Context, agent_id: str, checks: Sequence[Check], at_us: int) -> int:
    """Keep what an agent says of its host, whose own time is ``at_us``; return how many parts changed their state.

    An agent of several nodes reaches them from outside and says nothing of any. Raises UnauthenticatedError if the agent
    was revoked.
    """
    now = context.clock.now()
    found = {one.name: one for one in (*checks, _clock(at_us, now))}

    def work(connection: Connection) -> tuple[Row | None, int]:
        require_agent(connection, agent_id)
        node = check_store.only_node(connection, agent_id)
        if node is None:
            return None, 0
        rows = [
            {"name": one.name, "state": one.state.value, "message": one.message} for one in found.values()
        ]
        changed = check_store.put(connection, node["id"], rows, now)
        event_store.emit_many(connection, [_changed(node, row, now) for row in changed])
        return node, len(changed)

    node, changed = context.db.retrying(SYSTEM, work)
    if node is not None:
        for one in found.values():
            STATE.labels(node["name"], one.name).set(_LEVELS[one.state])
    if changed:
        context.wakeups.signal("event")
    return changed


def _clock(at_us: int, now: datetime) -> Check:
    """Compare the host's clock with ours; the way of the report counts, too, so this is an upper bound."""
    seconds = abs(to_epoch_us(now) - at_us) / 1_000_000
    state = CheckState.OK
    if seconds > limits.CLOCK_WARNING_SECONDS:
        state = CheckState.BAD if seconds > limits.CLOCK_BAD_SECONDS else CheckState.WARNING
    return Check("clock", state, f"it differs from the control plane's by {seconds:.1f} s at most")


def _changed(node: Row, row: Row, now: datetime) -> NewEvent:
    data = {name: row[name] for name in ("name", "state", "message")}
    return NewEvent(now, "node.check_changed", node["id"], None, None, {**data, "node": node["name"]})


def shown(connection: Connection, node_id: str, now: datetime) -> list[Row]:
    """Return the checks of a node by name; what was not heard of lately is ``unknown``."""
    rows = check_store.of_node(connection, node_id)
    return [row if now - row["seen_at"] <= limits.HOST_CHECK_FRESH else _old(row, now) for row in rows]


def _old(row: Row, now: datetime) -> Row:
    seconds = round((now - row["seen_at"]).total_seconds())
    return {**row, "state": "unknown", "message": f"not heard of for {seconds} s; before: {row['message']}"}
