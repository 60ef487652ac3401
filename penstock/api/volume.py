"""Volumes: disks with a life of their own; make, attach, detach, grow, snapshot, put back, delete."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import volume as volume_actions
from penstock.actions import volume_clone as clone_actions
from penstock.actions import volume_snapshot as snapshot_actions
from penstock.actions.volume import NewVolume
from penstock.api.copying import CopyOut, copy_out
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.api.snapshot_price import SnapshotPlan
from penstock.base import limits
from penstock.domain.volume import VOLUME_STATE_SENTENCES
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/volumes", tags=["machines"])
Size = Annotated[int, Field(ge=1, le=limits.VOLUME_GIB_MAX)]
_SECONDS_PER_HOUR = 3_600


class VolumeBody(Strict):
    """A new volume; its bytes come to be where the machine is that it is first attached to."""

    project_id: Id
    name: Name
    description: Text = ""
    size_gib: Size
    driver: Literal["qcow2", "nfs"] = Field(
        default="qcow2",
        description="qcow2: on the disk of one host; nfs: on a file server, so that machines with it can move",
    )
    encrypted: bool = Field(default=False, description="LUKS; the key is the factory's and shown to nobody")


class VolumeAttach(Strict):
    """Which machine gets the volume."""

    vm_id: Id


class VolumeSize(Strict):
    """The new size; volumes never shrink."""

    size_gib: Size


class VolumeSnapshotBody(Strict):
    """A new snapshot."""

    name: Name


class VolumeRestore(Strict):
    """Which snapshot the volume is put back to."""

    snapshot_id: Id


class VolumeClone(Strict):
    """A new volume that begins as another one; without a size as large as that, without a snapshot as that is now."""

    name: Name
    description: Text = ""
    size_gib: Size | None = None
    snapshot_id: Id | None = None


class VolumeOut(BaseModel):
    """A volume. A guest finds it as the disk with ``serial``: /dev/disk/by-id/virtio-SERIAL."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    description: str
    driver: str
    size_gib: int
    encrypted: bool
    state: str
    state_sentence: str
    message: str
    vm_id: str | None
    vm_name: str | None
    node_name: str | None
    serial: str
    cloned_from: str | None
    copying: CopyOut | None
    created_by: str
    created_at: datetime


class VolumePage(BaseModel):
    """A page of volumes."""

    items: list[VolumeOut]
    next: str | None


class VolumePlan(BaseModel):
    """What a volume would cost an hour; null: nothing, the newest price book has no price of it."""

    size_gib: int
    driver: str
    price_book_id: str | None
    microeur_per_hour: int | None


class VolumeSnapshotOut(BaseModel):
    """A snapshot of a volume; its size is what it occupies."""

    id: str
    volume_id: str
    name: str
    state: str
    size_gib: int  # counted against quotas
    size_bytes: int | None
    created_by: str
    created_at: datetime


class VolumeSnapshotList(BaseModel):
    """All snapshots of a volume, the oldest first."""

    items: list[VolumeSnapshotOut]


class VolumeDayOut(BaseModel):
    """What a volume held on one day, UTC."""

    day: date
    gib_seconds: int
    gib_hours: float


class VolumeUsage(BaseModel):
    """What a volume held each day, the newest first."""

    items: list[VolumeDayOut]


def out(row: Row) -> dict[str, Any]:
    """Return a volume as the API shows it."""
    shown = {name: row[name] for name in VolumeOut.model_fields if name in row}
    return {
        **shown,
        "encrypted": row["sealed_key"] is not None,
        "state_sentence": VOLUME_STATE_SENTENCES[row["state"]],
        "vm_id": row["service_id"],
        "copying": copy_out(row["detail"]),
        "serial": row["id"][-20:],
    }


def snapshot_out(row: Row) -> dict[str, Any]:
    """Return a snapshot as the API shows it."""
    return {name: row[name] for name in VolumeSnapshotOut.model_fields}


@router.post("", status_code=201, responses={200: {"model": VolumePlan}, 201: {"model": VolumeOut}, **ERRORS})
def create(
    call: Caller,
    body: VolumeBody,
    *,
    dry_run: Annotated[bool, Query(description="check and price only; change nothing")] = False,
) -> Response:
    """Make a volume."""
    asked = NewVolume(**body.model_dump())
    if dry_run:
        return answer(volume_actions.plan(call.context, call.actor(), asked))
    return answer(out(volume_actions.create(call.context, call.actor(), asked)), 201)


