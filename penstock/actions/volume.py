"""Volumes: made, plugged into machines and out again, grown, removed. Each change tells the nodes in its transaction."""

import base64
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions import project as project_actions
from penstock.actions import vm as vm_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, NotFoundError
from penstock.base.units import US_PER_HOUR
from penstock.catalog.vm import machine
from penstock.catalog.vm.volume import config_of, tell
from penstock.domain.price import Meter
from penstock.domain.quota import Measure, snapshot_holds
from penstock.domain.volume import LOCAL, Seen, VolumeState, key_purpose, state_of
from penstock.rating.estimate import estimate
from penstock.store import node as node_store
from penstock.store import owned, snapshot_time
from penstock.store import price_book as price_book_store
from penstock.store import project as project_store
from penstock.store import quota as quota_store
from penstock.store import vm as vm_store
from penstock.store import volume as volume_store
from penstock.store import volume_time as time_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from penstock.store.schema import volume

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class NewVolume:
    """A volume as it is asked for."""

    project_id: str
    name: str
    description: str
    driver: str
    size_gib: int
    encrypted: bool


class _Planned(Exception):  # noqa: N818 - a signal inside this file, never seen outside
    """A volume could be made; nothing of it is kept."""


def plan(context: Context, actor: Actor, asked: NewVolume) -> dict[str, Any]:
    """Return what a volume would cost, after every check that making it has; None where it has no price."""
    try:
        create(context, actor, asked, keep=False)
    except _Planned:
        return {"size_gib": asked.size_gib, "driver": asked.driver, **_price(context, actor, asked)}
    raise AssertionError("a plan keeps nothing")


def _price(context: Context, actor: Actor, asked: NewVolume) -> dict[str, Any]:
    with context.db.transaction(actor.scope) as connection:
        book_id = price_book_store.latest_id(connection)
        books = {} if book_id is None else price_book_store.read(connection, [book_id])
    if book_id is None:
        return {"price_book_id": None, "microeur_per_hour": None}
    hour = ((Meter.VOLUME_GIB_HOURS, asked.driver, asked.size_gib * US_PER_HOUR),)
    found = books[book_id].find(Meter.VOLUME_GIB_HOURS, asked.driver)
    price = None if found is None else estimate(books[book_id], hourly=hour).microeur_per_hour
    return {"price_book_id": book_id, "microeur_per_hour": price}


def create(context: Context, actor: Actor, asked: NewVolume, *, keep: bool = True) -> Row:
    """Make a volume; its bytes come to be on the host of the machine that it is first attached to.

    The key of an encrypted one is made here and stored sealed; nobody is shown it.
    """
    volume_id = context.new_id("volume")
    with change(context, actor, "volume.create", volume_id) as made:
        project = project_actions.visible(made.connection, actor, asked.project_id)
        actor.require("volume:create", project["tenant_id"], asked.project_id)
        sealed = _sealed(context, volume_id) if asked.encrypted else None
        row = insert(context, made, project["tenant_id"], volume_id, asked, sealed_key=sealed)
        if not keep:
            raise _Planned
        detail = {name: getattr(asked, name) for name in ("name", "size_gib", "driver", "encrypted")}
        network_actions.record(made, "volume.created", row, **detail)
        return visible(made.connection, actor, volume_id)


def insert(
    context: Context, made: Change, tenant_id: str, volume_id: str, asked: NewVolume, **more: Any
) -> Row:
    """Add a volume with its quotas and its price; QuotaExceededError, ConflictError say why not."""
    if project_store.hold(made.connection, asked.project_id) is None:
        raise not_found("project", asked.project_id)
    most = limits.VOLUMES_PER_PROJECT_MAX
    if owned.count(made.connection, volume, project_id=asked.project_id) >= most:
        raise ConflictError(f"a project has at most {most} volumes; delete one first")
    amounts = {Measure.VOLUMES.value: 1, Measure.VOLUME_GIB.value: asked.size_gib}
    network_actions.take_quotas(context, made, tenant_id, asked.project_id, amounts)
    now = context.clock.now()
    row: Row = {
        "id": volume_id,
        "tenant_id": tenant_id,
        "project_id": asked.project_id,
        "name": asked.name,
        "description": asked.description,
        "driver": asked.driver,
        "size_gib": asked.size_gib,
        "created_by": made.actor.principal_id,
        "created_at": now,
        "metered_until": now,
        **more,
    }
    if not owned.insert(made.connection, volume, row):
        raise ConflictError(
            f"the project has a volume '{asked.name}' already; choose another name", field="name"
        )
    time_store.begin(made.connection, volume_id, now)
    return row


def _sealed(context: Context, volume_id: str) -> str:
    key = base64.b64encode(os.urandom(_KEY_BYTES)).decode()
    return context.vault.seal(key, key_purpose(volume_id))


def visible(connection: Connection, actor: Actor, volume_id: str, *, lock: bool = False) -> Row:
    """Return a volume that the caller may see, with its state; NotFoundError otherwise."""
    row = volume_store.get(connection, volume_id, lock=lock)
    if row is None:
        raise not_found("volume", volume_id)
    actor.require_visible("volume", row["tenant_id"], row["project_id"], volume_id)
    return with_state(row)


