"""Nodes that sleep: what may, what does; operators accept and wake; agents say what is and hear what is wanted."""

from collections.abc import Mapping

from sqlalchemy.engine import Connection

from penstock.actions.agent import require_agent
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.catalog.sleep import proposals
from penstock.domain.power_budget import Added
from penstock.domain.sleep import PowerState
from penstock.store import fleet as fleet_store
from penstock.store import node as node_store
from penstock.store import policy as policy_store
from penstock.store import power_budget as power_budget_store
from penstock.store import sleep as sleep_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row


def proposed(context: Context, actor: Actor) -> list[Row]:
    """Return the nodes that may be powered down now, the longest idle first."""
    actor.require("node:read")
    with context.db.transaction(actor.scope) as connection:
        return proposals(connection, policy_store.read(connection), context.clock.now())


def asleep(context: Context, actor: Actor, limit: int) -> list[Row]:
    """Return up to ``limit`` nodes that sleep, fall asleep or wake."""
    actor.require("node:read")
    with context.db.transaction(actor.scope) as connection:
        return sleep_store.asleep(connection, limit)


def sleep(context: Context, actor: Actor, node_id: str) -> Row:
    """Accept a proposal: ask a node to sleep. Repeatable; ConflictError unless it may sleep now."""
    with change(context, actor, "node.sleep", node_id) as made:
        row = _visible(made.connection, actor, node_id)
        sleep_store.lock(made.connection, [node_id])
        now = context.clock.now()
        if row["power_wanted"] != "off":
            may = {one["id"] for one in proposals(made.connection, policy_store.read(made.connection), now)}
            if node_id not in may:
                raise ConflictError(
                    f"node '{row['name']}' may not sleep now: it is in use, has not been idle for long enough, is kept "
                    "ready, or no driver can turn it off; see `penstock power sleep list`",
                    data={"node_id": node_id},
                )
            sleep_store.sleep(made.connection, [node_id], now)
            detail = {"name": row["name"], "simulated": row["simulated"]}
            made.done("node.sleep", node_id, tenant_id=None, detail=detail)
    return _shown(context, actor, node_id)


def wake(context: Context, actor: Actor, node_id: str) -> Row:
    """Ask a node that sleeps to wake. Repeatable; ConflictError where a power budget has too little left."""
    with change(context, actor, "node.wake", node_id) as made:
        row = _visible(made.connection, actor, node_id)
        sleep_store.lock(made.connection, [node_id])
        if row["power_wanted"] == "off":
            _refuse_short(made.connection, node_id)
            power_budget_store.wake(made.connection, [node_id], context.clock.now())
            detail = {"name": row["name"], "simulated": row["simulated"]}
            made.done("node.wake", node_id, tenant_id=None, detail=detail)
    return _shown(context, actor, node_id)


def _refuse_short(connection: Connection, node_id: str) -> None:
    state = fleet_store.node_of(connection, node_id)
    added = Added()
    added.add(state, None, 0)
    short = power_budget_store.Above(connection, [state], []).short(added)
    if short:
        raise ConflictError(
            f"{short[0].sentence}; raise the budget or let something end", data=short[0].to_json()
        )


def _visible(connection: Connection, actor: Actor, node_id: str) -> Row:
    actor.require_visible("node", None, None, node_id)
    actor.require("node:write")
    row = node_store.get(connection, node_id)
    if row is None:
        raise not_found("node", node_id)
    return row


def _shown(context: Context, actor: Actor, node_id: str) -> Row:
    with context.db.transaction(actor.scope) as connection:
        return node_store.get(connection, node_id) or {}


def take(context: Context, agent_id: str, states: Mapping[str, str]) -> dict[str, bool]:
    """Note what an agent says of its nodes' power; return by name which shall be on (True) or off and are not.

    Raises UnauthenticatedError if the agent was revoked, InvalidInputError for a state that there is not.
    """
    if len(states) > limits.POWER_REPORT_NODES_MAX:
        raise InvalidInputError(f"at most {limits.POWER_REPORT_NODES_MAX} nodes at once", field="states")
    if not set(states.values()) <= set(PowerState):
        raise InvalidInputError("a node is on, waking or off", field="states")

    def work(connection: Connection) -> dict[str, bool]:
        require_agent(connection, agent_id)
        if states:
            sleep_store.report(connection, agent_id, states, context.clock.now())
        return sleep_store.to_do(connection, agent_id, limits.POWER_REPORT_NODES_MAX)

    return context.db.retrying(SYSTEM, work)