@router.get("", responses={200: {"model": VolumePage}, **ERRORS})
def list_volumes(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    name: NameFilter = None,
    vm_id: IdFilter = None,
) -> Response:
    """List the volumes that the caller may see, oldest first."""
    rows = volume_actions.list_page(
        call.context, call.actor(), name=name, vm_id=vm_id, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{volume_id}", responses={200: {"model": VolumeOut}, **ERRORS})
def show(call: Caller, volume_id: PathId) -> Response:
    """Show one volume."""
    return answer(out(volume_actions.show(call.context, call.actor(), volume_id)))


@router.post("/{volume_id}/clone", status_code=202, responses={202: {"model": VolumeOut}, **ERRORS})
def clone(call: Caller, volume_id: PathId, body: VolumeClone) -> Response:
    """Make a volume that begins as this one, or as a snapshot of it, on the same host."""
    row = clone_actions.clone(call.context, call.actor(), volume_id, clone_actions.Clone(**body.model_dump()))
    return answer(out(row), 202)


@router.put("/{volume_id}/machine", status_code=202, responses={202: {"model": VolumeOut}, **ERRORS})
def attach(call: Caller, volume_id: PathId, body: VolumeAttach) -> Response:
    """Plug a volume into a machine, also while it runs."""
    return answer(out(volume_actions.attach(call.context, call.actor(), volume_id, body.vm_id)), 202)


@router.delete("/{volume_id}/machine", status_code=202, responses={202: {"model": VolumeOut}, **ERRORS})
def detach(call: Caller, volume_id: PathId) -> Response:
    """Take a volume out of its machine; unmount it in the guest first."""
    return answer(out(volume_actions.detach(call.context, call.actor(), volume_id)), 202)


@router.put("/{volume_id}/size", status_code=202, responses={202: {"model": VolumeOut}, **ERRORS})
def grow(call: Caller, volume_id: PathId, body: VolumeSize) -> Response:
    """Make a volume larger, also while its machine runs."""
    return answer(out(volume_actions.grow(call.context, call.actor(), volume_id, body.size_gib)), 202)


@router.delete("/{volume_id}", status_code=202, responses={202: {"model": VolumeOut}, **ERRORS})
def delete(call: Caller, volume_id: PathId) -> Response:
    """Delete a volume with its snapshots; refused while a machine has it."""
    return answer(out(volume_actions.delete(call.context, call.actor(), volume_id)), 202)


@router.get("/{volume_id}/usage", responses={200: {"model": VolumeUsage}, **ERRORS})
def usage(call: Caller, volume_id: PathId) -> Response:
    """Show what a volume held each day: its size over time."""
    rows = volume_actions.usage(call.context, call.actor(), volume_id)
    return answer({"items": [{**row, "gib_hours": row["gib_seconds"] / _SECONDS_PER_HOUR} for row in rows]})


@router.post(
    "/{volume_id}/snapshots",
    status_code=202,
    responses={200: {"model": SnapshotPlan}, 202: {"model": VolumeSnapshotOut}, **ERRORS},
)
def create_snapshot(
    call: Caller,
    volume_id: PathId,
    body: VolumeSnapshotBody,
    *,
    dry_run: Annotated[bool, Query(description="check and price only; change nothing")] = False,
) -> Response:
    """Copy a volume as it is now, also while its machine runs."""
    if dry_run:
        return answer(snapshot_actions.plan(call.context, call.actor(), volume_id, body.name))
    return answer(
        snapshot_out(snapshot_actions.create(call.context, call.actor(), volume_id, body.name)), 202
    )


@router.get("/{volume_id}/snapshots", responses={200: {"model": VolumeSnapshotList}, **ERRORS})
def list_snapshots(call: Caller, volume_id: PathId) -> Response:
    """List the snapshots of a volume."""
    rows = snapshot_actions.list_all(call.context, call.actor(), volume_id)
    return answer({"items": [snapshot_out(row) for row in rows]})


@router.post("/{volume_id}/restore", status_code=202, responses={202: {"model": VolumeOut}, **ERRORS})
def restore(call: Caller, volume_id: PathId, body: VolumeRestore) -> Response:
    """Put a volume back to a snapshot; refused while a machine has it."""
    row = snapshot_actions.restore(call.context, call.actor(), volume_id, body.snapshot_id)
    return answer(out(row), 202)


@router.delete("/{volume_id}/snapshots/{snapshot_id}", status_code=204, responses=ERRORS)
def delete_snapshot(call: Caller, volume_id: PathId, snapshot_id: PathId) -> Response:
    """Delete a snapshot."""
    snapshot_actions.delete(call.context, call.actor(), volume_id, snapshot_id)
    return Response(status_code=204)
