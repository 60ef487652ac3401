"""Certificates of projects: which hold and until when; issued, uploaded, followed by a new one, revoked, deleted."""

from starlette.responses import Response

from penstock.actions import certificate as certificate_actions
from penstock.actions import load_balancer as balancer_actions
from penstock.actions.certificate import NewCertificate
from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_make
from penstock.console.names import checked_name
from penstock.console.paging import paged
from penstock.console.projects import in_use, seen_projects
from penstock.console.secure import secured
from penstock.console.sheet import REFUSED, Box, Sheet, fill, name_box, project_box, text_of
from penstock.domain.certificate import CERTIFICATE_STATE_SENTENCES, CertificateSource
from penstock.store.rows import Row

LISTS = ("/certificates", "Certificates")
PEMS = (
    Box(
        "certificate_pem",
        "Certificates (PEM)",
        "code",
        hint="The server's own first, each followed by the one that signed it.",
        characters_max=limits.CERTIFICATE_CHAIN_CHARACTERS_MAX,
        rows=8,
    ),
    Box(
        "private_key_pem",
        "Private key (PEM)",
        "code",
        hint="Without a password. It is kept sealed and shown to nobody, on this page neither.",
        characters_max=limits.PRIVATE_KEY_CHARACTERS_MAX,
        rows=5,
        secret=True,
    ),
)


