"""Machines: the list, one machine with why it is as it is, power, shape, moves, its end. Consequences are said first."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from penstock.actions import image as image_actions
from penstock.actions import node as node_actions
from penstock.actions import offer as offer_actions
from penstock.actions import service as service_actions
from penstock.actions import spend as spend_actions
from penstock.actions import vm as vm_actions
from penstock.actions import vm_move as move_actions
from penstock.actions import vm_snapshot as snapshot_actions
from penstock.actions import volume as volume_actions
from penstock.actions.snapshot_price import most_per_hour
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, NotFoundError, PenstockError
from penstock.catalog.vm.spec import ENGINE
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.form import pairs_of
from penstock.console.formats import at_most, money
from penstock.console.menu import may_make, may_see
from penstock.console.projects import seen_projects
from penstock.domain.copying import copy_of
from penstock.domain.vm import VM_STATE_SENTENCES, Power, VmState
from penstock.store.rows import Row

PAGE = 50
SHAPE = (("vcpus", "Processors"), ("memory_mib", "Memory"), ("disk_gib", "Disk"))
SETTLED = (VmState.RUNNING, VmState.STOPPED, VmState.MAINTENANCE_REQUIRED)


def list_vms(visit: Visit) -> Response:
    """Show the machines, or with ``show=gone`` those that are terminated, too."""
    gone = visit.query("show") == "gone"
    after = visit.query("after") or None
    rows = vm_actions.list_page(
        visit.context, visit.actor, vm_actions.Filters(gone_too=gone), after=after, limit=PAGE + 1
    )
    shown = [row for row in rows[:PAGE] if gone == (row["state"] is VmState.TERMINATED)]
    return visit.page(
        "machines.html",
        machines=shown,
        gone=gone,
        after=after,
        more=rows[PAGE - 1]["service_id"] if len(rows) > PAGE else None,
        sentences=VM_STATE_SENTENCES,
        offer=_offer(visit),
        may_launch=may_make(visit.actor, "service:order"),
    )


def _offer(visit: Visit) -> str | None:
    """Return the offer to launch machines by, None where there is none."""
    rows = offer_actions.list_page(
        visit.context, visit.actor, name=None, kind="vm", state="active", after=None, limit=1
    )
    return rows[0]["id"] if rows else None


def show(visit: Visit) -> Response:
    """Show one machine."""
    return page(visit)


def page(visit: Visit, error: PenstockError | None = None) -> Response:
    """Return the page of a machine, with what was refused."""
    row = vm_actions.show(visit.context, visit.actor, visit.path("vm_id"))
    detail: Mapping[str, Any] = row["detail"] or {}
    going = row["service_wanted"] == "released" and row["state"] is not VmState.TERMINATED
    live = not going and row["state"] not in (VmState.TERMINATED, VmState.TERMINATING)
    still = row["move"] is None
    image = _image_name(visit, row["image_id"])

    def may(permission: str) -> bool:
        return live and still and visit.actor.may(permission, row["tenant_id"], row["project_id"])

    return visit.page(
        "machine.html",
        error.status if error else 200,
        vm=row,
        going=going,
        state=row["state"].value,
        sentence=VM_STATE_SENTENCES[row["state"]],
        message=row["message"] or row["node_message"] or "",
        copying=copy_of(detail),
        problems=detail.get("problems", {}),
        meters=detail.get("meters", {}),
        snapshots=snapshot_actions.list_all(visit.context, visit.actor, row["service_id"]),
        snapshot_price=at_most(most_per_hour(visit.context, visit.actor, row["disk_gib"], ENGINE)),
        volumes=volume_actions.list_page(
            visit.context,
            visit.actor,
            name=None,
            vm_id=row["service_id"],
            after=None,
            limit=limits.PAGE_DEFAULT,
        )
        if may_see(visit.actor, "volume:read")
        else [],
        image=image or "an image that is gone",
        image_shown=image is not None,
        project=_project_name(visit, row["project_id"]),
        rate=spend_actions.rates(visit.context, visit.actor).by_service.get(row["service_id"])
        if may_see(visit.actor, "usage:read")
        else None,
        settled=row["state"] in SETTLED,
        may_power=may("vm:power"),
        may_update=may("vm:update"),
        may_copy=may("vm:update") and may("image:create") and may("service:order"),
        may_terminate=live and visit.actor.may("service:release", row["tenant_id"], row["project_id"]),
        may_read=visit.actor.may("vm_console:open", row["tenant_id"], row["project_id"]),
        may_move=still and visit.actor.may("node:write"),
        error=error,
        field=visit.field,
    )


def _image_name(visit: Visit, image_id: str) -> str | None:
    try:
        return str(image_actions.show(visit.context, visit.actor, image_id)["name"])
    except NotFoundError:
        return None


def _project_name(visit: Visit, project_id: str) -> str:
    rows = seen_projects(visit)
    return next((row["name"] for row in rows if row["id"] == project_id), project_id)


def start(visit: Visit) -> Response:
    """Switch a machine on."""
    return _changed(visit, vm_actions.set_power(*_named(visit), Power.ON), "is being started")


def _named(visit: Visit) -> tuple[vm_actions.Context, vm_actions.Actor, str]:
    return visit.context, visit.actor, visit.path("vm_id")


def _changed(visit: Visit, row: Row, said: str) -> Response:
    return visit.go(f"/machines/{row['service_id']}", f"{row['name']} {said}.")


def ask_stop(visit: Visit) -> Response:
    """Say what stopping does."""
    effects = (
        "Its guest is asked to shut down; if it takes too long its power is cut.",
        "Disks, addresses and its place on the host are kept: it can be started again, and is paid for as before.",
    )
    return _ask(visit, "stop", "Stop", effects, "vm:power")


def stop(visit: Visit) -> Response:
    """Switch a machine off."""
    return _changed(visit, vm_actions.set_power(*_named(visit), Power.OFF), "is shutting down")


def ask_reboot(visit: Visit) -> Response:
    """Say what a reboot does."""
    effects = (
        "Its guest is asked to shut down and is started again; who is connected to it is cut off meanwhile.",
    )
    return _ask(visit, "reboot", "Reboot", effects, "vm:power")


def reboot(visit: Visit) -> Response:
    """Shut a machine down and start it again."""
    return _changed(visit, vm_actions.reboot(*_named(visit)), "is rebooting")


def ask_terminate(visit: Visit) -> Response:
    """Say what goes with a machine."""
    row = vm_actions.show(*_named(visit))
    effects = [
        f"Its disk of {row['disk_gib']} GiB and {_many(len(row['snapshots']), 'snapshot')} are deleted. This cannot be undone.",
        "Volumes, ports and addresses stay and can be used by another machine.",
    ]
    if may_see(visit.actor, "usage:read"):
        rate = spend_actions.rates(visit.context, visit.actor).by_service.get(row["service_id"])
        effects.append(
            f"Its meter stops: {money(rate)} an hour less. What it cost stays on the bill."
            if rate
            else "What it cost stays on the bill."
        )
    return _ask(visit, "terminate", "Terminate", effects, "service:release", dangerous=True)


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _ask(
    visit: Visit, verb: str, title: str, effects: Sequence[str], permission: str, *, dangerous: bool = False
) -> Response:
    row = vm_actions.show(*_named(visit))
    visit.actor.require(permission, row["tenant_id"], row["project_id"])
    path = f"/machines/{row['service_id']}"
    return confirm.ask(
        visit,
        title=f"{title} {row['name']}?",
        effects=effects,
        action=f"{path}/{verb}",
        button=f"{title} {row['name']}",
        back=(path, row["name"]),
        dangerous=dangerous,
    )


def terminate(visit: Visit) -> Response:
    """Terminate a machine."""
    row = vm_actions.show(*_named(visit))
    service_actions.release(visit.context, visit.actor, row["service_id"])
    return _changed(visit, row, "is being terminated")


def resize(visit: Visit) -> Response:
    """Change a machine's shape; what cannot be is said on its page."""
    try:
        wanted = {name: visit.whole(name, title) for name, title in SHAPE if visit.field(name)}
        row = vm_actions.resize(*_named(visit), **{name: wanted.get(name) for name, _ in SHAPE})
    except (ConflictError, InvalidInputError) as error:
        return page(visit, error)
    return _changed(visit, row, "is shut down and started again with its new shape")


