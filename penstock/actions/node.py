"""Nodes: enrolment of what agents found, and what operators do with nodes afterwards."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import agent_reach, host_check
from penstock.actions.agent_reach import Reach
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.enrolment import (
    DEVICES_PER_NODE_MAX,
    UNKNOWN_CLASS,
    Difference,
    SiteFacts,
    check,
    compare_devices,
    compare_nodes,
    node_row,
)
from penstock.base import limits
from penstock.base.errors import ConflictError, UnauthenticatedError, UnavailableError
from penstock.drivers.base import InjectsFaults, NodeFacts
from penstock.store import agent as agent_store
from penstock.store import allocation as allocation_store
from penstock.store import device as device_store
from penstock.store import device_class as device_class_store
from penstock.store import event as event_store
from penstock.store import fabric_partition as partition_store
from penstock.store import node as node_store
from penstock.store import power_feed as power_feed_store
from penstock.store import rack as rack_store
from penstock.store import segment as segment_store
from penstock.store import site as site_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from penstock.store.segment import SegmentDevice

__all__ = ["Reach", "SiteFacts", "cordon", "enroll", "get", "page", "rehearse", "retire", "write_off"]


def enroll(
    context: Context,
    agent_id: str,
    site: SiteFacts,
    facts: Sequence[NodeFacts],
    drivers_by_node: Mapping[str, Sequence[str]],
    reach: Reach | None = None,
) -> dict[str, str]:
    """Write what an agent found on its nodes; return the id of each node by name.

    ``reach`` says where an agent of another process is and answers; what cannot be reached there is not offered.

    One transaction, a fixed number of statements. New devices get their first ledger segment in it. Devices
    and nodes that vanished stay, as failed and as unreachable. Enrolling the same facts again writes
    nothing. Raises ConflictError if a node belongs to another agent that is alive, or if the site is of the
    other nature; InvalidInputError naming the field on facts that cannot be.
    """
    check(site, facts)
    ids, changed = context.db.retrying(
        SYSTEM, lambda connection: _enroll(context, connection, agent_id, site, facts, drivers_by_node, reach)
    )
    if changed:
        context.wakeups.signal("service")
        context.wakeups.signal("event")
    return ids


def _enroll(
    context: Context,
    connection: Connection,
    agent_id: str,
    site: SiteFacts,
    facts: Sequence[NodeFacts],
    drivers_by_node: Mapping[str, Sequence[str]],
    reach: Reach | None,
) -> tuple[dict[str, str], bool]:
    now = context.clock.now()
    agent_row = agent_store.lock(connection, agent_id)
    if agent_row is None or agent_row["state"] == "revoked":
        raise UnauthenticatedError("this agent is unknown or was revoked; join again with a new join token")
    if reach is not None:
        agent_reach.note(context, connection, agent_row, reach)
        facts, drivers_by_node = agent_reach.offered(reach, facts, drivers_by_node)
    site_row = site_store.ensure(
        connection,
        site_id=context.new_id("site"),
        name=site.name,
        simulated=site.simulated,
        timezone=site.timezone,
        at=now,
    )
    if site_row["simulated"] != site.simulated:
        nature = "simulated" if site_row["simulated"] else "real"
        raise ConflictError(
            f"site '{site.name}' is {nature}; use another site name", data={"site": site.name}
        )
    wanted = _wanted_rows(context, connection, site_row["id"], site, agent_id, facts, drivers_by_node)
    known = node_store.lock_for_enrolment(connection, site_row["id"], list(wanted), agent_id)
    _refuse_foreign(connection, agent_id, [row for name, row in known.items() if name in wanted])
    classes = device_class_store.every_class(connection)
    if UNKNOWN_CLASS.name not in classes:
        device_class_store.add_missing(connection, [*context.device_classes.values(), UNKNOWN_CLASS])
        classes = device_class_store.every_class(connection)
    difference = Difference()
    ids = compare_nodes(difference, known, wanted, context.new_id)
    compare_devices(
        difference,
        facts,
        ids,
        device_store.lock_of_nodes(connection, [row["id"] for row in known.values()]),
        classes,
        context.new_id,
    )
    _write(connection, difference, site_row, agent_id, now)
    back = [row for name, row in known.items() if name in wanted and _is_missing(row)]
    gone = [row for name, row in known.items() if name not in wanted and not _is_missing(row)]
    node_store.bring_back(connection, [row["id"] for row in back], now)
    lost = node_store.lose(connection, [row["id"] for row in gone], node_store.MISSING, now)
    return ids, bool(not difference.empty or back or lost)


def _is_missing(row: Row) -> bool:
    return row["state"] == "unreachable" and row["state_message"] == node_store.MISSING


def _wanted_rows(
    context: Context,
    connection: Connection,
    site_id: str,
    site: SiteFacts,
    agent_id: str,
    facts: Sequence[NodeFacts],
    drivers_by_node: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Any]]:
    """Return the fact columns of every node by name; makes the racks and feeds they stand in."""
    names = sorted({node.power_feed for node in facts if node.power_feed})
    feeds = power_feed_store.ensure_many(connection, site_id, names, site.feed_budget_watts, context.new_id)
    feed_of_rack: dict[str, str | None] = {}
    for node in facts:
        if node.rack and feed_of_rack.get(node.rack) is None:
            feed_of_rack[node.rack] = feeds.get(node.power_feed) if node.power_feed else None
    racks = rack_store.ensure_many(connection, site_id, feed_of_rack, context.new_id)
    return {
        node.name: node_row(node, agent_id, racks, feeds, drivers_by_node.get(node.name, ()))
        for node in facts
    }


def _refuse_foreign(connection: Connection, agent_id: str, rows: Sequence[Row]) -> None:
    """Let an agent take over nodes of one that is silent or revoked, never of one that is alive."""
    for owner_id in sorted({row["agent_id"] for row in rows} - {agent_id}):
        owner = agent_store.get(connection, owner_id)
        if owner is not None and owner["state"] == "active":
            name = next(row["name"] for row in rows if row["agent_id"] == owner_id)
            raise ConflictError(
                f"node '{name}' is driven by agent '{owner['name']}', which is alive; revoke that agent first "
                f"(`penstock agent revoke {owner_id}`) or give the node another name",
                field="nodes",
                data={"node": name, "agent_id": owner_id},
            )


def _write(
    connection: Connection, difference: Difference, site_row: Row, agent_id: str, now: datetime
) -> None:
    simulated = bool(site_row["simulated"])
    node_store.insert_many(
        connection, difference.new_nodes, site_id=site_row["id"], simulated=simulated, at=now
    )
    node_store.update_many(connection, difference.changed_nodes)
    if difference.moved_nodes:
        allocation_store.move_to_agent(connection, difference.moved_nodes, agent_id)
    device_store.insert_many(connection, difference.new_devices, simulated=simulated, at=now)
    device_store.update_many(connection, difference.changed_devices)
    if difference.new_devices:
        segment_store.open_for_new_devices(
            connection,
            {
                row["id"]: SegmentDevice(row["device_class"], row["slices"], simulated)
                for row in difference.new_devices
            },
            now,
        )
    if difference.recut_devices:
        segment_store.replace_width(connection, difference.recut_devices, now)
    if difference.health:
        device_store.wake_holders(connection, list(difference.health), now)
    unsettled = difference.unsettled_nodes
    if unsettled:
        segment_store.settle(connection, sorted(unsettled), now)
    event_store.emit_many(connection, _events(difference, simulated, now))


def _events(difference: Difference, simulated: bool, now: datetime) -> list[event_store.NewEvent]:  # noqa: FBT001 - a fact among others
    about: list[tuple[str, str, dict[str, Any]]] = [
        *(("node.enrolled", row["id"], {"name": row["name"]}) for row in difference.new_nodes),
        *(("node.changed", row["id"], {}) for row in difference.changed_nodes),
        *((f"device.{health}", id_, {}) for id_, health in difference.health.items()),
    ]
    return [
        event_store.NewEvent(now, kind, subject, None, None, {**data, "simulated": simulated})
        for kind, subject, data in about
    ]


def page(
    context: Context, actor: Actor, *, filters: Mapping[str, Any], after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` nodes by id; ``filters`` are those of ``store.node.page``."""
    actor.require("node:read")
    with context.db.transaction(actor.scope) as connection:
        return node_store.page(connection, **filters, after=after, limit=limit)


