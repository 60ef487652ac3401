"""The audit trail: who did what, from where, and what was refused."""

from starlette.responses import Response

from penstock.actions import audit as audit_actions
from penstock.console.edge import Visit, get
from penstock.console.event import number, page_of

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
        link_of=page_of,
    )


routes = [get("/audit", list_rows)]
