"""The audit trail: who did what, from where, and what was refused."""

from starlette.responses import Response

from penstock.actions import audit as audit_actions
from penstock.actions import principal as principal_actions
from penstock.base import limits
from penstock.console.edge import Visit, get
from penstock.console.event import number, page_of
from penstock.console.menu import may_see

PAGE = 100


def list_rows(visit: Visit) -> Response:
    """Show the audit trail, newest first."""
    after, subject = number(visit.query("after")), visit.query("subject")[:64]
    rows = audit_actions.list_page(
        visit.context, visit.actor, tenant_id=None, subject_id=subject or None, before=after, limit=PAGE + 1
    )
    return visit.page(
        "audit.html",
        rows=rows[:PAGE],
        more=rows[PAGE - 1]["id"] if len(rows) > PAGE else None,
        after=after,
        subject=subject,
        names=names_of(visit),
        link_of=page_of,
    )


def names_of(visit: Visit) -> dict[str, str]:
    """Return the names of people and programs by id, for who may see them."""
    names = {visit.actor.principal_id: visit.actor.name}
    if may_see(visit.actor, "principal:read"):
        for kind in ("user", "service_account"):
            rows = principal_actions.list_page(
                visit.context, visit.actor, kind, tenant_id=None, name=None, after=None, limit=limits.PAGE_MAX
            )
            names |= {row["id"]: row["name"] for row in rows}
    return names


routes = [get("/audit", list_rows)]