def get(context: Context, actor: Actor, node_id: str) -> Row:
    """Return a node with its devices and the work on it; raises NotFoundError."""
    actor.require_visible("node", None, None, node_id)
    with context.db.transaction(actor.scope) as connection:
        row = node_store.get(connection, node_id)
        if row is None:
            raise not_found("node", node_id)
        devices = device_store.page(connection, node_id=node_id, after=None, limit=DEVICES_PER_NODE_MAX)
        row["devices"] = sorted(devices, key=lambda device: device["position"])
        row["allocations"] = allocation_store.of_node(connection, node_id, limit=1_000)
        row["partitions"] = partition_store.of_node(connection, node_id, limits.PAGE_DEFAULT)
        row["checks"] = host_check.shown(connection, node_id, context.clock.now())
    return row


def cordon(context: Context, actor: Actor, node_id: str, *, cordoned: bool) -> Row:
    """Keep new work off a node (what runs there goes on), or let it come again. Repeatable."""
    action, kind = ("node.cordon", "node.cordoned") if cordoned else ("node.uncordon", "node.uncordoned")
    with change(context, actor, action, node_id) as made:
        row = _for_change(made, actor, node_id)
        if row["cordoned"] != cordoned:
            node_store.set_cordoned(made.connection, node_id, context.clock.now(), cordoned=cordoned)
            made.done(kind, node_id, tenant_id=None, detail=_named(row))
    context.wakeups.signal("service")
    return get(context, actor, node_id)


