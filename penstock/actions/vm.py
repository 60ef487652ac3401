"""Machines: list, show, tag, power, shape. Each change writes what is wanted and tells the node in one transaction."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.catalog.vm.machine import tell
from penstock.catalog.vm.spec import FORM
from penstock.domain.service import TERMINAL, ServiceState
from penstock.domain.vm import OVERHEAD_MIB, Power, Seen, VmState, state_of
from penstock.store import network as network_store
from penstock.store import port as port_store
from penstock.store import vm as vm_store
from penstock.store import vm_share as share_store
from penstock.store.rows import Row

_BYTES_PER_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Filters:
    """Which machines a list shows; ``tag`` is a name and a value."""

    name: str | None = None
    tag: tuple[str, str] | None = None
    gone_too: bool = False


def list_page(
    context: Context, actor: Actor, filters: Filters, *, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` machines that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "vm:read", None)
    with context.db.transaction(actor.scope) as connection:
        rows = vm_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            name=filters.name,
            tag=filters.tag,
            live=not filters.gone_too,
            after=after,
            limit=limit,
        )
    return [with_state(row) for row in rows]


def show(context: Context, actor: Actor, vm_id: str) -> Row:
    """Return one machine with its snapshots; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, vm_id)
        return {**row, "snapshots": vm_store.snapshots(connection, vm_id)}


def visible(connection: Connection, actor: Actor, vm_id: str, *, lock: bool = False) -> Row:
    """Return a machine that the caller may see; NotFoundError otherwise."""
    row = vm_store.get(connection, vm_id, lock=lock)
    if row is None:
        raise not_found("vm", vm_id)
    actor.require_visible("vm", row["tenant_id"], row["project_id"], vm_id)
    return with_state(row)


def with_state(row: Row) -> Row:
    """Return a machine's row with its state."""
    detail: Mapping[str, Any] = row["detail"] or {}
    current = row["allocation_id"] is not None and row["phase_generation"] == row["allocation_generation"]
    seen = Seen(
        ServiceState(row["service_state"]),
        Power(row["power"]),
        current,
        row["phase"],
        detail.get("power"),
        host_takes_work=not row["node_cordoned"],
    )
    return {**row, "state": state_of(seen), "current": current}


@contextmanager
def changing(
    context: Context, actor: Actor, vm_id: str, action: str, permission: str = "vm:update"
) -> Generator[tuple[Change, Row]]:
    """Open the change of a live machine, locked; its node is told when the block ends.

    ConflictError if the machine is gone or on its way out, or under way to another host.
    """
    with change(context, actor, action, vm_id) as made:
        row = visible(made.connection, actor, vm_id, lock=True)
        actor.require(permission, row["tenant_id"], row["project_id"])
        if row["service_wanted"] != "running" or ServiceState(row["service_state"]) in TERMINAL:
            raise ConflictError("this machine is terminated, or about to be")
        if row["move"] is not None:
            raise ConflictError("this machine is under way to another host; try again when it has arrived")
        yield made, row
        tell(made.connection, vm_id)
    context.wakeups.signal("allocation")