def with_state(row: Row) -> Row:
    """Return a volume's row with its state, and the words of whichever node has a problem with it."""
    detail: Mapping[str, Any] = row["vm_detail"] or {}
    of_machine: Mapping[str, str] = detail.get("problems", {})
    said = row["node_message"] if row["current"] and row["code"] not in (None, "volume_in_use") else None
    problem = said or of_machine.get(f"volume:{row['id']}") or of_machine.get("volumes")
    plugged = row["attached"] and bool(row["vm_current"])
    copying = row["cloned_from"] is not None and row["ready_at"] is None
    has_machine = row["service_id"] is not None
    state = state_of(Seen(row["wanted"], has_machine, row["detaching"], plugged, problem, copying))
    return {**row, "state": state, "message": problem or ""}


def list_page(
    context: Context, actor: Actor, *, name: str | None, vm_id: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` volumes that the caller may see, by id; of one machine if it is named."""
    tenant_id = tenant_for_list(actor, "volume:read", None)
    with context.db.transaction(actor.scope) as connection:
        rows = volume_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            equal={"name": name, "service_id": vm_id},
            after=after,
            limit=limit,
        )
    return [with_state(row) for row in rows]


def show(context: Context, actor: Actor, volume_id: str) -> Row:
    """Return one volume; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return visible(connection, actor, volume_id)


@contextmanager
def changing(context: Context, actor: Actor, volume_id: str, action: str) -> Generator[tuple[Change, Row]]:
    """Open the change of a volume, locked after its machine; both nodes are told when the block ends.

    ConflictError if it is being deleted, or its machine is under way to another host.
    """
    with change(context, actor, f"volume.{action}", volume_id) as made:
        row = visible(made.connection, actor, volume_id)
        if row["service_id"] is not None:  # machines are locked before their volumes, everywhere
            vm_store.get(made.connection, row["service_id"], lock=True)
        row = visible(made.connection, actor, volume_id, lock=True)
        actor.require(f"volume:{action}", row["tenant_id"], row["project_id"])
        if row["wanted"] != "present":
            raise ConflictError("this volume is being deleted")
        if row["service_id"] is not None:
            require_at_home(made.connection, row["service_id"])
        require_settled(made.connection, row)
        yield made, row
        tell(made.connection, volume_id)
        if row["attached"] and row["service_id"] is not None:
            machine.tell(made.connection, row["service_id"])
    context.wakeups.signal("allocation")


def require_settled(connection: Connection, row: Row) -> None:
    """Raise ConflictError while it is open on which host a volume is: its machine was ended on its way to another."""
    if volume_store.is_arriving(connection, row["id"]):
        raise ConflictError(
            f"the host '{row['node_name']}' has not said yet whether this volume went on to another host; wait until it has"
        )


def require_at_home(connection: Connection, vm_id: str) -> None:
    """Raise ConflictError while a machine is under way to another host."""
    held = vm_store.get(connection, vm_id)
    if held is not None and held["move"] is not None:
        raise ConflictError("its machine is under way to another host; try again when it has arrived")


def attach(context: Context, actor: Actor, volume_id: str, vm_id: str) -> Row:
    """Plug a volume into a machine of the same project; it appears there by its id as a disk's serial.

    ConflictError if another machine has it, or it lies on another host.
    """
    with change(context, actor, "volume.attach", volume_id) as made:
        seen = visible(made.connection, actor, volume_id)
        vm_actions.visible(made.connection, actor, vm_id, lock=True)
        row = visible(made.connection, actor, volume_id, lock=True)
        held = vm_actions.visible(made.connection, actor, vm_id)
        actor.require("volume:attach", seen["tenant_id"], seen["project_id"])
        actor.require("vm:update", held["tenant_id"], held["project_id"])
        if held["project_id"] != row["project_id"]:
            raise not_found("vm", vm_id)
        if row["wanted"] != "present":
            raise ConflictError("this volume is being deleted")
        if row["service_id"] == vm_id and not row["detaching"]:
            return row
        _require_free(row, held)
        require_settled(made.connection, row)
        if owned.count(made.connection, volume, service_id=vm_id) >= limits.VM_VOLUMES_MAX:
            raise ConflictError(f"a machine has at most {limits.VM_VOLUMES_MAX} volumes; detach one first")
        values: dict[str, Any] = {"service_id": vm_id, "attached": False, "detaching": False}
        if row["allocation_id"] is None:
            values["node_id"] = held["node_id"]
            node = node_store.get(made.connection, held["node_id"]) or {}
            volume_store.insert_allocation(
                made.connection, context.new_id("allocation"), row, node, config_of(made.connection, row)
            )
        owned.change(made.connection, volume, volume_id, values)
        network_actions.record(made, "volume.attach_asked", row, name=row["name"], vm=vm_id)
    context.wakeups.signal("allocation")
    return show(context, actor, volume_id)


def _require_free(row: Row, held: Row) -> None:
    if row["service_id"] is not None:
        raise ConflictError(f"the machine '{row['vm_name']}' has this volume; detach it there first")
    vm_actions.require_settled(held)
    if held["move"] is not None:
        raise ConflictError("this machine is under way to another host; try again when it has arrived")
    if row["driver"] not in held["node_drivers"]:
        raise ConflictError(f"the host '{held['node_name']}' has no volumes of the kind '{row['driver']}'")
    if row["driver"] in LOCAL and row["node_id"] not in (None, held["node_id"]):
        raise ConflictError(
            f"the volume lies on the host '{row['node_name']}' and the machine is on '{held['node_name']}'; move the "
            "machine there first",
            data={"node": row["node_name"]},
        )


def detach(context: Context, actor: Actor, volume_id: str) -> Row:
    """Take a volume out of its machine; already out is the same answer. The guest should have unmounted it."""
    with changing(context, actor, volume_id, "detach") as (made, row):
        if row["service_id"] is not None and not row["detaching"]:
            if row["attached"]:
                held = vm_store.get(made.connection, row["service_id"], lock=True)
                left = [one for one in (held or {"volumes": []})["volumes"] if one != volume_id]
                vm_store.change(made.connection, row["service_id"], context.clock.now(), {"volumes": left})
                values: dict[str, Any] = {"detaching": True}
            else:
                values = {"service_id": None}
            owned.change(made.connection, volume, volume_id, values)
            network_actions.record(made, "volume.detach_asked", row, name=row["name"], vm=row["service_id"])
    return show(context, actor, volume_id)


def grow(context: Context, actor: Actor, volume_id: str, size_gib: int) -> Row:
    """Make a volume larger, also while a machine has it; InvalidInputError for a smaller size."""
    with changing(context, actor, volume_id, "grow") as (made, row):
        if size_gib < row["size_gib"]:
            raise InvalidInputError(
                f"the volume has {row['size_gib']} GiB and never shrinks", field="size_gib"
            )
        more = size_gib - row["size_gib"]
        if more:
            amounts = {Measure.VOLUME_GIB.value: more}
            network_actions.take_quotas(context, made, row["tenant_id"], row["project_id"], amounts)
            volume_store.meter_now(made.connection, volume_id, context.clock.now())
            owned.change(made.connection, volume, volume_id, {"size_gib": size_gib})
            time_store.grow(made.connection, volume_id, size_gib, context.clock.now())
            network_actions.record(made, "volume.grow_asked", row, name=row["name"], size_gib=size_gib)
    return show(context, actor, volume_id)


def delete(context: Context, actor: Actor, volume_id: str) -> Row:
    """Remove a volume with its snapshots; ConflictError while a machine has it. Repeatable until it is gone."""
    with change(context, actor, "volume.delete", volume_id) as made:
        row = visible(made.connection, actor, volume_id, lock=True)
        actor.require("volume:delete", row["tenant_id"], row["project_id"])
        if row["service_id"] is not None:
            raise ConflictError(f"the machine '{row['vm_name']}' has this volume; detach it first")
        require_uncopied(made.connection, volume_id)
        if row["wanted"] == "present":
            volume_store.meter_now(made.connection, volume_id, context.clock.now())
            time_store.end(made.connection, volume_id, context.clock.now())
            snapshot_time.end_all(made.connection, [volume_id], context.clock.now())
            owned.change(made.connection, volume, volume_id, {"wanted": "deleted"})
            for place in volume_store.places(made.connection, volume_id):
                vm_store.leave(made.connection, place, context.clock.now())
            amounts = {Measure.VOLUMES.value: 1, Measure.VOLUME_GIB.value: row["size_gib"]}
            amounts |= snapshot_holds(
                *(one["size_gib"] for one in volume_store.snapshots(made.connection, volume_id))
            )
            quota_store.give_back_many(made.connection, [(row["tenant_id"], row["project_id"], amounts)])
            network_actions.record(made, "volume.delete_asked", row, name=row["name"])
    context.wakeups.signal("allocation")
    return {**row, "state": VolumeState.DELETING}


def require_uncopied(connection: Connection, volume_id: str, snapshot_id: str | None = None) -> None:
    """Raise ConflictError while another volume is being copied from a volume, or from one of its snapshots."""
    names = volume_store.being_cloned(connection, volume_id, snapshot_id)
    if names:
        raise ConflictError(
            f"{', '.join(names)} is being copied from it; wait until it is, or delete that first"
        )


def usage(context: Context, actor: Actor, volume_id: str) -> list[Row]:
    """Return what a volume held each day, the newest first."""
    with context.db.transaction(actor.scope) as connection:
        visible(connection, actor, volume_id)
        return volume_store.usage(connection, volume_id, limits.VOLUME_USAGE_DAYS_MAX)


def key_for_agent(context: Context, agent_id: str, volume_id: str) -> str:
    """Return the key of a volume that an agent keeps, or carries the machine of; NotFoundError for any other."""
    with context.db.transaction(SYSTEM) as connection:
        row = volume_store.for_agent(connection, agent_id, volume_id)
    if row is None or row["sealed_key"] is None:
        raise NotFoundError(f"no key of '{volume_id}' is wanted of this agent")
    return context.vault.open(row["sealed_key"], key_purpose(volume_id))