def retire(context: Context, actor: Actor, node_id: str) -> Row:
    """Take a node out of service for good; its history stays. Raises ConflictError while anything is on it."""
    with change(context, actor, "node.retire", node_id) as made:
        row = _for_change(made, actor, node_id)
        held = node_store.held_claims(made.connection, node_id)
        if held and row["state"] != "retired":
            raise ConflictError(
                f"{held} claims and allocations still stand on node '{row['name']}'; cordon it, release or move what "
                "runs there, and retire it then. If the machine is gone for good, write it off first",
                data={"held": held},
            )
        if row["state"] != "retired":
            node_store.retire(made.connection, node_id, context.clock.now())
            context.audit(made.connection, actor, "node.retire", node_id, tenant_id=None, detail=_named(row))
    return get(context, actor, node_id)


def write_off(context: Context, actor: Actor, node_id: str) -> Row:
    """Declare that a node that cannot be reached runs nothing any more, so that what waits for it goes on.

    Raises ConflictError if the node is reached: then its agent says what runs there.
    """
    with change(context, actor, "node.write_off", node_id) as made:
        row = _for_change(made, actor, node_id)
        if row["state"] != "unreachable":
            raise ConflictError(
                f"node '{row['name']}' is {row['state']}; only an unreachable node can be written off",
                data={"state": row["state"]},
            )
        woken = node_store.write_off(made.connection, node_id, context.clock.now())
        made.done("node.written_off", node_id, tenant_id=None, detail={**_named(row), "services": len(woken)})
    context.wakeups.signal("service")
    return get(context, actor, node_id)


def rehearse(
    context: Context, actor: Actor, injectors: Mapping[str, InjectsFaults], node_id: str, *, fail: bool
) -> Row:
    """Make a simulated node fall silent, or bring it back; ``injectors`` by site id.

    Raises ConflictError for a real node: nothing real is ever broken on purpose. What follows is what would
    follow a real failure, and takes as long.
    """
    action = "simulated.fail" if fail else "simulated.heal"
    with change(context, actor, action, node_id) as made:
        row = _for_change(made, actor, node_id, "simulated:write")
        if not row["simulated"]:
            raise ConflictError(
                f"node '{row['name']}' is real; only simulated nodes can be made to fail",
                data={"simulated": False},
            )
        injector = injectors.get(row["site_id"])
        if injector is None:
            raise UnavailableError(
                f"the simulated site of node '{row['name']}' runs in another process; ask the factory that runs it"
            )
        made.done(f"simulated.{'failed' if fail else 'healed'}", node_id, tenant_id=None, detail=_named(row))
    if fail:
        injector.fail_node(row["name"])
    else:
        injector.heal_node(row["name"])
    return get(context, actor, node_id)


def _for_change(made: Change, actor: Actor, node_id: str, permission: str = "node:write") -> Row:
    """Authorise and lock; a node that may not be seen and one that is not there look the same."""
    actor.require_visible("node", None, None, node_id)
    actor.require(permission)
    row = node_store.lock(made.connection, node_id)
    if row is None:
        raise not_found("node", node_id)
    return row


def _named(row: Row) -> dict[str, Any]:
    return {"name": row["name"], "simulated": row["simulated"]}