def write(
    context: Context, made: Change, row: Row, event: str, values: Mapping[str, Any], **detail: Any
) -> None:
    """Write what changed about a machine, with the event of it."""
    vm_store.change(made.connection, row["service_id"], context.clock.now(), values)
    made.done(
        event,
        row["service_id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        detail={"name": row["name"], **detail},
    )


def set_power(context: Context, actor: Actor, vm_id: str, power: Power) -> Row:
    """Ask for the power to be on or off; asking again is the same answer. A guest is asked to shut down first."""
    with changing(context, actor, vm_id, f"vm.power_{power}", "vm:power") as (made, row):
        if row["power"] != power:
            write(context, made, row, f"vm.power_{power}_asked", {"power": power})
    return show(context, actor, vm_id)


def reboot(context: Context, actor: Actor, vm_id: str) -> Row:
    """Shut a machine down and start it again; ConflictError if it is off."""
    with changing(context, actor, vm_id, "vm.reboot", "vm:power") as (made, row):
        if row["power"] != Power.ON:
            raise ConflictError("this machine is off; start it")
        write(context, made, row, "vm.reboot_asked", {"boots": row["boots"] + 1})
    return show(context, actor, vm_id)


def retag(context: Context, actor: Actor, vm_id: str, tags: Mapping[str, str]) -> Row:
    """Replace a machine's tags; InvalidInputError (``tags``) for what the order form would not take."""
    form: Mapping[str, Any] = FORM["properties"]["tags"]
    if len(tags) > form["maxProperties"]:
        raise InvalidInputError(f"a machine has at most {form['maxProperties']} tags", field="tags")
    for name, value in tags.items():
        if not re.match(form["propertyNames"]["pattern"], name):
            raise InvalidInputError("a tag's name has up to 63 letters, digits and . _ / -", field="tags")
        if len(value) > form["additionalProperties"]["maxLength"]:
            raise InvalidInputError("a tag's value has at most 255 characters", field="tags")
    with change(context, actor, "vm.tag", vm_id) as made:
        row = visible(made.connection, actor, vm_id, lock=True)
        actor.require("vm:update", row["tenant_id"], row["project_id"])
        write(context, made, row, "vm.tagged", {"tags": dict(tags)}, tags=dict(tags))
        # Its guest reads them at the metadata service of its networks.
        ports = port_store.attachments_of(made.connection, vm_id)
        for network_id in sorted({port.network_id for port in ports}):
            network_store.touch(made.connection, network_id, context.clock.now())
    context.wakeups.signal("network")
    return show(context, actor, vm_id)


def resize(
    context: Context,
    actor: Actor,
    vm_id: str,
    *,
    vcpus: int | None,
    memory_mib: int | None,
    disk_gib: int | None,
) -> Row:
    """Change a machine's shape on its host: it is shut down and started again with it. A disk only grows.

    InvalidInputError names what cannot be, ConflictError says what its host has too little of.
    """
    with changing(context, actor, vm_id, "vm.resize") as (made, row):
        wanted = {"vcpus": vcpus, "memory_mib": memory_mib, "disk_gib": disk_gib}
        values = {name: value for name, value in wanted.items() if value is not None and value != row[name]}
        for name, value in values.items():
            form: Mapping[str, Any] = FORM["properties"][name]
            if not form["minimum"] <= value <= form["maximum"]:
                raise InvalidInputError(f"{form['minimum']} to {form['maximum']} are possible", field=name)
        if values.get("disk_gib", row["disk_gib"]) < row["disk_gib"]:
            raise InvalidInputError(f"the disk has {row['disk_gib']} GiB and never shrinks", field="disk_gib")
        if values:
            _resize_claim(made.connection, row, values)
            write(context, made, row, "vm.resize_asked", values, **values)
    return show(context, actor, vm_id)


def _resize_claim(connection: Connection, row: Row, values: Mapping[str, Any]) -> None:
    """Hold more or less of the machine's node, with the gate's own judgement."""
    if row["allocation_id"] is None:
        raise ConflictError("this machine has no place yet; resize it when it runs")
    memory = (values.get("memory_mib", row["memory_mib"]) + OVERHEAD_MIB) * _BYTES_PER_MIB
    cpu = values.get("vcpus", row["vcpus"]) * 1_000
    refusal = share_store.resize(connection, row["service_id"], memory_bytes=memory, cpu_millis=cpu)
    if refusal is not None:
        raise ConflictError(
            f"its host cannot hold that now: {refusal}; choose less, or move the machine to another host first",
            data={"node": row["node_name"]},
        )


def require_settled(row: Row) -> None:
    """Raise ConflictError unless a machine is running or stopped as it is wanted."""
    if row["state"] not in (VmState.RUNNING, VmState.STOPPED, VmState.MAINTENANCE_REQUIRED):
        raise ConflictError(
            f"this machine is {row['state'].value.replace('_', ' ')}; wait until it is running or stopped"
        )