def list_certificates(visit: Visit) -> Response:
    """Show the certificates, and how to issue one."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    listed = paged(
        visit,
        lambda after, limit: certificate_actions.list_page(
            visit.context, visit.actor, name=None, after=after, limit=limit
        ),
    )
    projects = seen_projects(visit)
    return visit.page(
        "certificates.html",
        error.status if error else 200,
        certificates=listed.rows,
        sentences=CERTIFICATE_STATE_SENTENCES,
        after=listed.after,
        more=listed.more,
        projects=in_use(projects),
        project_names={one["id"]: one["name"] for one in projects},
        may_make=may_make(visit.actor, "certificate:create"),
        changeable={
            row["id"]
            for row in listed.rows
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


def _upload(visit: Visit) -> Sheet:
    return Sheet(
        "Upload a certificate",
        "One that another authority signed. It is not renewed by itself: an event warns 14 days before its end.",
        "/certificates/upload",
        "Upload it",
        [LISTS],
        [name_box(), project_box(in_use(seen_projects(visit))), *PEMS],
    )


def ask_upload(visit: Visit) -> Response:
    """Ask for a certificate with its key."""
    if not may_make(visit.actor, "certificate:create"):
        visit.actor.require("certificate:create", visit.actor.tenant_id)
    return fill(visit, _upload(visit))


def _pems(visit: Visit) -> dict[str, str]:
    return {box.name: text_of(visit, box.name, box.characters_max) for box in PEMS}


def upload(visit: Visit) -> Response:
    """Keep a certificate that was brought."""
    try:
        asked = NewCertificate(
            visit.field("project_id"), checked_name(visit.field("name")), "", None, None, **_pems(visit)
        )
        row = certificate_actions.create(visit.context, visit.actor, asked)
    except REFUSED as error:
        return fill(visit, _upload(visit), error)
    return visit.go(
        f"/certificates/{row['id']}", f"'{row['name']}' is kept; load balancers can listen with it."
    )


def show(visit: Visit) -> Response:
    """Show one certificate, what it is good for and who signed it."""
    row = certificate_actions.show(visit.context, visit.actor, visit.path("certificate_id"))
    names = {one["id"]: one["name"] for one in seen_projects(visit)}
    balancers = balancer_actions.list_page(
        visit.context, visit.actor, network_id=None, name=None, after=None, limit=limits.PAGE_MAX
    )
    return visit.page(
        "certificate.html",
        certificate=row,
        issued=row["source"] == CertificateSource.ISSUED,
        sentence=CERTIFICATE_STATE_SENTENCES[row["state"]],
        project=names.get(row["project_id"], ""),
        users=[
            one
            for one in balancers
            if any(listener["certificate_id"] == row["id"] for listener in one["listeners"])
        ],
        may_update=visit.actor.may("certificate:update", row["tenant_id"], row["project_id"]),
        may_delete=visit.actor.may("certificate:delete", row["tenant_id"], row["project_id"]),
    )


def authority(visit: Visit) -> Response:
    """Send the certificate of the authority that clients of an issued certificate trust."""
    row = certificate_actions.show(visit.context, visit.actor, visit.path("certificate_id"))
    found = certificate_actions.authority(visit.context, visit.actor, row["project_id"])
    return _file(found["certificate_pem"].encode(), "application/x-pem-file", "authority.pem")


def revocation_list(visit: Visit) -> Response:
    """Send the list of what the authority of an issued certificate revoked."""
    row = certificate_actions.show(visit.context, visit.actor, visit.path("certificate_id"))
    content = certificate_actions.revocation_list(visit.context, visit.actor, row["project_id"])
    return _file(content, "application/pkix-crl", "revoked.crl")


def _file(content: bytes, media_type: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return secured(Response(content, media_type=media_type, headers=headers))


def _changing(visit: Visit) -> Row:
    row = certificate_actions.show(visit.context, visit.actor, visit.path("certificate_id"))
    visit.actor.require("certificate:update", row["tenant_id"], row["project_id"])
    return row


def _replacement(row: Row) -> Sheet:
    return Sheet(
        f"Replace {row['name']}",
        "Another certificate with its key takes its place under the same name.",
        f"/certificates/{row['id']}/content",
        "Replace it",
        [LISTS, (f"/certificates/{row['id']}", row["name"])],
        PEMS,
        ["Load balancers that listen with it take the new one within seconds; no connection ends."],
    )


def ask_replace(visit: Visit) -> Response:
    """Ask for what takes the place of an uploaded certificate."""
    row = _changing(visit)
    if row["source"] != CertificateSource.UPLOADED:
        return visit.go(f"/certificates/{row['id']}", "It was issued here: give it a new key instead.")
    return fill(visit, _replacement(row))


def replace(visit: Visit) -> Response:
    """Put another content in the place of an uploaded certificate."""
    row = _changing(visit)
    try:
        certificate_actions.replace(visit.context, visit.actor, row["id"], **_pems(visit))
    except REFUSED as error:
        return fill(visit, _replacement(row), error)
    return visit.go(f"/certificates/{row['id']}", f"'{row['name']}' is replaced.")


def ask_revoke(visit: Visit) -> Response:
    """Say what revoking does."""
    row = _changing(visit)
    if row["source"] != CertificateSource.ISSUED:
        return visit.go(
            f"/certificates/{row['id']}", "It was uploaded: only whoever signed it can revoke it."
        )
    return confirm.ask(
        visit,
        title=f"Revoke {row['name']}?",
        effects=[
            "Every content that it ever had stands in the authority's list of revoked ones. This cannot be undone.",
            "It is not renewed any more. If its key got out and its names go on, give it a new key instead.",
            "It is refused while a load balancer listens with it.",
        ],
        action=f"/certificates/{row['id']}/revoke",
        button=f"Revoke {row['name']}",
        back=(f"/certificates/{row['id']}", row["name"]),
        dangerous=True,
    )


def revoke(visit: Visit) -> Response:
    """Revoke an issued certificate."""
    row = certificate_actions.revoke(visit.context, visit.actor, visit.path("certificate_id"))
    return visit.go(f"/certificates/{row['id']}", f"'{row['name']}' is revoked.")


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
    get("/certificates/upload", ask_upload),
    post("/certificates/upload", upload),
    get("/certificates/{certificate_id}", show),
    get("/certificates/{certificate_id}/authority.pem", authority),
    get("/certificates/{certificate_id}/revoked.crl", revocation_list),
    get("/certificates/{certificate_id}/content", ask_replace),
    post("/certificates/{certificate_id}/content", replace),
    get("/certificates/{certificate_id}/revoke", ask_revoke),
    post("/certificates/{certificate_id}/revoke", revoke, proof_at="/certificates/{certificate_id}/revoke"),
    get("/certificates/{certificate_id}/rotate", ask_rotate),
    post("/certificates/{certificate_id}/rotate", rotate),
    get("/certificates/{certificate_id}/delete", ask_delete),
    post("/certificates/{certificate_id}/delete", delete, proof_at="/certificates/{certificate_id}/delete"),
]
