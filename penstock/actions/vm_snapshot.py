"""Snapshots of machines: the first disk at one moment, kept beside it; volumes have a life of their own."""

from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.snapshot_price import Planned, planned
from penstock.actions.vm import changing, require_settled, show, visible, write
from penstock.base import limits
from penstock.base.errors import ConflictError
from penstock.catalog.vm.spec import ENGINE
from penstock.domain.quota import snapshot_holds
from penstock.store import owned, snapshot_time
from penstock.store import quota as quota_store
from penstock.store import vm as vm_store
from penstock.store.rows import Row
from penstock.store.schema import vm_snapshot


def plan(context: Context, actor: Actor, vm_id: str, name: str) -> dict[str, Any]:
    """Return what a snapshot would cost at most, after every check that making it has."""
    return planned(context, actor, lambda: create(context, actor, vm_id, name, keep=False))


def create(context: Context, actor: Actor, vm_id: str, name: str, *, keep: bool = True) -> Row:
    """Ask for a snapshot; it is made while the machine runs. ConflictError for a name that is taken.

    QuotaExceededError says which quota has too little left.
    """
    snapshot_id = context.new_id("vm_snapshot")
    with changing(context, actor, vm_id, "vm.snapshot") as (made, row):
        require_settled(row)
        if len(vm_store.snapshots(made.connection, vm_id)) >= limits.VM_SNAPSHOTS_MAX:
            raise ConflictError(
                f"a machine has at most {limits.VM_SNAPSHOTS_MAX} snapshots; delete one first"
            )
        network_actions.take_quotas(
            context, made, row["tenant_id"], row["project_id"], snapshot_holds(row["disk_gib"])
        )
        snapshot: Row = {
            "id": snapshot_id,
            "tenant_id": row["tenant_id"],
            "project_id": row["project_id"],
            "service_id": vm_id,
            "name": name,
            "size_gib": row["disk_gib"],
            "created_by": actor.principal_id,
            "created_at": context.clock.now(),
        }
        if not owned.insert(made.connection, vm_snapshot, snapshot):
            raise ConflictError(
                f"the machine has a snapshot '{name}' already; choose another name", field="name"
            )
        if not keep:
            raise Planned(row["disk_gib"], ENGINE)
        write(context, made, row, "vm.snapshot_asked", {}, snapshot=name)
    return with_state(snapshot, show(context, actor, vm_id))


def with_state(snapshot: Row, machine: Row) -> Row:
    """Return a snapshot with how far it is: pending, ready (with its size) or failed (with why)."""
    detail: dict[str, Any] = machine["detail"] or {}
    size = detail.get("snapshots", {}).get(snapshot["id"])
    problem = detail.get("problems", {}).get(f"snapshot:{snapshot['id']}")
    state = "ready" if size is not None else "failed" if problem else "pending"
    return {**snapshot, "state": state, "size_bytes": size, "message": problem or ""}


def list_all(context: Context, actor: Actor, vm_id: str) -> list[Row]:
    """Return the snapshots of a machine, the oldest first; they are few."""
    with context.db.transaction(actor.scope) as connection:
        machine = visible(connection, actor, vm_id)
        return [with_state(one, machine) for one in vm_store.snapshots(connection, vm_id)]


def restore(context: Context, actor: Actor, vm_id: str, snapshot_id: str) -> Row:
    """Put a machine's disk back to a snapshot: it is shut down, and started again if it is wanted on."""
    with changing(context, actor, vm_id, "vm.restore") as (made, row):
        snapshot = _of(made.connection, row, snapshot_id)
        if with_state(snapshot, row)["state"] != "ready":
            raise ConflictError("this snapshot is not ready; see `penstock vm snapshots`")
        values = {"restores": row["restores"] + 1, "restore_from": snapshot_id}
        write(context, made, row, "vm.restore_asked", values, snapshot=snapshot["name"])
    return show(context, actor, vm_id)


def delete(context: Context, actor: Actor, vm_id: str, snapshot_id: str) -> None:
    """Delete a snapshot; ConflictError while the machine's disk is being put back to it."""
    with changing(context, actor, vm_id, "vm.snapshot_delete") as (made, row):
        snapshot = _of(made.connection, row, snapshot_id)
        if row["restore_from"] == snapshot_id and not row["current"]:
            raise ConflictError(
                "the machine's disk is being put back to this snapshot; wait until it is done"
            )
        owned.remove(made.connection, vm_snapshot, snapshot_id)
        snapshot_time.end(made.connection, snapshot_id, context.clock.now())
        holds = snapshot_holds(snapshot["size_gib"])
        quota_store.give_back_many(made.connection, [(row["tenant_id"], row["project_id"], holds)])
        # The count stays: a later restore must be one more than what the node has done.
        values = {"restore_from": None} if row["restore_from"] == snapshot_id else {}
        write(context, made, row, "vm.snapshot_deleted", values, snapshot=snapshot["name"])


def _of(connection: Connection, row: Row, snapshot_id: str) -> Row:
    found = owned.get(connection, vm_snapshot, snapshot_id)
    if found is None or found["service_id"] != row["service_id"]:
        raise not_found("vm_snapshot", snapshot_id)
    return found
