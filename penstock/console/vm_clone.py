"""A machine again: a clone of it, or an image of its disk that others begin with. From its disk now, or a snapshot."""

import sqlalchemy as sa
from starlette.responses import Response

from penstock.actions import image as image_actions
from penstock.actions import network as network_actions
from penstock.actions import spend as spend_actions
from penstock.actions import ssh_key as key_actions
from penstock.actions import vm as vm_actions
from penstock.actions import vm_clone as clone_actions
from penstock.actions import vm_snapshot as snapshot_actions
from penstock.actions.image import NewImage
from penstock.actions.vm_clone import Clone
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.console import network_part
from penstock.console.edge import Visit, get, post
from penstock.console.formats import money
from penstock.console.image import others
from penstock.console.menu import may_see
from penstock.console.names import checked_name
from penstock.console.sheet import REFUSED, Box, Sheet, chosen, fill, name_box, named, text_of
from penstock.store.rows import Row
from penstock.store.schema import port, subnet

SHAPE = (("vcpus", "Processors"), ("memory_mib", "Memory (MiB)"), ("disk_gib", "Disk (GiB)"))


def _found(visit: Visit, *more: str) -> Row:
    """Return the machine, if its visitor may copy it and do ``more``."""
    row = vm_actions.show(visit.context, visit.actor, visit.path("vm_id"))
    for permission in ("vm:update", "image:create", *more):
        visit.actor.require(permission, row["tenant_id"], row["project_id"])
    return row


def _back(row: Row) -> list[tuple[str, str]]:
    return [("/machines", "Machines"), (f"/machines/{row['service_id']}", row["name"])]


def _from(visit: Visit, row: Row) -> Box:
    """Return the field that says which disk is copied: as it is now, or a snapshot that is ready."""
    rows = snapshot_actions.list_all(visit.context, visit.actor, row["service_id"])
    ready = [(one["id"], f"the snapshot {one['name']}") for one in rows if one["state"] == "ready"]
    return Box(
        "snapshot_id",
        "Copy",
        "choose",
        options=[("", "its disk as it is now"), *ready],
        value=visit.query("snapshot"),
        hint="The disk is read while the machine runs; for a database, take a snapshot of it at rest first.",
    )


def _clone_sheet(visit: Visit, row: Row) -> Sheet:
    keys = key_actions.list_page(
        visit.context,
        visit.actor,
        project_id=row["project_id"],
        name=None,
        after=None,
        limit=limits.PAGE_DEFAULT,
    )
    notes = [
        (
            f"A new machine with a name and addresses of its own begins with a copy of {row['name']}'s disk "
            f"({row['disk_gib']} GiB); {row['name']} goes on as it is."
        ),
        "It starts once its disk is copied; its page shows how far that is.",
    ]
    if may_see(visit.actor, "usage:read"):
        rate = spend_actions.rates(visit.context, visit.actor).by_service.get(row["service_id"])
        if rate:
            notes.append(
                f"{row['name']} costs {money(rate)} an hour now; one of the same shape costs the same."
            )
    return Sheet(
        f"Clone {row['name']}",
        "Another machine that begins as this one is.",
        f"/machines/{row['service_id']}/clone",
        "Clone it",
        _back(row),
        [
            name_box(),
            _from(visit, row),
            *(
                Box(name, title, "number", value=row[name], minimum=row[name] if name == "disk_gib" else 1)
                for name, title in SHAPE
            ),
            Box(
                "ssh_keys",
                "SSH keys",
                "pick",
                options=[(one["name"], one["name"]) for one in keys],
                required=False,
                hint=f"None chosen: those that {row['name']} has.",
            ),
            *_interfaces(visit, row),
        ],
        notes,
    )


