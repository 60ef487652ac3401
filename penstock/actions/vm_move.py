"""Moves of machines between hosts, running or stopped as they are: one, or all of a host that is to be emptied. Operators' work.

What cannot move stays and is named with its reason; nothing is stopped or started to make it movable.
"""

from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.vm import visible, with_state, write
from penstock.base.errors import ConflictError
from penstock.catalog.base import Known
from penstock.catalog.vm.machine import config_of
from penstock.catalog.vm.spec import compile_order
from penstock.catalog.vm.volume import arriving_config
from penstock.domain.vm import Power, VmState
from penstock.domain.volume import LOCAL
from penstock.scheduler import Plan, place_many
from penstock.store import claim as gate
from penstock.store import network_host as host_store
from penstock.store import node as node_store
from penstock.store import port as port_store
from penstock.store import vm as vm_store
from penstock.store import vm_image as vm_image_store
from penstock.store import volume as volume_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row


def hindrance(connection: Connection, row: Row) -> str | None:
    """Return why a machine cannot move now, as a sentence; None if it can."""
    if row["move"] is not None:
        return "it is under way already"
    if row["state"] not in (VmState.RUNNING, VmState.STOPPED, VmState.MAINTENANCE_REQUIRED):
        return f"it is {row['state'].value.replace('_', ' ')}"
    if vm_image_store.exports_of(connection, row["service_id"]):
        return "an image is being made of it; wait until that is there"
    if row["spec"]["devices"]:
        return "a device of this host is passed through to it; stop it and launch it elsewhere"
    for one in volume_store.held_by(connection, row["service_id"]):
        if one["driver"] in LOCAL and (why := _volume_stays(connection, row, one)) is not None:
            return f"its volume '{one['name']}' lies on this host, and {why}"
    if vm_store.has_snapshots(row) and row["power"] == Power.ON:
        return (
            "its snapshots lie on this host and go only with a stopped machine; stop it, or delete them first"
        )
    if {one["id"] for one in vm_store.snapshots(connection, row["service_id"])} != set(_carried(row)):
        return "a snapshot of it is not ready yet; wait until it is"
    return None


def _carried(row: Row) -> dict[str, int]:
    """Return the snapshots that a machine's host keeps, with their bytes."""
    detail: dict[str, Any] = row["detail"] or {}
    return dict(detail.get("snapshots", {}))


def _volume_stays(connection: Connection, row: Row, one: Row) -> str | None:
    """Return why a local volume cannot go with its machine now, as the end of a sentence."""
    if not one["attached"] or one["detaching"] or one["phase"] != "ready" or not one["current"]:
        return "it is being changed; wait until that is done"
    if volume_store.being_cloned(connection, one["id"], None):
        return "another volume is being copied from it; wait until that is done"
    if len(volume_store.places(connection, one["id"])) > 1:
        return "what an earlier move left elsewhere is not cleaned up yet; wait until it is"
    if volume_store.snapshots(connection, one["id"]) and row["power"] == Power.ON:
        return "its snapshots go only with a stopped machine; stop it, or delete them first"
    return None


def hindrance_now(context: Context, actor: Actor, row: Row) -> str | None:
    """Return what ``hindrance`` says of a machine that the caller sees."""
    with context.db.transaction(actor.scope) as connection:
        return hindrance(connection, row)


