"""Clones of machines: an image of the one's disk, and an order of another that waits for it."""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.actions import image as image_actions
from penstock.actions import service as service_actions
from penstock.actions import vm as vm_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.actions.image import NewImage
from penstock.actions.order import Order
from penstock.base.errors import ConflictError, InvalidInputError, PenstockError
from penstock.store import owned
from penstock.store.rows import Row
from penstock.store.schema import offer as offer_table
from penstock.store.schema import port, security_binding, subnet


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone as it is asked for; what is None is as the machine has it."""

    name: str | None
    snapshot_id: str | None = None
    ssh_keys: Sequence[str] | None = None
    ports: Sequence[str] | None = None
    subnets: Sequence[str] | None = None
    vcpus: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None


def clone(context: Context, actor: Actor, vm_id: str, asked: Clone) -> Row:
    """Order a machine whose disk begins as another one's, or as a snapshot of it; the disk is copied first.

    It has its own identity, keys and user data of the first one unless said otherwise, and new ports in the same subnets.
    """
    with context.db.transaction(actor.scope) as connection:
        row = vm_actions.visible(connection, actor, vm_id)
        offer = owned.get(connection, offer_table, row["offer_id"])
        spec = _spec_of(connection, row, offer, asked)
    if offer is None:
        raise ConflictError("the offer of this machine is gone; make an image of it and launch that")
    image_name = f"clone-{row['name'][:40]}-{context.new_id('image')[-6:]}"
    new = NewImage(
        row["project_id"],
        image_name,
        f"the disk of {row['name']}",
        row["architecture"],
        shared=False,
        sha256=None,
        provenance="",
        vm_id=vm_id,
        snapshot_id=asked.snapshot_id,
        temporary=True,
    )
    made = image_actions.create(context, actor, new)
    order = Order(offer["name"], row["project_id"], asked.name, {**spec, "image": made["id"]}, kind="vm")
    try:
        service, _ = service_actions.order(context, actor, order)
    except PenstockError:
        image_actions.delete(context, actor, made["id"])
        raise
    with change(context, actor, "vm.clone", vm_id) as written:
        detail = {
            "name": row["name"],
            "clone": service["id"],
            "clone_name": service["name"],
            "image": made["id"],
        }
        written.done(
            "vm.cloned", vm_id, tenant_id=row["tenant_id"], project_id=row["project_id"], detail=detail
        )
    return vm_actions.show(context, actor, service["id"])


def _spec_of(connection: Connection, row: Row, offer: Row | None, asked: Clone) -> dict[str, Any]:
    """Return the order of a machine like this one; InvalidInputError (``disk_gib``) for too small a disk."""
    shape = {name: getattr(asked, name) or row[name] for name in ("vcpus", "memory_mib", "disk_gib")}
    if shape["disk_gib"] < row["disk_gib"]:
        raise InvalidInputError(f"the disk that is copied has {row['disk_gib']} GiB", field="disk_gib")
    spec: dict[str, Any] = {**row["spec"], **shape, **_interfaces(connection, row, asked)}
    spec["user_data"] = base64.b64encode(bytes(row["user_data"])).decode()
    spec["tags"] = dict(row["tags"])
    if asked.ssh_keys is not None:
        spec["ssh_keys"] = list(asked.ssh_keys)
    fixed: Mapping[str, Any] = {} if offer is None else offer["fixed"]
    # What was left as the form has it needs no saying, and bridges are the offer's to name.
    return {name: value for name, value in spec.items() if name not in fixed and name != "bridges"}


def _interfaces(connection: Connection, row: Row, asked: Clone) -> dict[str, list[str]]:
    """Return ports and subnets as they are asked for; else a new port in each subnet that the machine is in."""
    vm_id: str = row["service_id"]
    if asked.ports is not None or asked.subnets is not None:
        named = {"ports": list(asked.ports or ()), "subnets": list(asked.subnets or ())}
        networks = _networks(connection, row["project_id"], named["subnets"])
        return {**named, "security_groups": _groups(connection, vm_id, networks)}
    ports = owned.find(connection, port, service_id=vm_id)
    networks = {one["network_id"] for one in ports}
    subnets = [one["subnet_id"] for one in ports]
    return {"ports": [], "subnets": subnets, "security_groups": _groups(connection, vm_id, networks)}


def _networks(connection: Connection, project_id: str, subnets: Sequence[str]) -> set[str]:
    """Return the networks of subnets that are named by id or name; whoever orders says which of them there is not."""
    known = owned.find(connection, subnet, project_id=project_id) if subnets else []
    return {one["network_id"] for one in known if one["id"] in subnets or one["name"] in subnets}


def _groups(connection: Connection, vm_id: str, networks: Collection[str]) -> list[str]:
    """Return the groups of these networks that hold for the machine's ports."""
    query = (
        sa.select(security_binding.c.group_id)
        .join(port, port.c.id == security_binding.c.target_id)
        .where(port.c.service_id == vm_id, security_binding.c.scope == "port")
        .where(port.c.network_id.in_(list(networks)))
        .distinct()
    )
    return sorted(connection.execute(query).scalars())
