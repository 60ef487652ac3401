"""Snapshots of a machine's disk: taken, put back, deleted."""

from starlette.responses import Response

from penstock.actions import vm as vm_actions
from penstock.actions import vm_snapshot as snapshot_actions
from penstock.base.errors import ConflictError, InvalidInputError, NotFoundError
from penstock.console import confirm, vm
from penstock.console.edge import Visit, get, post
from penstock.console.names import checked_name
from penstock.store.rows import Row


def take(visit: Visit) -> Response:
    """Ask for a snapshot; what stands in the way is said on the machine's page."""
    vm_id = visit.path("vm_id")
    try:
        row = snapshot_actions.create(visit.context, visit.actor, vm_id, checked_name(visit.field("name")))
    except (ConflictError, InvalidInputError) as error:
        return vm.page(visit, error)
    return visit.go(f"/machines/{vm_id}", f"'{row['name']}' is being taken while the machine runs.")


def _found(visit: Visit) -> tuple[Row, Row]:
    """Return the machine and its snapshot that the address names; NotFoundError."""
    machine = vm_actions.show(visit.context, visit.actor, visit.path("vm_id"))
    wanted = visit.path("snapshot_id")
    snapshot = next((one for one in machine["snapshots"] if one["id"] == wanted), None)
    if snapshot is None:
        raise NotFoundError(f"this machine has no snapshot '{wanted}'")
    return machine, snapshot


def ask_restore(visit: Visit) -> Response:
    """Say what putting a disk back does."""
    effects = (
        "The machine is shut down, and started again if it was on.",
        "What its disk got since then is lost; take a snapshot first if you may want it back.",
    )
    return _ask(visit, "restore", "Put its disk back to", effects)


def ask_delete(visit: Visit) -> Response:
    """Say what deleting a snapshot does."""
    return _ask(
        visit, "delete", "Delete", ("The machine goes on as it is. The snapshot cannot be got back.",)
    )


def _ask(visit: Visit, verb: str, title: str, effects: tuple[str, ...]) -> Response:
    machine, snapshot = _found(visit)
    visit.actor.require("vm:update", machine["tenant_id"], machine["project_id"])
    return confirm.ask_snapshot(
        visit, verb, title, effects, snapshot, (f"/machines/{machine['service_id']}", machine["name"])
    )


def restore(visit: Visit) -> Response:
    """Put a machine's disk back."""
    machine, snapshot = _found(visit)
    snapshot_actions.restore(visit.context, visit.actor, machine["service_id"], snapshot["id"])
    return visit.go(
        f"/machines/{machine['service_id']}", f"The disk is being put back to '{snapshot['name']}'."
    )


def delete(visit: Visit) -> Response:
    """Delete a snapshot."""
    machine, snapshot = _found(visit)
    snapshot_actions.delete(visit.context, visit.actor, machine["service_id"], snapshot["id"])
    return visit.go(f"/machines/{machine['service_id']}", f"'{snapshot['name']}' is deleted.")


_ONE = "/machines/{vm_id}/snapshots/{snapshot_id}"
routes = [
    post("/machines/{vm_id}/snapshots", take),
    get(f"{_ONE}/restore", ask_restore),
    post(f"{_ONE}/restore", restore, proof_at=f"{_ONE}/restore"),
    get(f"{_ONE}/delete", ask_delete),
    post(f"{_ONE}/delete", delete, proof_at=f"{_ONE}/delete"),
]