def move(context: Context, actor: Actor, vm_id: str, *, node_id: str | None) -> Row:
    """Begin to move a machine, running or stopped, to ``node_id``, None: to the host that fits best.

    ConflictError says why it cannot move, or what the other host lacks.
    """
    with change(context, actor, "vm.move", vm_id) as made:
        row = visible(made.connection, actor, vm_id, lock=True)
        actor.require("node:write")
        why = hindrance(made.connection, row)
        if why is not None:
            raise ConflictError(f"this machine cannot move: {why}")
        to = node_id or _best(context, made.connection, row)
        if to is None:
            raise ConflictError("no other host has room for this machine; see `penstock node list`")
        target = node_store.get(made.connection, to)
        if target is None:
            raise not_found("node", to)
        if to == row["node_id"]:
            raise ConflictError("it is on that host already")
        if port_store.attachments_of(made.connection, vm_id) and not host_store.get(made.connection, to):
            raise ConflictError(f"'{target['name']}' carries no networks, and this machine has ports")
        volumes = [one for one in volume_store.held_by(made.connection, vm_id) if one["driver"] in LOCAL]
        for one in volumes:
            if one["driver"] not in target["drivers"]:
                raise ConflictError(f"'{target['name']}' keeps no volumes of the kind '{one['driver']}'")
        allocation_id = context.new_id("allocation")
        refusal = gate.reserve_move(
            made.connection,
            row,
            _ask_of(row),
            to,
            config={**config_of(made.connection, row), "arriving": 1, "carried": _carried(row)},
            at=context.clock.now(),
            allocation_id=allocation_id,
            claim_id=context.new_id("claim"),
        )
        if refusal is not None:
            raise ConflictError(
                f"'{target['name']}' cannot hold it: {refusal}", data={"node": target["name"]}
            )
        progress = {"state": "preparing", "to": to, "to_name": target["name"], "allocation_id": allocation_id}
        progress |= {"from_allocation_id": row["allocation_id"], "began_at": context.clock.now().isoformat()}
        progress["volumes"] = [_expect(context, made.connection, one, target) for one in volumes]
        write(
            context, made, row, "vm.move_begun", {"move": progress}, host=row["node_name"], to=target["name"]
        )
    context.wakeups.signal("allocation")
    with context.db.transaction(actor.scope) as connection:
        return {**visible(connection, actor, vm_id), "snapshots": []}


def _expect(context: Context, connection: Connection, one: Row, target: Row) -> dict[str, str]:
    """Prepare the place of a volume that goes with its machine."""
    to = context.new_id("allocation")
    volume_store.insert_allocation(connection, to, one, target, arriving_config(one))
    return {"id": one["id"], "from": one["allocation_id"], "to": to}


def _ask_of(row: Row) -> Any:
    spec = {**row["spec"], "vcpus": row["vcpus"], "memory_mib": row["memory_mib"]}
    return compile_order(spec, Known({}, {})).asks[0]


def _best(context: Context, connection: Connection, row: Row) -> str | None:
    """Return the host that the planner would take if the machine's own were not there."""
    ask = replace(_ask_of(row), avoid_nodes=frozenset({row["node_id"]}))
    with context.picture.fresh(connection) as fleet:
        (plan,) = place_many(fleet, [ask])
        if not isinstance(plan, Plan):
            return None
        fleet.revert(plan.grants)
        return plan.grants[0].node_id


def drain_plan(context: Context, actor: Actor, node_id: str) -> list[dict[str, Any]]:
    """Return what would happen to each machine of a host that is emptied: where to, or why it stays. Changes nothing."""
    actor.require_visible("node", None, None, node_id)
    with context.db.transaction(SYSTEM) as connection:
        if node_store.get(connection, node_id) is None:
            raise not_found("node", node_id)
        rows = [with_state(row) for row in vm_store.on_node(connection, node_id)]
        names = {}
        planned: list[dict[str, Any]] = []
        with context.picture.fresh(connection) as fleet:
            taken: list[Any] = []
            for row in rows:
                why = hindrance(connection, row)
                to: str | None = None
                if why is None:
                    ask = replace(_ask_of(row), avoid_nodes=frozenset({node_id}))
                    (plan,) = place_many(fleet, [ask])
                    if isinstance(plan, Plan):
                        taken.append(plan.grants)
                        to = plan.grants[0].node_id
                    else:
                        why = "no other host has room for it"
                planned.append(
                    {"vm_id": row["service_id"], "name": row["name"], "to_node_id": to, "stays_because": why}
                )
            for grants in taken:
                fleet.revert(grants)
        for one in planned:
            to = one["to_node_id"]
            if to is not None and to not in names:
                names[to] = (node_store.get(connection, to) or {"name": to})["name"]
            one["to_node_name"] = None if to is None else names[to]
    return planned


def drain(context: Context, actor: Actor, node_id: str) -> list[dict[str, Any]]:
    """Take no new work on a host and begin to move every machine off it that can; return what happens to each."""
    with change(context, actor, "node.drain", node_id) as made:
        actor.require_visible("node", None, None, node_id)
        actor.require("node:write")
        node_store.set_cordoned(made.connection, node_id, context.clock.now(), cordoned=True)
        made.done("node.drain_begun", node_id, tenant_id=None, detail={})
    planned = drain_plan(context, actor, node_id)
    for one in planned:
        if one["stays_because"] is None:
            try:
                move(context, actor, one["vm_id"], node_id=one["to_node_id"])
            except ConflictError as error:
                one |= {"to_node_id": None, "to_node_name": None, "stays_because": error.sentence}
    return planned
