"""Clones of volumes: a new volume that begins as another one, as it is now or as a snapshot has it."""

from dataclasses import dataclass
from typing import Any

from penstock.actions import network as network_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context
from penstock.actions.volume import NewVolume, insert, require_at_home, require_settled, visible
from penstock.actions.volume_snapshot import runs, snapshot_of, with_state
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.catalog.vm.volume import config_of
from penstock.domain.volume import key_purpose
from penstock.store import node as node_store
from penstock.store import vm as vm_store
from penstock.store import volume as volume_store
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone as it is asked for; ``size_gib`` None: as large as the other one, ``snapshot_id`` None: as it is now."""

    name: str
    description: str = ""
    size_gib: int | None = None
    snapshot_id: str | None = None


def clone(context: Context, actor: Actor, volume_id: str, asked: Clone) -> Row:
    """Make a volume that begins as another one of the project, on the same host; the bytes are copied there.

    ConflictError while the other one has no bytes, is not as it is wanted, or a running machine writes to it.
    """
    clone_id = context.new_id("volume")
    with change(context, actor, "volume.clone", clone_id) as made:
        seen = visible(made.connection, actor, volume_id)
        if seen["service_id"] is not None:  # machines are locked before their volumes, everywhere
            vm_store.get(made.connection, seen["service_id"], lock=True)
        source = visible(made.connection, actor, volume_id, lock=True)
        actor.require("volume:create", source["tenant_id"], source["project_id"])
        if source["service_id"] is not None:
            require_at_home(made.connection, source["service_id"])
        require_settled(made.connection, source)
        least = _copyable(made, source, asked.snapshot_id)
        size_gib = asked.size_gib or least
        if size_gib < least:
            raise InvalidInputError(f"what it begins as has {least} GiB; it is no smaller", field="size_gib")
        sealed: dict[str, Any] = {}
        if source["sealed_key"]:  # its bytes are the other one's, and so is their key
            key = context.vault.open(source["sealed_key"], key_purpose(volume_id))
            sealed = {"sealed_key": context.vault.seal(key, key_purpose(clone_id))}
        new = NewVolume(
            project_id=source["project_id"],
            name=asked.name,
            description=asked.description,
            driver=source["driver"],
            size_gib=size_gib,
            encrypted=bool(source["sealed_key"]),
        )
        begins = {
            "cloned_from": volume_id,
            "cloned_snapshot": asked.snapshot_id,
            "node_id": source["node_id"],
        }
        row = insert(context, made, source["tenant_id"], clone_id, new, **begins, **sealed)
        node = node_store.get(made.connection, source["node_id"]) or {}
        full = volume_store.get(made.connection, clone_id) or row
        config = config_of(made.connection, full)
        volume_store.insert_allocation(made.connection, context.new_id("allocation"), full, node, config)
        network_actions.record(
            made, "volume.cloned", row, name=asked.name, source=source["name"], snapshot=asked.snapshot_id
        )
        shown = visible(made.connection, actor, clone_id)
    context.wakeups.signal("allocation")
    return shown


def _copyable(made: Change, source: Row, snapshot_id: str | None) -> int:
    """Return how large what is copied is, in GiB; ConflictError says why it cannot be copied now."""
    if source["wanted"] != "present":
        raise ConflictError("this volume is being deleted")
    if source["allocation_id"] is None or source["ready_at"] is None:
        raise ConflictError(
            "this volume has no bytes yet; attach it to a machine first, or wait until it is copied"
        )
    if snapshot_id is not None:
        snapshot = snapshot_of(made.connection, source, snapshot_id)
        if with_state(snapshot, source)["state"] != "ready":
            raise ConflictError("this snapshot is not ready; see `penstock volume snapshots`")
        return int(snapshot["size_gib"])
    if runs(made.connection, source):
        raise ConflictError(
            "a running machine writes to this volume; clone a snapshot of it, or stop the machine"
        )
    return int(source["size_gib"])
