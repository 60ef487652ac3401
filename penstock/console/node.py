"""One node: what it is, its devices, what runs on it, and what an operator may do with it."""

from collections.abc import Sequence

from starlette.responses import Response

from penstock.actions import device as device_actions
from penstock.actions import host_log as log_actions
from penstock.actions import node as node_actions
from penstock.actions import segment as segment_actions
from penstock.actions import service as service_actions
from penstock.actions import spend as spend_actions
from penstock.actions import vm_move as move_actions
from penstock.base.errors import InvalidInputError, NotFoundError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.event import number
from penstock.console.formats import money
from penstock.store.rows import Row

SEGMENTS_SHOWN = 100
LOG_LINES_SHOWN = 30
NAMED_MAX = 6


def show(visit: Visit) -> Response:
    """Show a node with its devices."""
    row = node_actions.get(visit.context, visit.actor, visit.path("node_id"))
    states = {
        device["id"]: _now(
            segment_actions.of_device(visit.context, visit.actor, device["id"], before=None, limit=8)
        )
        for device in row["devices"]
    }
    return visit.page(
        "node.html",
        node=row,
        states=states,
        lines=log_actions.page(
            visit.context,
            visit.actor,
            row["id"],
            source=None,
            level=None,
            before=None,
            limit=LOG_LINES_SHOWN,
        ),
        may_write=visit.actor.may("node:write"),
        machines="libvirt" in row["drivers"],
        may_rehearse=row["simulated"] and visit.actor.may("simulated:write"),
    )


def node_named(visit: Visit, word: str, field: str) -> str:
    """Return the id of the node that a word names; InvalidInputError names the field unless it is one node's."""
    if word.startswith("nod_"):
        return word
    filters = {"site_id": None, "state": None, "name": word}
    rows = node_actions.page(visit.context, visit.actor, filters=filters, after=None, limit=2)
    if len(rows) != 1:
        said = "no node is" if not rows else "more than one node is"
        raise InvalidInputError(f"{said} called '{word[:63]}'; give names or ids", field=field)
    return str(rows[0]["id"])


def _now(segments: list[Row]) -> Row | None:
    """Return the open segment that covers most of a device."""
    still = [row for row in segments if row["end_at"] is None]
    return max(still, key=lambda row: row["slice_high"] - row["slice_low"], default=None)


def device_at(visit: Visit) -> Response:
    """Lead to the device at a position of a node."""
    row = node_actions.get(visit.context, visit.actor, visit.path("node_id"))
    position = visit.path("position")
    for device in row["devices"]:
        if str(device["position"]) == position:
            return visit.go(f"/devices/{device['id']}")
    raise NotFoundError(f"node '{row['name']}' has no device {position[:8]}")


def show_device(visit: Visit) -> Response:
    """Show a device with its history."""
    row = device_actions.get(visit.context, visit.actor, visit.path("device_id"))
    found = segment_actions.of_device(
        visit.context, visit.actor, row["id"], before=number(visit.query("before")), limit=SEGMENTS_SHOWN + 1
    )
    return visit.page(
        "device.html",
        device=row,
        segments=found[:SEGMENTS_SHOWN],
        more=found[SEGMENTS_SHOWN - 1]["id"] if len(found) > SEGMENTS_SHOWN else None,
        at=visit.context.clock.now(),
    )


def ask_retire(visit: Visit) -> Response:
    """Say what retiring a node does."""
    effects = (
        "It takes no work again, for good; its history stays.",
        "It is refused while anything is held there.",
    )
    return _ask(visit, "retire", "Retire", effects, dangerous=True)


def ask_write_off(visit: Visit) -> Response:
    """Say what writing a node off does."""
    effects = (
        "Whatever it ran is taken for ended, and is placed again elsewhere.",
        "Do this only if the machine is really gone: what still runs there would run twice.",
    )
    return _ask(visit, "write-off", "Write off", effects, dangerous=True)


def ask_fail(visit: Visit) -> Response:
    """Say what a rehearsed failure does."""
    effects = (
        "The simulated node falls silent. What follows is what would follow a real failure, and takes as long.",
        "It can be healed at any time.",
    )
    return _ask(visit, "fail", "Let fail", effects, dangerous=False)


def _ask(visit: Visit, verb: str, title: str, effects: Sequence[str], *, dangerous: bool) -> Response:
    row = node_actions.get(visit.context, visit.actor, visit.path("node_id"))
    return confirm.ask(
        visit,
        title=f"{title} {row['name']}?",
        effects=[_holds(visit, row), *effects],
        action=f"/nodes/{row['id']}/{verb}",
        button=f"{title} {row['name']}",
        back=(f"/nodes/{row['id']}", row["name"]),
        dangerous=dangerous,
    )


