"""Maintenance: windows in which nodes are out of work, planned only after what becomes of whom was shown."""

from datetime import timedelta

from starlette.responses import Response

from penstock.actions import maintenance as maintenance_actions
from penstock.actions import node as node_actions
from penstock.actions import rack as rack_actions
from penstock.actions import spend as spend_actions
from penstock.actions import tenant as tenant_actions
from penstock.actions.maintenance import Window
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, NotFoundError, PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.form import instant_of, reader, seconds_of
from penstock.console.formats import money
from penstock.console.names import checked_name
from penstock.console.reservation import LIVE_STATES, OVER_STATES, SHOWN_MAX, SPANS, frame_of
from penstock.domain.reservation import LIVE, RESERVATION_SENTENCES, ReservationState

RACKS_OFFERED_MAX = 200
FIELDS = ("where", "start", "length", "unit", "name", "description")


def list_windows(visit: Visit) -> Response:
    """Show the windows and the form that plans one."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    over = visit.query("show") == "over"
    after = visit.query("after") or None
    rows = maintenance_actions.list_page(
        visit.context,
        visit.actor,
        states=OVER_STATES if over else LIVE_STATES,
        name=None,
        after=after,
        limit=SHOWN_MAX + 1,
    )
    frame, span = frame_of(visit)
    start = visit.context.clock.now() + timedelta(hours=1)
    given = {"start": f"{start:%Y-%m-%dT%H:00}", "length": "2", "unit": "hours"}
    return visit.page(
        "maintenance.html",
        error.status if error else 200,
        rows=sorted(rows[:SHOWN_MAX], key=lambda row: row["start_at"], reverse=over),
        over=over,
        after=after,
        more=rows[SHOWN_MAX - 1]["id"] if len(rows) > SHOWN_MAX else None,
        frame=frame,
        span=span,
        spans=list(SPANS),
        racks=rack_actions.page(
            visit.context, visit.actor, site_id=None, name=None, after=None, limit=RACKS_OFFERED_MAX
        ),
        may_plan=visit.actor.may("maintenance:write"),
        value=reader({name: [visit.query(name)] for name in FIELDS if visit.query(name)}, **given),
        error=error,
    )


def _asked(visit: Visit) -> Window:
    """Return the window that the address describes; InvalidInputError or NotFoundError names the field."""
    found: dict[str, list[str]] = {"rack": [], "node": []}
    for word in visit.query("where").replace(",", " ").split():
        noun, identifier = _named(visit, word)
        found[noun].append(identifier)
    if len(found["rack"]) + len(found["node"]) > limits.MAINTENANCE_TARGETS_MAX:
        raise InvalidInputError(
            f"a window covers at most {limits.MAINTENANCE_TARGETS_MAX} nodes; plan several", field="where"
        )
    name = visit.query("name")
    return Window(
        found["node"],
        found["rack"],
        instant_of(visit.query("start"), "start", "Begins"),
        None,
        seconds_of(visit.query("length"), visit.query("unit"), "length", "For"),
        checked_name(name) if name else None,
        visit.query("description"),
    )


def _named(visit: Visit, word: str) -> tuple[str, str]:
    """Return which rack or node a word names, by id or name; racks first."""
    for noun, prefix in (("rack", "rck_"), ("node", "nod_")):
        if word.startswith(prefix):
            return noun, word
    racks = rack_actions.page(visit.context, visit.actor, site_id=None, name=word, after=None, limit=2)
    filters = {"site_id": None, "state": None, "name": word}
    nodes = (
        [] if racks else node_actions.page(visit.context, visit.actor, filters=filters, after=None, limit=2)
    )
    if len(racks) + len(nodes) != 1:
        said = "no rack and no node is" if not racks and not nodes else "more than one is"
        raise InvalidInputError(
            f"{said} called '{word[:63]}'; give names or ids of racks or nodes", field="where"
        )
    return ("rack", racks[0]["id"]) if racks else ("node", nodes[0]["id"])


def plan(visit: Visit) -> Response:
    """Say what a window would do to whom, before it is planned."""
    visit.actor.require("maintenance:write")
    if not visit.query("where"):
        return visit.go("/maintenance")
    try:
        told = maintenance_actions.plan(visit.context, visit.actor, _asked(visit))
    except (ConflictError, InvalidInputError, NotFoundError) as error:
        return _list(visit, error)
    if told["would_be_planned"]:
        visit.require_proof()
    rates = spend_actions.rates(visit.context, visit.actor).by_service
    tenants = tenant_actions.list_page(
        visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
    )
    return visit.page(
        "maintenance_plan.html",
        told=told,
        fields=[(name, visit.query(name)) for name in FIELDS],
        worth=money(sum(rates.get(one["id"], 0) for one in told["services"])),
        tenants={tenant["id"]: tenant["name"] for tenant in tenants},
        minutes=int(limits.MAINTENANCE_LEAD.total_seconds() // 60),
    )


def create(visit: Visit) -> Response:
    """Plan a window as it was shown; the form carries the same fields in its address."""
    row = maintenance_actions.create(visit.context, visit.actor, _asked(visit))
    return visit.go(
        f"/maintenance/{row['id']}", f"'{row['name']}' is planned; nothing new is placed over it."
    )


def show(visit: Visit) -> Response:
    """Show one window with what is on its nodes still."""
    row = maintenance_actions.show(visit.context, visit.actor, visit.path("window_id"))
    tenants = tenant_actions.list_page(
        visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
    )
    live = ReservationState(row["state"]) in LIVE
    return visit.page(
        "window.html",
        row=row,
        live=live,
        sentence=RESERVATION_SENTENCES[ReservationState(row["state"])],
        tenants={tenant["id"]: tenant["name"] for tenant in tenants},
        may_cancel=live and row["wanted"] != "cancelled" and visit.actor.may("maintenance:write"),
    )


def ask_cancel(visit: Visit) -> Response:
    """Say what ending a window does."""
    row = maintenance_actions.show(visit.context, visit.actor, visit.path("window_id"))
    visit.actor.require("maintenance:write")
    nodes = f"{len(row['nodes'])} {'node' if len(row['nodes']) == 1 else 'nodes'}"
    begun = row["state"] == ReservationState.ACTIVE
    effects = [
        f"{nodes} come back to work now: make sure that nobody has a screwdriver in them."
        if begun
        else f"{nodes} stay in work, and orders and bookings may use that time again.",
        "What moved or was stopped for it does not come back by itself.",
        "It can be planned again, unless somebody has booked the time by then.",
    ]
    return confirm.ask(
        visit,
        title=f"End {row['name']}?" if begun else f"Cancel {row['name']}?",
        effects=effects,
        action=f"/maintenance/{row['id']}/cancel",
        button="End it" if begun else "Cancel it",
        back=(f"/maintenance/{row['id']}", row["name"]),
    )


def cancel(visit: Visit) -> Response:
    """End a window."""
    row = maintenance_actions.cancel(visit.context, visit.actor, visit.path("window_id"))
    return visit.go(f"/maintenance/{row['id']}", f"'{row['name']}' is being ended.")


routes = [
    get("/maintenance", list_windows),
    get("/maintenance/plan", plan),
    post("/maintenance", create, proof_at="/maintenance"),
    get("/maintenance/{window_id}", show),
    get("/maintenance/{window_id}/cancel", ask_cancel),
    post("/maintenance/{window_id}/cancel", cancel),
]
