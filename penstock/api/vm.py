"""Virtual machines: launch, list, show, tags, power, shape, snapshots, console; they are services of kind ``vm``."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import service as service_actions
from penstock.actions import vm as vm_actions
from penstock.actions import vm_clone as clone_actions
from penstock.actions import vm_console as console_actions
from penstock.actions import vm_move as move_actions
from penstock.actions import vm_snapshot as snapshot_actions
from penstock.actions.service import Order
from penstock.api.copying import CopyOut, copy_out
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, Name, NameFilter, PathId
from penstock.api.snapshot_price import SnapshotPlan
from penstock.base import limits
from penstock.domain.vm import VM_STATE_SENTENCES, Power
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/vms", tags=["machines"])
_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
_TAG = r"^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}=.{0,255}$"
Tags = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$")],
        Annotated[str, Field(max_length=255)],
    ],
    Field(max_length=limits.VM_TAGS_MAX),
]
Names = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=limits.NAME_CHARACTERS_MAX, pattern=TEXT_PATTERN)]],
    Field(max_length=limits.VM_SSH_KEYS_MAX),
]
Count = Annotated[int | None, Field(ge=1, le=limits.VM_MEMORY_MIB_MAX)]


class VmBody(Strict):
    """A new machine: an offer of kind ``vm`` with its form filled in, as an order of a service has it."""

    project_id: Id
    name: str | None = Field(default=None, max_length=limits.NAME_CHARACTERS_MAX, pattern=_NAME)
    offer: str = Field(default="vm", min_length=1, max_length=limits.NAME_CHARACTERS_MAX)
    spec: dict[str, Any] = Field(
        description="the offer's form: image, vcpus, memory_mib, disk_gib, ssh_keys ..."
    )


class VmTags(Strict):
    """All tags of a machine; those that are left out go."""

    tags: Tags


class VmPower(Strict):
    """What the power is to be; ``reboot`` is one shutdown and one start."""

    action: Literal["start", "stop", "reboot"]


class VmShape(Strict):
    """A new shape; what is left out stays."""

    vcpus: Count = None
    memory_mib: Count = None
    disk_gib: Count = None


class VmMove(Strict):
    """Which host a machine moves to; null: the one that fits best."""

    node_id: Id | None = None


class VmClone(Strict):
    """A clone; what is left out is as the machine has it, with new ports in the same subnets."""

    name: str | None = Field(default=None, max_length=limits.NAME_CHARACTERS_MAX, pattern=_NAME)
    snapshot_id: Id | None = Field(default=None, description="null: the disk as it is now")
    ssh_keys: Names | None = None
    ports: Names | None = Field(default=None, max_length=limits.VM_NICS_MAX)
    subnets: Names | None = Field(default=None, max_length=limits.VM_NICS_MAX)
    vcpus: Count = None
    memory_mib: Count = None
    disk_gib: Count = None


class SnapshotBody(Strict):
    """A new snapshot."""

    name: Name


class SnapshotRestore(Strict):
    """Which snapshot a disk goes back to."""

    snapshot_id: Id


class VmOut(BaseModel):
    """A machine. ``id`` is that of its service. ``meters`` are counters since its start, ``problems`` sentences by step."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    host_name: str
    state: str
    state_sentence: str
    reason: str
    message: str
    power: str
    image_id: str
    architecture: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    volumes: list[str]
    tags: dict[str, str]
    cloned_from: str | None = Field(description="the machine whose disk it began with")
    node_name: str | None
    moving_to: str | None
    copying: CopyOut | None
    simulated: bool | None
    problems: dict[str, str]
    meters: dict[str, int]
    observed_at: datetime | None
    ordered_at: datetime


class VmPage(BaseModel):
    """A page of machines."""

    items: list[VmOut]
    next: str | None


class SnapshotOut(BaseModel):
    """A snapshot of a machine's disk."""

    id: str
    name: str
    state: str
    size_gib: int  # counted against quotas
    size_bytes: int | None
    message: str
    created_at: datetime


class SnapshotsOut(BaseModel):
    """The snapshots of a machine."""

    items: list[SnapshotOut]


def out(row: Row) -> dict[str, Any]:
    """Return a machine as the API shows it; on which host it is, operators look up in the service's parts."""
    detail: dict[str, Any] = row["detail"] or {}
    shown = {name: row[name] for name in VmOut.model_fields if name in row}
    return {
        **shown,
        "id": row["service_id"],
        "state_sentence": VM_STATE_SENTENCES[row["state"]],
        "message": row["message"] or row["node_message"] or "",
        "moving_to": None if row["move"] is None else row["move"]["to_name"],
        "copying": copy_out(detail),
        "problems": detail.get("problems", {}),
        "meters": detail.get("meters", {}),
    }


def snapshot_out(row: Row) -> dict[str, Any]:
    """Return a snapshot as the API shows it."""
    return {name: row[name] for name in SnapshotOut.model_fields}


@router.post("", status_code=202, responses={202: {"model": VmOut}, **ERRORS})
def launch(call: Caller, body: VmBody) -> Response:
    """Launch a machine; it is started in the background."""
    actor = call.actor()
    row, _ = service_actions.order(
        call.context, actor, Order(body.offer, body.project_id, body.name, body.spec, kind="vm")
    )
    return answer(out(vm_actions.show(call.context, actor, row["id"])), 202)


