"""A volume again: another one that begins as it is now, or as one of its snapshots has it."""

from dataclasses import replace

from starlette.responses import Response

from penstock.actions import volume as volume_actions
from penstock.actions import volume_clone as clone_actions
from penstock.actions import volume_snapshot as snapshot_actions
from penstock.actions.volume import NewVolume
from penstock.actions.volume_clone import Clone
from penstock.base import limits
from penstock.console.edge import Visit, get, post
from penstock.console.formats import money
from penstock.console.names import checked_name
from penstock.console.sheet import REFUSED, Box, Sheet, fill, name_box, number_of, text_of
from penstock.store.rows import Row


def _found(visit: Visit) -> Row:
    row = volume_actions.show(visit.context, visit.actor, visit.path("volume_id"))
    visit.actor.require("volume:create", row["tenant_id"], row["project_id"])
    return row


def _sheet(visit: Visit, row: Row) -> Sheet:
    snapshots = snapshot_actions.list_all(visit.context, visit.actor, row["id"])
    ready = [
        (one["id"], f"the snapshot {one['name']} ({one['size_gib']} GiB)")
        for one in snapshots
        if one["state"] == "ready"
    ]
    notes = [
        f"{row['name']} goes on as it is. Its bytes are copied on {row['node_name'] or 'its host'}, where the new volume lies then.",
        "While a running machine writes to it, only a snapshot of it can be copied.",
    ]
    if row["sealed_key"]:
        notes.append("It is encrypted with the same key, which the factory keeps.")
    return Sheet(
        f"Clone {row['name']}",
        "Another volume that begins as this one.",
        f"/volumes/{row['id']}/clone",
        "Clone it",
        [("/volumes", "Volumes"), (f"/volumes/{row['id']}", row["name"])],
        [
            name_box(),
            Box(
                "snapshot_id",
                "Copy",
                "choose",
                options=[("", f"the volume as it is now ({row['size_gib']} GiB)"), *ready],
                value=visit.query("snapshot"),
            ),
            Box(
                "size_gib",
                "Size (GiB)",
                "number",
                required=False,
                minimum=1,
                maximum=limits.VOLUME_GIB_MAX,
                hint="Empty: as large as what it begins as. It is no smaller than that.",
            ),
            Box("description", "Description", required=False),
        ],
        notes,
        ask="What would it cost?",
    )


def ask_clone(visit: Visit) -> Response:
    """Say what a clone of a volume is, and ask for its name and size."""
    return fill(visit, _sheet(visit, _found(visit)))


def clone(visit: Visit) -> Response:
    """Make a volume that begins as this one, or say what it would cost."""
    row = _found(visit)
    sheet = _sheet(visit, row)
    try:
        size_gib = number_of(visit, "size_gib", 1, limits.VOLUME_GIB_MAX) if visit.field("size_gib") else None
        snapshot_id = visit.field("snapshot_id") or None
        asked = Clone(checked_name(visit.field("name")), text_of(visit, "description"), size_gib, snapshot_id)
        if visit.field("ask"):
            return fill(visit, replace(sheet, notes=[*sheet.notes, _cost(visit, row, asked)]))
        made = clone_actions.clone(visit.context, visit.actor, row["id"], asked)
    except REFUSED as error:
        return fill(visit, sheet, error)
    return visit.go(f"/volumes/{made['id']}", f"'{made['name']}' is being copied from {row['name']}.")


def _cost(visit: Visit, row: Row, asked: Clone) -> str:
    """Return what such a clone would cost an hour, as a sentence."""
    snapshots = snapshot_actions.list_all(visit.context, visit.actor, row["id"])
    least = next((one["size_gib"] for one in snapshots if one["id"] == asked.snapshot_id), row["size_gib"])
    like = NewVolume(
        row["project_id"],
        asked.name,
        asked.description,
        row["driver"],
        asked.size_gib or least,
        bool(row["sealed_key"]),
    )
    hourly = volume_actions.plan(visit.context, visit.actor, like)["microeur_per_hour"]
    said = "nothing: it has no price" if hourly is None else f"{money(hourly)} an hour, once it is copied"
    return f"Nothing was made yet. It would cost {said}."


routes = [
    get("/volumes/{volume_id}/clone", ask_clone),
    post("/volumes/{volume_id}/clone", clone),
]
