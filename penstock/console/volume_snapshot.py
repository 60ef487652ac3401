"""Snapshots of volumes: taken, put back, deleted."""

from starlette.responses import Response

from penstock.actions import volume as volume_actions
from penstock.actions import volume_snapshot as snapshot_actions
from penstock.base.errors import NotFoundError
from penstock.console import confirm, volume
from penstock.console.edge import Visit, get, post
from penstock.console.names import checked_name
from penstock.console.sheet import REFUSED
from penstock.store.rows import Row


def take(visit: Visit) -> Response:
    """Ask for a snapshot; what stands in the way is said on the volume's page."""
    volume_id = visit.path("volume_id")
    try:
        row = snapshot_actions.create(
            visit.context, visit.actor, volume_id, checked_name(visit.field("name"))
        )
    except REFUSED as error:
        return volume.page(visit, error)
    return visit.go(f"/volumes/{volume_id}", f"'{row['name']}' is being taken.")


def _found(visit: Visit, verb: str) -> tuple[Row, Row]:
    """Return the volume and its snapshot that the address names; NotFoundError."""
    row = volume_actions.show(visit.context, visit.actor, visit.path("volume_id"))
    visit.actor.require(f"volume:{verb}", row["tenant_id"], row["project_id"])
    wanted = visit.path("volume_snapshot_id")
    rows = snapshot_actions.list_all(visit.context, visit.actor, row["id"])
    snapshot = next((one for one in rows if one["id"] == wanted), None)
    if snapshot is None:
        raise NotFoundError(f"this volume has no snapshot '{wanted}'")
    return row, snapshot


def _ask(visit: Visit, verb: str, permission: str, title: str, effects: tuple[str, ...]) -> Response:
    row, snapshot = _found(visit, permission)
    return confirm.ask_snapshot(visit, verb, title, effects, snapshot, (f"/volumes/{row['id']}", row["name"]))


def ask_restore(visit: Visit) -> Response:
    """Say what putting a volume back does."""
    effects = (
        "What the volume got since then is lost; take a snapshot first if you may want it back.",
        "It is refused while a machine has it.",
    )
    return _ask(visit, "restore", "restore", "Put it back to", effects)


def ask_delete(visit: Visit) -> Response:
    """Say what deleting a snapshot does."""
    effects = ("The volume goes on as it is. The snapshot cannot be got back.",)
    return _ask(visit, "delete", "snapshot", "Delete", effects)


def restore(visit: Visit) -> Response:
    """Put a volume back."""
    row, snapshot = _found(visit, "restore")
    try:
        snapshot_actions.restore(visit.context, visit.actor, row["id"], snapshot["id"])
    except REFUSED as error:
        return volume.page(visit, error)
    return visit.go(f"/volumes/{row['id']}", f"The volume is being put back to '{snapshot['name']}'.")


def delete(visit: Visit) -> Response:
    """Delete a snapshot."""
    row, snapshot = _found(visit, "snapshot")
    try:
        snapshot_actions.delete(visit.context, visit.actor, row["id"], snapshot["id"])
    except REFUSED as error:
        return volume.page(visit, error)
    return visit.go(f"/volumes/{row['id']}", f"'{snapshot['name']}' is deleted.")


_ONE = "/volumes/{volume_id}/snapshots/{volume_snapshot_id}"
routes = [
    post("/volumes/{volume_id}/snapshots", take),
    get(f"{_ONE}/restore", ask_restore),
    post(f"{_ONE}/restore", restore, proof_at=f"{_ONE}/restore"),
    get(f"{_ONE}/delete", ask_delete),
    post(f"{_ONE}/delete", delete, proof_at=f"{_ONE}/delete"),
]
