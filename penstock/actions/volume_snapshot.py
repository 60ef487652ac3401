"""Snapshots of volumes: the volume as it is at one moment, kept beside it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.snapshot_price import Planned, planned
from penstock.actions.volume import changing, require_uncopied, show, visible
from penstock.base import limits
from penstock.base.errors import ConflictError
from penstock.domain.quota import snapshot_holds
from penstock.store import owned, snapshot_time
from penstock.store import quota as quota_store
from penstock.store import vm as vm_store
from penstock.store import volume as volume_store
from penstock.store.rows import Row
from penstock.store.schema import volume, volume_snapshot


def plan(context: Context, actor: Actor, volume_id: str, name: str) -> dict[str, Any]:
    """Return what a snapshot would cost at most, after every check that making it has."""
    return planned(context, actor, lambda: create(context, actor, volume_id, name, keep=False))


def create(context: Context, actor: Actor, volume_id: str, name: str, *, keep: bool = True) -> Row:
    """Ask for a snapshot, made while a machine runs on the volume; ConflictError for a name that is taken, QuotaExceededError says which quota has too little left.

    An encrypted volume is copied as it is, so its machine must be off or let go of it first.
    """
    snapshot_id = context.new_id("volume_snapshot")
    with changing(context, actor, volume_id, "snapshot") as (made, row):
        if row["allocation_id"] is None:
            raise ConflictError("this volume has no bytes yet; attach it to a machine first")
        if row["sealed_key"] and runs(made.connection, row):
            raise ConflictError(
                "an encrypted volume is copied while its machine is off; stop it, or detach the volume"
            )
        if len(volume_store.snapshots(made.connection, volume_id)) >= limits.VOLUME_SNAPSHOTS_MAX:
            raise ConflictError(
                f"a volume has at most {limits.VOLUME_SNAPSHOTS_MAX} snapshots; delete one first"
            )
        network_actions.take_quotas(
            context, made, row["tenant_id"], row["project_id"], snapshot_holds(row["size_gib"])
        )
        snapshot: Row = {
            "id": snapshot_id,
            "tenant_id": row["tenant_id"],
            "project_id": row["project_id"],
            "volume_id": volume_id,
            "name": name,
            "size_gib": row["size_gib"],
            "created_by": actor.principal_id,
            "created_at": context.clock.now(),
        }
        if not owned.insert(made.connection, volume_snapshot, snapshot):
            raise ConflictError(
                f"the volume has a snapshot '{name}' already; choose another name", field="name"
            )
        if not keep:
            raise Planned(row["size_gib"], row["driver"])
        network_actions.record(made, "volume.snapshot_asked", row, name=row["name"], snapshot=name)
    return with_state(snapshot, show(context, actor, volume_id))


def runs(connection: Connection, row: Row) -> bool:
    """Tell whether a volume's machine is on, or is to be."""
    held = None if row["service_id"] is None else vm_store.get(connection, row["service_id"])
    if held is None:
        return False
    detail: Mapping[str, Any] = held["detail"] or {}
    return held["power"] == "on" or detail.get("power") == "on"


def with_state(snapshot: Row, row: Row) -> Row:
    """Return a snapshot with how far it is: pending, or ready with the bytes that it occupies."""
    detail: Mapping[str, Any] = row["detail"] or {}
    size = detail.get("snapshots", {}).get(snapshot["id"])
    return {**snapshot, "state": "pending" if size is None else "ready", "size_bytes": size}


def list_all(context: Context, actor: Actor, volume_id: str) -> list[Row]:
    """Return the snapshots of a volume, the oldest first; they are few."""
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, volume_id)
        return [with_state(one, row) for one in volume_store.snapshots(connection, volume_id)]


def restore(context: Context, actor: Actor, volume_id: str, snapshot_id: str) -> Row:
    """Put a volume back to a snapshot; ConflictError while a machine has it, or the snapshot is not ready."""
    with changing(context, actor, volume_id, "restore") as (made, row):
        snapshot = snapshot_of(made.connection, row, snapshot_id)
        if row["service_id"] is not None:
            raise ConflictError(f"the machine '{row['vm_name']}' has this volume; detach it first")
        if with_state(snapshot, row)["state"] != "ready":
            raise ConflictError("this snapshot is not ready; see `penstock volume snapshots`")
        values = {"restores": row["restores"] + 1, "restore_from": snapshot_id}
        owned.change(made.connection, volume, volume_id, values)
        network_actions.record(made, "volume.restore_asked", row, name=row["name"], snapshot=snapshot["name"])
    return show(context, actor, volume_id)


def delete(context: Context, actor: Actor, volume_id: str, snapshot_id: str) -> None:
    """Delete a snapshot; ConflictError while the volume is being put back to it."""
    with changing(context, actor, volume_id, "snapshot") as (made, row):
        snapshot = snapshot_of(made.connection, row, snapshot_id)
        if row["restore_from"] == snapshot_id:
            if not row["current"] or row["phase"] != "ready":
                raise ConflictError("the volume is being put back to this snapshot; wait until it is done")
            owned.change(made.connection, volume, volume_id, {"restore_from": None})
        require_uncopied(made.connection, volume_id, snapshot_id)
        owned.remove(made.connection, volume_snapshot, snapshot_id)
        snapshot_time.end(made.connection, snapshot_id, context.clock.now())
        holds = snapshot_holds(snapshot["size_gib"])
        quota_store.give_back_many(made.connection, [(row["tenant_id"], row["project_id"], holds)])
        network_actions.record(
            made, "volume.snapshot_deleted", row, name=row["name"], snapshot=snapshot["name"]
        )


def snapshot_of(connection: Connection, row: Row, snapshot_id: str) -> Row:
    """Return a snapshot of a volume; NotFoundError if it is none of its."""
    found = owned.get(connection, volume_snapshot, snapshot_id)
    if found is None or found["volume_id"] != row["id"]:
        raise not_found("volume_snapshot", snapshot_id)
    return found
