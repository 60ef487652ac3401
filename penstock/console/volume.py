"""Volumes: disks with a life of their own. Made, plugged into machines and out again, grown, removed."""

from dataclasses import replace

from starlette.responses import Response

from penstock.actions import vm as vm_actions
from penstock.actions import volume as volume_actions
from penstock.actions import volume_snapshot as snapshot_actions
from penstock.actions.snapshot_price import most_per_hour
from penstock.actions.volume import NewVolume
from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.formats import at_most, money
from penstock.console.menu import may_make
from penstock.console.names import checked_name
from penstock.console.paging import paged
from penstock.console.projects import in_use, seen_projects
from penstock.console.sheet import (
    REFUSED,
    Box,
    Sheet,
    fill,
    name_box,
    number_of,
    one_of,
    project_box,
    text_of,
)
from penstock.domain.copying import copy_of
from penstock.domain.volume import VOLUME_STATE_SENTENCES, VolumeState
from penstock.store.rows import Row

DRIVERS = (
    ("qcow2", "on the disk of one host"),
    ("nfs", "on a file server, so that its machine can move"),
)
BUSY = (VolumeState.ATTACHING, VolumeState.DETACHING, VolumeState.DELETING)
BADGES = {VolumeState.DEGRADED: "bad", VolumeState.ATTACHED: "good"} | dict.fromkeys(BUSY, "busy")
LISTS = ("/volumes", "Volumes")


def list_volumes(visit: Visit) -> Response:
    """Show the volumes."""
    listed = paged(
        visit,
        lambda after, limit: volume_actions.list_page(
            visit.context, visit.actor, name=None, vm_id=None, after=after, limit=limit
        ),
    )
    projects = seen_projects(visit)
    return visit.page(
        "volumes.html",
        volumes=listed.rows,
        badges=BADGES,
        sentences=VOLUME_STATE_SENTENCES,
        after=listed.after,
        more=listed.more,
        project_names={one["id"]: one["name"] for one in projects},
        may_make=may_make(visit.actor, "volume:create") and bool(in_use(projects)),
    )


def _new(visit: Visit) -> Sheet:
    return Sheet(
        "Make a volume",
        "It stays when machines go, and is paid for as long as it is there.",
        "/volumes",
        "Make it",
        [LISTS],
        [
            name_box(),
            project_box(in_use(seen_projects(visit))),
            Box(
                "size_gib",
                "Size (GiB)",
                "number",
                value=10,
                minimum=1,
                maximum=limits.VOLUME_GIB_MAX,
                hint="It can grow later, never shrink.",
            ),
            Box("driver", "Where it lies", "choose", options=DRIVERS),
            Box("description", "Description", required=False),
            Box(
                "encrypted",
                "Encrypted (LUKS)",
                "check",
                hint="The factory keeps the key and shows it to nobody; snapshots need its machine off.",
            ),
        ],
        ask="What would it cost?",
    )


def ask_new(visit: Visit) -> Response:
    """Ask what volume to make."""
    if not may_make(visit.actor, "volume:create"):
        visit.actor.require("volume:create", visit.actor.tenant_id)
    return fill(visit, _new(visit))


def make(visit: Visit) -> Response:
    """Make a volume, or say what it would cost."""
    sheet = _new(visit)
    try:
        asked = NewVolume(
            visit.field("project_id"),
            checked_name(visit.field("name")),
            text_of(visit, "description"),
            one_of(visit, "driver", [name for name, _ in DRIVERS]),
            number_of(visit, "size_gib", 1, limits.VOLUME_GIB_MAX),
            visit.field("encrypted") == "on",
        )
        if visit.field("ask"):
            hourly = volume_actions.plan(visit.context, visit.actor, asked)["microeur_per_hour"]
            said = "nothing: it has no price" if hourly is None else f"{money(hourly)} an hour, from now on"
            return fill(visit, replace(sheet, notes=[f"Nothing was made yet. It would cost {said}."]))
        row = volume_actions.create(visit.context, visit.actor, asked)
    except REFUSED as error:
        return fill(visit, sheet, error)
    return visit.go(f"/volumes/{row['id']}", f"'{row['name']}' is made; attach it to a machine.")


def show(visit: Visit) -> Response:
    """Show one volume."""
    return page(visit)


def page(visit: Visit, error: PenstockError | None = None) -> Response:
    """Return the page of a volume, with what was refused."""
    row = volume_actions.show(visit.context, visit.actor, visit.path("volume_id"))

    def may(verb: str) -> bool:
        held = row["wanted"] == "present"
        return held and visit.actor.may(f"volume:{verb}", row["tenant_id"], row["project_id"])

    names = {one["id"]: one["name"] for one in seen_projects(visit)}
    return visit.page(
        "volume.html",
        error.status if error else 200,
        volume=row,
        copying=copy_of(row["detail"]),
        badge=BADGES.get(row["state"], ""),
        sentence=VOLUME_STATE_SENTENCES[row["state"]],
        where=dict(DRIVERS)[row["driver"]],
        serial=row["id"][-20:],
        project=names.get(row["project_id"], ""),
        snapshots=snapshot_actions.list_all(visit.context, visit.actor, row["id"]),
        snapshot_price=at_most(most_per_hour(visit.context, visit.actor, row["size_gib"], row["driver"])),
        days=volume_actions.usage(visit.context, visit.actor, row["id"])[:7],
        may=may,
        error=error,
        field=visit.field,
        size_max=limits.VOLUME_GIB_MAX,
    )