def retag(visit: Visit) -> Response:
    """Replace a machine's tags: one name=value a line."""
    try:
        row = vm_actions.retag(*_named(visit), pairs_of("tags", visit.field("tags"), "Tags"))
    except (ConflictError, InvalidInputError) as error:
        return page(visit, error)
    return _changed(visit, row, "has its tags")


def ask_move(visit: Visit) -> Response:
    """Say what a move does, and choose the host."""
    return _move_page(visit)


def _move_page(visit: Visit, error: PenstockError | None = None) -> Response:
    row = vm_actions.show(*_named(visit))
    visit.actor.require("node:write")
    nodes = node_actions.page(
        visit.context,
        visit.actor,
        filters={"state": "ready", "cordoned": False},
        after=None,
        limit=limits.PAGE_MAX,
    )
    hosts = [one for one in nodes if "libvirt" in one["drivers"] and one["id"] != row["node_id"]]
    return visit.page(
        "machine_move.html",
        error.status if error else 200,
        vm=row,
        error=error,
        chosen=visit.field("node"),
        hosts=hosts,
        hindrance=move_actions.hindrance_now(visit.context, visit.actor, row),
    )


def move(visit: Visit) -> Response:
    """Begin to move a machine."""
    try:
        row = move_actions.move(*_named(visit), node_id=visit.field("node") or None)
    except ConflictError as error:
        return _move_page(visit, error)
    return _changed(visit, row, f"moves to {row['move']['to_name']}" if row["move"] else "moves")


routes = [
    get("/machines", list_vms),
    get("/machines/{vm_id}", show),
    post("/machines/{vm_id}/start", start),
    get("/machines/{vm_id}/stop", ask_stop),
    post("/machines/{vm_id}/stop", stop),
    get("/machines/{vm_id}/reboot", ask_reboot),
    post("/machines/{vm_id}/reboot", reboot),
    post("/machines/{vm_id}/shape", resize),
    post("/machines/{vm_id}/tags", retag),
    get("/machines/{vm_id}/move", ask_move),
    post("/machines/{vm_id}/move", move),
    get("/machines/{vm_id}/terminate", ask_terminate),
    post("/machines/{vm_id}/terminate", terminate, proof_at="/machines/{vm_id}/terminate"),
]
