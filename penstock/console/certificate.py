"""Certificates of projects: which hold and until when, issued, followed by a new one, deleted. Others are uploaded by API and command."""

from starlette.responses import Response

from penstock.actions import certificate as certificate_actions
from penstock.actions.certificate import NewCertificate
from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_see
from penstock.console.names import checked_name
from penstock.console.projects import in_use, seen_projects
from penstock.domain.certificate import CERTIFICATE_STATE_SENTENCES


def list_certificates(visit: Visit) -> Response:
    """Show the certificates, and how to issue one."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    after = visit.query("after") or None
    rows = certificate_actions.list_page(
        visit.context, visit.actor, name=None, after=after, limit=limits.PAGE_DEFAULT + 1
    )
    shown = rows[: limits.PAGE_DEFAULT]
    projects = seen_projects(visit)
    return visit.page(
        "certificates.html",
        error.status if error else 200,
        certificates=shown,
        sentences=CERTIFICATE_STATE_SENTENCES,
        after=after,
        more=shown[-1]["id"] if len(rows) > len(shown) else None,
        projects=in_use(projects),
        project_names={one["id"]: one["name"] for one in projects},
        may_make=visit.actor.tenant_id is not None and may_see(visit.actor, "certificate:create"),
        changeable={
            row["id"]
            for row in shown
            if visit.actor.may("certificate:update", row["tenant_id"], row["project_id"])
        },
        days=limits.CERTIFICATE_LIFE_DAYS_DEFAULT,
        error=error,
        field=visit.field,
    )


def make(visit: Visit) -> Response:
    """Issue a certificate by the project's own authority."""
    try:
        row = certificate_actions.create(
            visit.context,
            visit.actor,
            NewCertificate(
                project_id=visit.field("project"),
                name=checked_name(visit.field("name")),
                description="",
                names=visit.field("names").replace(",", " ").split(),
                life_days=None,
                certificate_pem=None,
                private_key_pem=None,
            ),
        )
    except PenstockError as error:
        return _list(visit, error)
    return visit.go("/certificates", f"'{row['name']}' is issued; it is followed by itself in time.")


def ask_rotate(visit: Visit) -> Response:
    """Say what following a certificate now does."""
    row = certificate_actions.show(visit.context, visit.actor, visit.path("certificate_id"))
    visit.actor.require("certificate:update", row["tenant_id"], row["project_id"])
    return confirm.ask(
        visit,
        title=f"Follow {row['name']} by a new one now?",
        effects=[
            "A new key and a new certificate for the same names; load balancers take them within seconds, no connection ends.",
            "What it had before is revoked: whoever got hold of that key can do nothing with it where the list is read.",
        ],
        action=f"/certificates/{row['id']}/rotate",
        button="Follow it now",
        back=("/certificates", "Certificates"),
    )


def rotate(visit: Visit) -> Response:
    """Follow a certificate by a new one now, and revoke what it had."""
    row = certificate_actions.rotate(
        visit.context, visit.actor, visit.path("certificate_id"), revoke_old=True
    )
    return visit.go("/certificates", f"'{row['name']}' has a new key.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting a certificate does."""
    row = certificate_actions.show(visit.context, visit.actor, visit.path("certificate_id"))
    visit.actor.require("certificate:delete", row["tenant_id"], row["project_id"])
    return confirm.ask(
        visit,
        title=f"Delete {row['name']}?",
        effects=[
            "Its private key goes with it; this cannot be undone. What the project's authority issued of it is revoked.",
            "It is refused while a load balancer listens with it.",
        ],
        action=f"/certificates/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=("/certificates", "Certificates"),
        dangerous=True,
    )


def delete(visit: Visit) -> Response:
    """Delete a certificate."""
    certificate_actions.delete(visit.context, visit.actor, visit.path("certificate_id"))
    return visit.go("/certificates", "The certificate is deleted.")


routes = [
    get("/certificates", list_certificates),
    post("/certificates", make),
    get("/certificates/{certificate_id}/rotate", ask_rotate),
    post("/certificates/{certificate_id}/rotate", rotate),
    get("/certificates/{certificate_id}/delete", ask_delete),
    post("/certificates/{certificate_id}/delete", delete),
]