def _holds(visit: Visit, row: Row) -> str:
    """Say which services of whom have work on a node, and what they bring in."""
    ids = sorted({part["service_id"] for part in row["allocations"] if part["service_id"] is not None})
    if not ids:
        return "Nothing runs on it now."
    services = [service_actions.show(visit.context, visit.actor, one) for one in ids[:NAMED_MAX]]
    rates = spend_actions.rates(visit.context, visit.actor).by_service
    hourly = sum(rates.get(one, 0) for one in ids)
    tenants = len({one["tenant_id"] for one in services})
    named = ", ".join(one["name"] for one in services) + (" and more" if len(ids) > NAMED_MAX else "")
    return (
        f"{len(ids)} {'service has' if len(ids) == 1 else 'services have'} work on it now ({named}), "
        f"of {tenants} {'tenant' if tenants == 1 else 'tenants'}, worth {money(hourly)} an hour."
    )


def retire(visit: Visit) -> Response:
    """Take a node out of service."""
    row = node_actions.retire(visit.context, visit.actor, visit.path("node_id"))
    return visit.go(f"/nodes/{row['id']}", f"{row['name']} is retired.")


def write_off(visit: Visit) -> Response:
    """Declare that a lost node runs nothing any more."""
    row = node_actions.write_off(visit.context, visit.actor, visit.path("node_id"))
    return visit.go(f"/nodes/{row['id']}", f"{row['name']} is written off; what waited for it goes on.")


def _rehearse(visit: Visit, *, fail: bool) -> Response:
    injectors = visit.request.app.state.control_plane.fault_injectors
    row = node_actions.rehearse(visit.context, visit.actor, injectors, visit.path("node_id"), fail=fail)
    said = "fails: watch what happens to what runs on it" if fail else "comes back"
    return visit.go(f"/nodes/{row['id']}", f"{row['name']} {said}.")


def cordon(visit: Visit) -> Response:
    """Keep new work off a node."""
    row = node_actions.cordon(visit.context, visit.actor, visit.path("node_id"), cordoned=True)
    return visit.go(f"/nodes/{row['id']}", f"{row['name']} takes no new work; what runs there goes on.")


def uncordon(visit: Visit) -> Response:
    """Let work come to a node again."""
    row = node_actions.cordon(visit.context, visit.actor, visit.path("node_id"), cordoned=False)
    return visit.go(f"/nodes/{row['id']}", f"{row['name']} takes new work again.")


def ask_drain(visit: Visit) -> Response:
    """Say where each machine of a host would go, or why it stays."""
    row = node_actions.get(visit.context, visit.actor, visit.path("node_id"))
    visit.actor.require("node:write")
    plan = move_actions.drain_plan(visit.context, visit.actor, row["id"])
    return visit.page(
        "drain.html", node=row, plan=plan, staying=[one for one in plan if one["stays_because"]]
    )


def drain(visit: Visit) -> Response:
    """Take no new work on a host and begin to move its machines away."""
    row = node_actions.get(visit.context, visit.actor, visit.path("node_id"))
    done = move_actions.drain(visit.context, visit.actor, row["id"])
    staying = sum(one["stays_because"] is not None for one in done)
    said = f"{len(done) - staying} of {len(done)} machines are on their way; {row['name']} takes no new work."
    return visit.go(f"/nodes/{row['id']}", said)


def heal(visit: Visit) -> Response:
    """Bring a simulated node back."""
    return _rehearse(visit, fail=False)


def fail(visit: Visit) -> Response:
    """Let a simulated node fall silent."""
    return _rehearse(visit, fail=True)


routes = [
    get("/nodes/{node_id}", show),
    get("/nodes/{node_id}/devices/{position}", device_at),
    get("/devices/{device_id}", show_device),
    post("/nodes/{node_id}/cordon", cordon),
    post("/nodes/{node_id}/uncordon", uncordon),
    get("/nodes/{node_id}/drain", ask_drain),
    post("/nodes/{node_id}/drain", drain),
    get("/nodes/{node_id}/retire", ask_retire),
    post("/nodes/{node_id}/retire", retire, proof_at="/nodes/{node_id}/retire"),
    get("/nodes/{node_id}/write-off", ask_write_off),
    post("/nodes/{node_id}/write-off", write_off, proof_at="/nodes/{node_id}/write-off"),
    get("/nodes/{node_id}/fail", ask_fail),
    post("/nodes/{node_id}/fail", fail),
    post("/nodes/{node_id}/heal", heal),
]
