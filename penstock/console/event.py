"""Events: what happened, newest first."""

from starlette.responses import Response

from penstock.actions import event as event_actions
from penstock.actions.event import Filter
from penstock.console.edge import Visit, get

PAGE = 100
KINDS = (
    ("", "everything"),
    ("service.", "services"),
    ("node.", "nodes"),
    ("device.", "devices"),
    ("agent.", "agents"),
    ("invoice.", "invoices"),
    ("price_book.", "prices"),
    ("offer.", "offers"),
    ("quota.", "quotas"),
    ("user.", "users"),
    ("api_key.", "keys"),
    ("tenant.", "tenants"),
    ("simulated.", "rehearsals"),
)


def list_events(visit: Visit) -> Response:
    """Show events, of one kind or one subject if the address says so."""
    after = number(visit.query("after"))
    kind, subject = visit.query("kind")[:64], visit.query("subject")[:64]
    rows = event_actions.list_latest(
        visit.context, visit.actor, Filter(kind or None, subject or None), before_id=after, limit=PAGE + 1
    )
    return visit.page(
        "events.html",
        events=rows[:PAGE],
        more=rows[PAGE - 1]["id"] if len(rows) > PAGE else None,
        after=after,
        kinds=KINDS,
        kind=kind,
        subject=subject,
        link_of=page_of,
    )


def number(text: str) -> int | None:
    """Return the number of a row that an address names, None if it names none."""
    return int(text) if text.isdecimal() and len(text) < 19 else None


PAGES = {
    "svc": "/services/",
    "nod": "/nodes/",
    "dev": "/devices/",
    "ten": "/tenants/",
    "inv": "/invoices/",
    "off": "/offers/",
    "rsv": "/reservations/",
    "bat": "/batches/",
    "mnt": "/maintenance/",
}


def page_of(subject_id: str, *, is_factory: bool) -> str | None:
    """Return the page of an object by its id, None if it has none that the caller's menu leads to."""
    prefix = subject_id.partition("_")[0]
    if prefix in ("nod", "dev", "ten", "off", "mnt") and not is_factory:
        return None
    path = PAGES.get(prefix)
    return None if path is None else f"{path}{subject_id}"


routes = [get("/events", list_events)]
