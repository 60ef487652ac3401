"""The newest lines of hosts' logs, as their agents tell them, for operators."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.actions.agent import require_agent
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.clock import from_epoch_us, to_epoch_us
from penstock.domain.host_log import LogLine, at_least, plain
from penstock.store import host_check as check_store
from penstock.store import host_log as log_store
from penstock.store import node as node_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

TAKEN = Counter("penstock_host_log_lines_total", "Lines of hosts' logs that were taken.", ("source",))


def take(context: Context, agent_id: str, lines: Sequence[LogLine]) -> int:
    """Keep what is new of an agent's host; return how many lines were. An agent of several nodes is not heard.

    Raises UnauthenticatedError if the agent was revoked.
    """
    now = context.clock.now()
    rows = [_row(line, now) for line in lines]

    def work(connection: Connection) -> list[str]:
        require_agent(connection, agent_id)
        node = check_store.only_node(connection, agent_id)
        if node is None or not rows:
            return []
        return log_store.put(connection, node["id"], rows, now, kept=limits.HOST_LOG_KEPT_LINES)

    written = context.db.retrying(SYSTEM, work)
    for source in written:
        TAKEN.labels(source).inc()
    return len(written)


def _row(line: LogLine, now: datetime) -> dict[str, Any]:
    """Return a line as it is kept: never of the future, and fit for a terminal whatever the agent says."""
    return {
        "source": line.source,
        "run": line.run,
        "number": line.number,
        "at": from_epoch_us(min(line.at_us, to_epoch_us(now))),
        "level": line.level,
        "text": plain(line.text),
    }


def page(
    context: Context,
    actor: Actor,
    node_id: str,
    *,
    source: str | None,
    level: str | None,
    before: int | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` lines of a node's logs of ``level`` and above, newest first; raises NotFoundError."""
    actor.require_visible("node", None, None, node_id)
    with context.db.transaction(actor.scope) as connection:
        if node_store.get(connection, node_id) is None:
            raise not_found("node", node_id)
        return log_store.page(
            connection, node_id, source=source, levels=at_least(level), before=before, limit=limit
        )