def _found(visit: Visit, verb: str) -> Row:
    row = volume_actions.show(visit.context, visit.actor, visit.path("volume_id"))
    visit.actor.require(f"volume:{verb}", row["tenant_id"], row["project_id"])
    return row


def _attaching(visit: Visit, row: Row) -> Sheet:
    machines = vm_actions.list_page(
        visit.context, visit.actor, vm_actions.Filters(), after=None, limit=limits.PAGE_MAX
    )
    near = [
        (one["service_id"], f"{one['name']}, on {one['node_name'] or 'no host yet'}")
        for one in machines
        if one["project_id"] == row["project_id"]
    ]
    notes = [
        f"The guest finds it as /dev/disk/by-id/virtio-{row['id'][-20:]}; it makes a file system there itself."
    ]
    if row["driver"] == "qcow2":
        stays = row["node_name"] or "the host of the machine that has it first"
        notes.append(f"It lies on {stays} for good, and only machines there can have it.")
    return Sheet(
        f"Attach {row['name']}",
        "To a machine of its project, also while that runs.",
        f"/volumes/{row['id']}/attach",
        "Attach it",
        [LISTS, (f"/volumes/{row['id']}", row["name"])],
        [
            Box(
                "vm_id",
                "Machine",
                "choose",
                options=near,
                hint="" if near else "This project has no machine.",
            )
        ],
        notes,
    )


def ask_attach(visit: Visit) -> Response:
    """Ask which machine gets a volume."""
    row = _found(visit, "attach")
    return fill(visit, _attaching(visit, row))


def attach(visit: Visit) -> Response:
    """Plug a volume into a machine."""
    row = _found(visit, "attach")
    try:
        volume_actions.attach(visit.context, visit.actor, row["id"], visit.field("vm_id"))
    except REFUSED as error:
        return fill(visit, _attaching(visit, row), error)
    return visit.go(f"/volumes/{row['id']}", f"'{row['name']}' is being plugged in.")


def ask_detach(visit: Visit) -> Response:
    """Say what detaching does."""
    row = _found(visit, "detach")
    return confirm.ask(
        visit,
        title=f"Detach {row['name']}?",
        effects=[
            f"{row['vm_name'] or 'Its machine'} loses the disk while it runs: unmount it inside first, or what is not written yet is lost.",
            "The volume keeps its bytes and its price, and can be attached again.",
        ],
        action=f"/volumes/{row['id']}/detach",
        button=f"Detach {row['name']}",
        back=(f"/volumes/{row['id']}", row["name"]),
    )


def detach(visit: Visit) -> Response:
    """Take a volume out of its machine."""
    row = volume_actions.detach(visit.context, visit.actor, visit.path("volume_id"))
    return visit.go(f"/volumes/{row['id']}", f"'{row['name']}' is being taken out.")


def grow(visit: Visit) -> Response:
    """Make a volume larger; what cannot be is said on its page."""
    row = _found(visit, "grow")
    try:
        size_gib = number_of(visit, "size_gib", 1, limits.VOLUME_GIB_MAX)
        volume_actions.grow(visit.context, visit.actor, row["id"], size_gib)
    except REFUSED as error:
        return page(visit, error)
    return visit.go(f"/volumes/{row['id']}", f"'{row['name']}' becomes {size_gib} GiB.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    row = _found(visit, "delete")
    return confirm.ask(
        visit,
        title=f"Delete {row['name']}?",
        effects=[
            f"Its {row['size_gib']} GiB and its snapshots are removed. This cannot be undone.",
            "Its price ends now; what it cost stays on the bill.",
            "It is refused while a machine has it.",
        ],
        action=f"/volumes/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=(f"/volumes/{row['id']}", row["name"]),
        dangerous=True,
    )


def delete(visit: Visit) -> Response:
    """Delete a volume."""
    try:
        row = volume_actions.delete(visit.context, visit.actor, visit.path("volume_id"))
    except REFUSED as error:
        return page(visit, error)
    return visit.go("/volumes", f"'{row['name']}' is being deleted.")


_ONE = "/volumes/{volume_id}"
routes = [
    get("/volumes", list_volumes),
    get("/volumes/new", ask_new),
    post("/volumes", make),
    get(_ONE, show),
    get(f"{_ONE}/attach", ask_attach),
    post(f"{_ONE}/attach", attach),
    get(f"{_ONE}/detach", ask_detach),
    post(f"{_ONE}/detach", detach),
    post(f"{_ONE}/size", grow),
    get(f"{_ONE}/delete", ask_delete),
    post(f"{_ONE}/delete", delete, proof_at=f"{_ONE}/delete"),
]
