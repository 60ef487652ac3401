"""Limits of token traffic: of the tenant, its projects, keys and endpoints; set by who may, in force within a second."""

from typing import Any

from starlette.responses import Response

from penstock.actions import api_key as api_key_actions
from penstock.actions import project as project_actions
from penstock.actions import rate_limit as rate_limit_actions
from penstock.actions import service as service_actions
from penstock.actions import tenant as tenant_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.base.units import MICROEUR_PER_EUR
from penstock.console.edge import Visit, get, post
from penstock.console.form import reader
from penstock.console.menu import may_see
from penstock.console.paging import paged
from penstock.domain.rate_limit import LIMITS, Priority
from penstock.store.rows import Row

AMOUNT_MAX = (1 << 63) - 1
TITLES = {
    "requests_per_minute": "Requests a minute",
    "tokens_per_minute": "Tokens a minute",
    "tokens_per_day": "Tokens a day",
    "microeur_per_month": "EUR a month",
}


def list_limits(visit: Visit) -> Response:
    """Show what is limited, and the form that limits something."""
    return _page(visit)


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    listed = paged(
        visit,
        lambda after, limit: rate_limit_actions.list_page(
            visit.context, visit.actor, tenant_id=None, subject_id=None, after=after, limit=limit
        ),
    )
    subjects = _subjects(visit)
    chosen = visit.field("subject") or visit.query("subject")
    now = next((row for row in listed.rows if row["subject_id"] == chosen), None)
    return visit.page(
        "rate_limits.html",
        error.status if error else 200,
        rows=listed.rows,
        after=listed.after,
        more=listed.more,
        subjects=subjects,
        names=dict(subjects),
        titles=TITLES,
        chosen=chosen,
        value=reader(visit.form, **_values(now)),
        priorities=[("", "as they come")]
        + [(one.value, one.value) for one in Priority if _may_give(visit, one)],
        may_set=may_see(visit.actor, "rate_limit:write"),
        error=error,
    )


def _may_give(visit: Visit, priority: Priority) -> bool:
    return priority is not Priority.HIGH or visit.actor.tenant_id is None


def _values(row: Row | None) -> dict[str, str]:
    """Return the limits of a subject as its form shows them."""
    if row is None:
        return {}
    given = {name: row[name] for name in (*LIMITS, "priority") if row[name] is not None}
    if "microeur_per_month" in given:
        given["microeur_per_month"] = f"{given['microeur_per_month'] / MICROEUR_PER_EUR:g}"
    return {name: str(amount) for name, amount in given.items()}


def _subjects(visit: Visit) -> list[tuple[str, str]]:
    """Return what the visitor may limit, with names: tenants for the factory; projects, keys and endpoints else."""
    found: list[tuple[str, str]] = []
    more: dict[str, Any] = {"name": None, "after": None, "limit": limits.PAGE_MAX}
    if visit.actor.tenant_id is None:
        tenants = tenant_actions.list_page(visit.context, visit.actor, **more)
        return [(row["id"], f"tenant {row['name']}") for row in tenants]
    projects = project_actions.list_page(visit.context, visit.actor, tenant_id=None, **more)
    found += [(row["id"], f"project {row['name']}") for row in projects if row["state"] == "active"]
    keys = api_key_actions.list_page(
        visit.context,
        visit.actor,
        tenant_id=None,
        principal_id=None,
        sessions=False,
        after=None,
        limit=limits.PAGE_MAX,
    )
    found += [(row["id"], f"key {row['name']}") for row in keys if row["revoked_at"] is None]
    services = service_actions.list_page(
        visit.context,
        visit.actor,
        project=None,
        states=("queued", "starting", "running", "degraded"),
        kind="llm",
        name=None,
        after=None,
        limit=limits.PAGE_MAX,
        newest_first=True,
    )
    return found + [(row["id"], f"endpoint {row['name']}") for row in services]


def put(visit: Visit) -> Response:
    """Set all limits of a subject; what is left empty is not limited."""
    try:
        given: dict[str, Any] = {name: _amount(visit, name) for name in LIMITS}
        priority = visit.field("priority") or None
        if priority not in (None, *Priority):
            raise InvalidInputError("choose a priority of the list", field="priority")
        if priority is None and not any(amount is not None for amount in given.values()):
            raise InvalidInputError("limit something, or remove the limits", field="requests_per_minute")
        rate_limit_actions.put(
            visit.context, visit.actor, visit.field("subject"), {**given, "priority": priority}
        )
    except PenstockError as error:
        return _page(visit, error)
    return visit.go("/rate-limits", "The limits are in force at every gateway within a second.")


def _amount(visit: Visit, name: str) -> int | None:
    if not visit.field(name):
        return None
    factor = MICROEUR_PER_EUR if name == "microeur_per_month" else 1
    amount = visit.whole(name, TITLES[name]) * factor
    if not 0 <= amount <= AMOUNT_MAX:
        raise InvalidInputError(f"{TITLES[name]}: 0 or more", field=name)
    return amount


def remove(visit: Visit) -> Response:
    """Take all limits of a subject away."""
    rate_limit_actions.delete(visit.context, visit.actor, visit.path("rate_limit_id"))
    return visit.go("/rate-limits", "It is not limited any more.")


routes = [
    get("/rate-limits", list_limits),
    post("/rate-limits", put),
    post("/rate-limits/{rate_limit_id}/remove", remove),
]