def _interfaces(visit: Visit, row: Row) -> list[Box]:
    """Return the fields that say where the clone is plugged in: free ports, or new ones in subnets."""
    networks = network_actions.list_page(
        visit.context,
        visit.actor,
        project_id=row["project_id"],
        name=None,
        after=None,
        limit=limits.PAGE_MAX,
    )
    names = {one["id"]: one["name"] for one in networks}

    def inside(one: Row) -> str:
        return f"{one['name']}, {names[one['network_id']]}"

    def near(table: sa.Table) -> list[Row]:
        rows = network_part.parts_of(visit, table, None)
        return [one for one in rows if one["network_id"] in names]

    subnets, ports = near(subnet), near(port)
    free = [(one["id"], f"{inside(one)}, {one['address']}") for one in ports if one["service_id"] is None]
    return [
        Box(
            "subnets",
            "New ports in",
            "pick",
            options=[(one["id"], f"{inside(one)}, {one['prefix']}") for one in subnets],
            required=False,
            hint=f"None chosen here or below: in each subnet that {row['name']} is in. "
            f"{row['name']}'s security groups hold for new ports in their networks.",
        ),
        Box("ports", "Ports that are free", "pick", options=free, required=False),
        Box(
            "no_network",
            "No network at all",
            "check",
            hint="Then it is reached by its console alone.",
        ),
    ]


def _plugged(visit: Visit) -> dict[str, list[str] | None]:
    """Return what was chosen of ports and subnets; both None: as the machine has it."""
    found = {name: chosen(visit, name, limits.VM_NICS_MAX) for name in ("subnets", "ports")}
    if visit.field("no_network") == "on":
        if any(found.values()):
            raise InvalidInputError("choose subnets and ports, or no network at all", field="no_network")
        return dict(found)
    return {name: words or None for name, words in found.items()}


def ask_clone(visit: Visit) -> Response:
    """Say what a clone is, and ask for its name and shape."""
    return fill(visit, _clone_sheet(visit, _found(visit, "service:order")))


def clone(visit: Visit) -> Response:
    """Order a machine that begins as this one is."""
    row = _found(visit, "service:order")
    try:
        vcpus, memory_mib, disk_gib = (
            visit.whole(name, title) if visit.field(name) else None for name, title in SHAPE
        )
        asked = Clone(
            checked_name(visit.field("name")),
            visit.field("snapshot_id") or None,
            chosen(visit, "ssh_keys", limits.PAGE_DEFAULT) or None,
            vcpus=vcpus,
            memory_mib=memory_mib,
            disk_gib=disk_gib,
            **_plugged(visit),
        )
        made = clone_actions.clone(visit.context, visit.actor, row["service_id"], asked)
    except REFUSED as error:
        return fill(visit, _clone_sheet(visit, row), error)
    return visit.go(
        f"/machines/{made['service_id']}", f"{made['name']} starts once {row['name']}'s disk is copied."
    )


def _image_sheet(visit: Visit, row: Row) -> Sheet:
    return Sheet(
        f"Make an image of {row['name']}",
        "A file that further machines begin with.",
        f"/machines/{row['service_id']}/image",
        "Make it",
        _back(row),
        [
            name_box(),
            Box("description", "Description", required=False),
            _from(visit, row),
            Box("shared", "Every project of this tenant may use it", "check"),
            Box(
                "shared_with", "Or these projects", "pick", options=named(others(visit, row)), required=False
            ),
        ],
        [
            "Its host copies the disk and sends it here; the machine goes on meanwhile. The image's page shows how far it is.",
            "Passwords, keys and host names on that disk are in the image, too: clean it first if others are to use it.",
        ],
    )


def ask_image(visit: Visit) -> Response:
    """Say what an image of a machine holds, and ask for its name."""
    return fill(visit, _image_sheet(visit, _found(visit)))


def image(visit: Visit) -> Response:
    """Make an image of a machine's disk."""
    row = _found(visit)
    try:
        asked = NewImage(
            row["project_id"],
            checked_name(visit.field("name")),
            text_of(visit, "description"),
            row["architecture"],
            visit.field("shared") == "on",
            None,
            "",
            shared_with=chosen(visit, "shared_with", limits.IMAGE_SHARES_MAX),
            vm_id=row["service_id"],
            snapshot_id=visit.field("snapshot_id") or None,
        )
        made = image_actions.create(visit.context, visit.actor, asked)
    except REFUSED as error:
        return fill(visit, _image_sheet(visit, row), error)
    return visit.go(f"/images/{made['id']}", f"'{made['name']}' is being made of {row['name']}.")


routes = [
    get("/machines/{vm_id}/clone", ask_clone),
    post("/machines/{vm_id}/clone", clone),
    get("/machines/{vm_id}/image", ask_image),
    post("/machines/{vm_id}/image", image),
]