@router.get("", responses={200: {"model": VmPage}, **ERRORS})
def list_vms(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    name: NameFilter = None,
    tag: Annotated[str | None, Query(pattern=_TAG, max_length=320, description="name=value")] = None,
    *,
    gone: Annotated[bool, Query(description="also machines that are terminated")] = False,
) -> Response:
    """List the machines that the caller may see, oldest first."""
    wanted = None if tag is None else (tag.partition("=")[0], tag.partition("=")[2])
    rows = vm_actions.list_page(
        call.context, call.actor(), vm_actions.Filters(name, wanted, gone), after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{vm_id}", responses={200: {"model": VmOut}, **ERRORS})
def show(call: Caller, vm_id: PathId) -> Response:
    """Show one machine."""
    return answer(out(vm_actions.show(call.context, call.actor(), vm_id)))


@router.put("/{vm_id}/tags", responses={200: {"model": VmOut}, **ERRORS})
def tag_vm(call: Caller, vm_id: PathId, body: VmTags) -> Response:
    """Replace a machine's tags."""
    return answer(out(vm_actions.retag(call.context, call.actor(), vm_id, body.tags)))


@router.post("/{vm_id}/power", status_code=202, responses={202: {"model": VmOut}, **ERRORS})
def power(call: Caller, vm_id: PathId, body: VmPower) -> Response:
    """Start, stop or reboot a machine. A guest is asked to shut down; its power is cut if it takes too long."""
    actor = call.actor()
    if body.action == "reboot":
        return answer(out(vm_actions.reboot(call.context, actor, vm_id)), 202)
    wanted = Power.ON if body.action == "start" else Power.OFF
    return answer(out(vm_actions.set_power(call.context, actor, vm_id, wanted)), 202)


@router.post("/{vm_id}/shape", status_code=202, responses={202: {"model": VmOut}, **ERRORS})
def resize(call: Caller, vm_id: PathId, body: VmShape) -> Response:
    """Change processors, memory or disk; the machine is shut down and started again for it. A disk only grows."""
    return answer(out(vm_actions.resize(call.context, call.actor(), vm_id, **body.model_dump())), 202)


@router.post("/{vm_id}/move", status_code=202, responses={202: {"model": VmOut}, **ERRORS})
def move(call: Caller, vm_id: PathId, body: VmMove) -> Response:
    """Move a machine, running or stopped, to another host, disk and all; for operators."""
    return answer(out(move_actions.move(call.context, call.actor(), vm_id, node_id=body.node_id)), 202)


@router.post("/{vm_id}/clone", status_code=202, responses={202: {"model": VmOut}, **ERRORS})
def clone(call: Caller, vm_id: PathId, body: VmClone) -> Response:
    """Order a machine whose disk begins as this one's, or as a snapshot of it; it starts when the disk is copied."""
    row = clone_actions.clone(call.context, call.actor(), vm_id, clone_actions.Clone(**body.model_dump()))
    return answer(out(row), 202)


@router.delete("/{vm_id}", status_code=202, responses={202: {"model": VmOut}, **ERRORS})
def terminate(call: Caller, vm_id: PathId) -> Response:
    """Terminate a machine: its disk and snapshots go, volumes and ports stay. Repeating it is harmless."""
    actor = call.actor()
    vm_actions.show(call.context, actor, vm_id)
    service_actions.release(call.context, actor, vm_id)
    return answer(out(vm_actions.show(call.context, actor, vm_id)), 202)


@router.get(
    "/{vm_id}/console",
    responses={200: {"content": {"text/plain": {}}, "description": "the newest part"}, **ERRORS},
)
def console(
    call: Caller,
    vm_id: PathId,
    bytes_max: Annotated[int, Query(ge=1, le=limits.CONSOLE_READ_BYTES_MAX)] = 64 << 10,
) -> Response:
    """Show what a machine wrote to its serial console, the newest part; needs the right `vm_console:open`."""
    data = console_actions.read(call.context, call.actor(), vm_id, bytes_max=bytes_max)
    return Response(data, media_type="text/plain; charset=utf-8")


@router.post(
    "/{vm_id}/snapshots",
    status_code=202,
    responses={200: {"model": SnapshotPlan}, 202: {"model": SnapshotOut}, **ERRORS},
)
def take_snapshot(
    call: Caller,
    vm_id: PathId,
    body: SnapshotBody,
    *,
    dry_run: Annotated[bool, Query(description="check and price only; change nothing")] = False,
) -> Response:
    """Copy a machine's disk as it is now, while it runs."""
    if dry_run:
        return answer(snapshot_actions.plan(call.context, call.actor(), vm_id, body.name))
    return answer(snapshot_out(snapshot_actions.create(call.context, call.actor(), vm_id, body.name)), 202)


@router.get("/{vm_id}/snapshots", responses={200: {"model": SnapshotsOut}, **ERRORS})
def list_snapshots(call: Caller, vm_id: PathId) -> Response:
    """List a machine's snapshots, the oldest first."""
    rows = snapshot_actions.list_all(call.context, call.actor(), vm_id)
    return answer({"items": [snapshot_out(row) for row in rows]})


@router.post("/{vm_id}/restore", status_code=202, responses={202: {"model": VmOut}, **ERRORS})
def restore(call: Caller, vm_id: PathId, body: SnapshotRestore) -> Response:
    """Put a machine's disk back to a snapshot; the machine is shut down for it."""
    return answer(out(snapshot_actions.restore(call.context, call.actor(), vm_id, body.snapshot_id)), 202)


@router.delete("/{vm_id}/snapshots/{snapshot_id}", status_code=204, responses=ERRORS)
def delete_snapshot(call: Caller, vm_id: PathId, snapshot_id: PathId) -> Response:
    """Delete a snapshot."""
    snapshot_actions.delete(call.context, call.actor(), vm_id, snapshot_id)
    return Response(status_code=204)
