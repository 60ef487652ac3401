"""Reservations: the calendar, booking with what it says first, one booking and its end. The factory sees all of it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from penstock.actions import calendar as calendar_actions
from penstock.actions import maintenance as maintenance_actions
from penstock.actions import offer as offer_actions
from penstock.actions import reservation as reservation_actions
from penstock.actions import tenant as tenant_actions
from penstock.actions.order import Order
from penstock.actions.reservation import Asked
from penstock.base import limits
from penstock.base.errors import (
    ConflictError,
    InvalidInputError,
    NotBookableError,
    NotFoundError,
    PenstockError,
    QuotaExceededError,
)
from penstock.console import confirm
from penstock.console.edge import Values, Visit, get, post
from penstock.console.form import fields_of, folded, instant_of, reader, seconds_of, values_of
from penstock.console.menu import may_see
from penstock.console.names import checked_name
from penstock.console.offer import known_choices
from penstock.console.projects import in_use, seen_projects
from penstock.console.timeline import Frame, lanes
from penstock.domain.reservation import LIVE, RESERVATION_SENTENCES, ReservationState
from penstock.store.rows import Row

LIVE_STATES = sorted(LIVE)
OVER_STATES = sorted(set(ReservationState) - LIVE)
SPANS: Mapping[str, timedelta] = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
SHOWN_MAX = 100
REFUSALS = (ConflictError, InvalidInputError, NotBookableError, NotFoundError, QuotaExceededError)


def frame_of(visit: Visit) -> tuple[Frame, str]:
    """Return the time that the address asks a picture of, from now on, and its name."""
    now = visit.context.clock.now().replace(second=0, microsecond=0)
    span = visit.query("span", "week")
    span = span if span in SPANS else "week"
    return Frame(now, now + SPANS[span]), span


def list_reservations(visit: Visit) -> Response:
    """Show the calendar and the bookings; people of the factory see every class, tenant and window."""
    over = visit.query("show") == "over"
    after = visit.query("after") or None
    rows = reservation_actions.list_page(
        visit.context,
        visit.actor,
        project=None,
        states=OVER_STATES if over else LIVE_STATES,
        name=None,
        after=after,
        limit=SHOWN_MAX + 1,
    )
    shown = sorted(rows[:SHOWN_MAX], key=lambda row: row["start_at"], reverse=over)
    frame, span = frame_of(visit)
    factory = visit.actor.tenant_id is None
    calendar = (
        calendar_actions.show(visit.context, visit.actor, None, frame.end) if factory and not over else None
    )
    return visit.page(
        "reservations.html",
        rows=shown,
        over=over,
        after=after,
        more=rows[SHOWN_MAX - 1]["id"] if len(rows) > SHOWN_MAX else None,
        frame=frame,
        span=span,
        spans=list(SPANS),
        classes=lanes(frame, calendar) if calendar else [],
        complete=calendar is None or calendar["complete"],
        windows=_windows(visit) if factory and not over else [],
        owners=_owners(visit),
        sentences=RESERVATION_SENTENCES,
        may_book=not factory and may_see(visit.actor, "reservation:create"),
    )


def _windows(visit: Visit) -> list[Row]:
    if not visit.actor.may("maintenance:read"):
        return []
    return maintenance_actions.list_page(
        visit.context, visit.actor, states=LIVE_STATES, name=None, after=None, limit=SHOWN_MAX
    )


def _owners(visit: Visit) -> dict[str, str]:
    """Return the names of whose bookings are shown: of projects to a tenant, of tenants to the factory."""
    if visit.actor.tenant_id is None:
        rows = tenant_actions.list_page(
            visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
        )
    else:
        rows = seen_projects(visit)
    return {row["id"]: row["name"] for row in rows}


def new(visit: Visit) -> Response:
    """Show the form of a booking; the address may fill fields in, as the earliest start does."""
    given = {name: [value] for name, value in visit.request.query_params.items()}
    return _form(visit, given)


def _form(visit: Visit, given: Values, error: PenstockError | None = None) -> Response:
    offers = offer_actions.list_page(
        visit.context, visit.actor, name=None, kind="gpu", state="active", after=None, limit=limits.PAGE_MAX
    )
    wanted = reader(given)("offer")
    offer = next((one for one in offers if one["id"] == wanted), offers[0] if offers else None)
    projects = in_use(seen_projects(visit))
    start = visit.context.clock.now() + timedelta(hours=1)
    values: dict[str, list[str]] = {
        "start": [f"{start:%Y-%m-%dT%H:00}"],
        "length": ["2"],
        "unit": ["hours"],
        "project": [projects[0]["id"] if projects else ""],
        "kept": ["hour"],
        **given,
    }
    fields, plan = [], None
    if offer is not None:
        try:
            spec = {name: value for name, value in values_of(offer["form"], values).items() if name in given}
        except InvalidInputError:
            spec = {}
        fields = [
            field
            for field in fields_of(offer["form"], spec, known_choices(visit))
            if field.name != "preemptible"  # what yields is never booked
        ]
        if projects and may_see(visit.actor, "reservation:create"):
            plan = _try(visit, offer, values)
    return visit.page(
        "reservation_new.html",
        error.status if error else 200,
        offers=offers,
        offer=offer,
        groups=folded(fields),
        projects=projects,
        value=reader(values),
        error=error,
        **_told(plan, values),
    )


def _asked(offer: Mapping[str, Any], values: Values) -> Asked:
    text = reader(values)
    name = text("name")
    if name:
        checked_name(name)
    return Asked(
        Order(offer["name"], text("project"), name or None, values_of(offer["form"], values)),
        instant_of(text("start"), "start", "Begins"),
        None,
        seconds_of(text("length"), text("unit"), "length", "For"),
        text("description")[: limits.TEXT_CHARACTERS_MAX],
        None if text("kept") == "end" else limits.NO_SHOW_AFTER_SECONDS,
    )


def _try(visit: Visit, offer: Mapping[str, Any], values: Values) -> dict[str, Any] | PenstockError:
    """Return what the calendar says to the form as it is filled in, or why it cannot be booked."""
    try:
        return reservation_actions.dry_run(visit.context, visit.actor, _asked(offer, values))
    except REFUSALS as error:
        return error


def _told(plan: dict[str, Any] | PenstockError | None, values: Values) -> dict[str, Any]:
    """Return the plan for its part of the page, with a link that takes the earliest start."""
    earliest = plan["earliest_start"] if isinstance(plan, dict) and not plan["would_be_booked"] else None
    link = None
    if earliest is not None:
        rounded = (earliest + timedelta(minutes=1)).replace(second=0, microsecond=0)
        fields = {name: texts[0] for name, texts in values.items() if name not in ("csrf", "start")}
        link = urlencode({**fields, "start": f"{rounded:%Y-%m-%dT%H:%M}"})
    return {"plan": plan, "earliest_query": link}


def price(visit: Visit) -> Response:
    """Return what the calendar says to the form as it is filled in now."""
    offer = offer_actions.show(visit.context, visit.actor, visit.field("offer"))
    plan = _try(visit, offer, visit.form)
    return visit.part("reservation_plan.html", **_told(plan, visit.form))


def book(visit: Visit) -> Response:
    """Book; what stands in the way is said beside the form, which keeps what was filled in."""
    offer = offer_actions.show(visit.context, visit.actor, visit.field("offer"))
    try:
        row = reservation_actions.create(visit.context, visit.actor, _asked(offer, visit.form))
    except REFUSALS as error:
        return _form(visit, visit.form, error)
    return visit.go(
        f"/reservations/{row['id']}", f"'{row['name']}' is booked: it is yours from its start on."
    )


def show(visit: Visit) -> Response:
    """Show one reservation with what runs in it."""
    row = reservation_actions.show(visit.context, visit.actor, visit.path("reservation_id"))
    now = visit.context.clock.now()
    margin = max((row["end_at"] - row["start_at"]) / 4, timedelta(minutes=5))
    live = ReservationState(row["state"]) in LIVE
    first = (
        min(row["start_at"] - margin, now)
        if live and row["start_at"] - now < 20 * margin
        else row["start_at"] - margin
    )
    return visit.page(
        "reservation.html",
        row=row,
        live=live,
        sentence=RESERVATION_SENTENCES[ReservationState(row["state"])],
        frame=Frame(first, row["end_at"] + margin),
        owner=_owners(visit).get(row["project_id"] if visit.actor.tenant_id else row["tenant_id"], ""),
        may_cancel=live and row["wanted"] != "cancelled" and _may(visit, row, "reservation:cancel"),
        may_order=live and visit.actor.tenant_id is not None and _may(visit, row, "service:order"),
    )


def _may(visit: Visit, row: Row, permission: str) -> bool:
    return visit.actor.may(permission, row["tenant_id"], row["project_id"])


def ask_cancel(visit: Visit) -> Response:
    """Say what cancelling does: before the start, and once it has begun."""
    row = reservation_actions.show(visit.context, visit.actor, visit.path("reservation_id"))
    visit.actor.require("reservation:cancel", row["tenant_id"], row["project_id"])
    inside = [one["name"] for one in row["services"] if one["wanted"] != "released"]
    devices = f"{row['device_count']} {row['device_class']}"
    if row["state"] == ReservationState.ACTIVE:
        effects = [f"It ends now, and {devices} go back to the factory."]
        if inside:
            effects.append(f"What runs in it is released: {', '.join(inside[:6])}.")
        effects.append("What it cost until now stays on the bill; from now on it costs nothing.")
    else:
        effects = [f"{devices} go back on the calendar, and whoever asks next gets them."]
        if inside:
            effects.append(f"What was ordered into it does not start: {', '.join(inside[:6])}.")
        effects.append("Nothing is owed: it has not begun.")
    return confirm.ask(
        visit,
        title=f"Cancel {row['name']}?",
        effects=[*effects, "There is no undo: the time can be booked again if it is free then."],
        action=f"/reservations/{row['id']}/cancel",
        button=f"Cancel {row['name']}",
        back=(f"/reservations/{row['id']}", row["name"]),
    )


def cancel(visit: Visit) -> Response:
    """Cancel a reservation."""
    row = reservation_actions.cancel(visit.context, visit.actor, visit.path("reservation_id"))
    return visit.go(f"/reservations/{row['id']}", f"'{row['name']}' is being cancelled.")


routes = [
    get("/reservations", list_reservations),
    get("/reservations/new", new),
    post("/reservations/new", book),
    post("/reservations/new/price", price),
    get("/reservations/{reservation_id}", show),
    get("/reservations/{reservation_id}/cancel", ask_cancel),
    post("/reservations/{reservation_id}/cancel", cancel),
]
