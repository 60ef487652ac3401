"""Certificates of a project: issued by its own authority or uploaded; the authority and what it revoked."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field, StringConstraints

from penstock.actions import certificate as certificate_actions
from penstock.actions.certificate import NewCertificate
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.certificate import CERTIFICATE_STATE_SENTENCES
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["certificates"])
CRL_TYPE = "application/pkix-crl"

HostName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=TEXT_PATTERN)]
ChainPem = Annotated[
    str,
    StringConstraints(min_length=1, max_length=limits.CERTIFICATE_CHAIN_CHARACTERS_MAX, pattern=TEXT_PATTERN),
]
KeyPem = Annotated[
    str,
    StringConstraints(min_length=1, max_length=limits.PRIVATE_KEY_CHARACTERS_MAX, pattern=TEXT_PATTERN),
]


class CertificateBody(Strict):
    """A certificate to issue (``names``), or one that is brought (``certificate_pem`` with ``private_key_pem``)."""

    name: Name
    project_id: Id
    description: Text = ""
    names: list[HostName] | None = Field(
        default=None,
        min_length=1,
        max_length=limits.CERTIFICATE_NAMES_MAX,
        description="host names and addresses to issue it for",
    )
    life_days: int | None = Field(
        default=None,
        ge=1,
        le=limits.CERTIFICATE_LIFE_DAYS_MAX,
        description=f"how long each of them holds, {limits.CERTIFICATE_LIFE_DAYS_DEFAULT} by default; it is rotated before",
    )
    certificate_pem: ChainPem | None = Field(default=None, description="the server's own first")
    private_key_pem: KeyPem | None = Field(default=None, description="kept sealed, shown to nobody")


class CertificateContent(Strict):
    """What takes the place of an uploaded certificate."""

    certificate_pem: ChainPem
    private_key_pem: KeyPem


class CertificateRotation(Strict):
    """How a certificate is rotated."""

    revoke_old: bool = Field(
        default=False, description="whether what it had before is revoked: its key got out"
    )


class CertificateOut(BaseModel):
    """A certificate without its key, which nobody is shown. ``version`` counts its contents."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    description: str
    source: str
    state: str
    state_sentence: str
    names: list[str]
    life_days: int | None
    issuer: str
    serial: str
    fingerprint_sha256: str
    key_kind: str
    version: int
    chain_pem: str
    begins_at: datetime
    expires_at: datetime
    rotate_at: datetime | None
    revoked_at: datetime | None
    created_by: str
    created_at: datetime


class CertificatePage(BaseModel):
    """A page of certificates."""

    items: list[CertificateOut]
    next: str | None


class AuthorityOut(BaseModel):
    """The authority of a project: clients trust ``certificate_pem``."""

    project_id: str
    tenant_id: str
    certificate_pem: str
    created_at: datetime


def out(row: Row) -> dict[str, Any]:
    """Return a certificate as the API shows it."""
    shown = {**row, "state_sentence": CERTIFICATE_STATE_SENTENCES[row["state"]]}
    return {name: shown[name] for name in CertificateOut.model_fields}


@router.post("/certificates", status_code=201, responses={201: {"model": CertificateOut}, **ERRORS})
def create(call: Caller, body: CertificateBody) -> Response:
    """Issue a certificate by the project's own authority, or keep one that is brought with its key."""
    row = certificate_actions.create(call.context, call.actor(), NewCertificate(**body.model_dump()))
    return answer(out(row), 201)


@router.get("/certificates", responses={200: {"model": CertificatePage}, **ERRORS})
def list_certificates(
    call: Caller, limit: Limit = limits.PAGE_DEFAULT, after: After = None, name: NameFilter = None
) -> Response:
    """List the certificates that the caller may see, oldest first; never their keys."""
    rows = certificate_actions.list_page(call.context, call.actor(), name=name, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/certificates/{certificate_id}", responses={200: {"model": CertificateOut}, **ERRORS})
def show(call: Caller, certificate_id: PathId) -> Response:
    """Show one certificate without its key."""
    return answer(out(certificate_actions.show(call.context, call.actor(), certificate_id)))


@router.post("/certificates/{certificate_id}/rotate", responses={200: {"model": CertificateOut}, **ERRORS})
def rotate(call: Caller, certificate_id: PathId, body: CertificateRotation) -> Response:
    """Issue the next one now, with a new key; it is done by itself when two thirds of a life are over."""
    row = certificate_actions.rotate(call.context, call.actor(), certificate_id, revoke_old=body.revoke_old)
    return answer(out(row))


@router.put("/certificates/{certificate_id}/content", responses={200: {"model": CertificateOut}, **ERRORS})
def replace(call: Caller, certificate_id: PathId, body: CertificateContent) -> Response:
    """Put another certificate with its key in the place of one that was uploaded."""
    row = certificate_actions.replace(call.context, call.actor(), certificate_id, **body.model_dump())
    return answer(out(row))


@router.post("/certificates/{certificate_id}/revoke", responses={200: {"model": CertificateOut}, **ERRORS})
def revoke(call: Caller, certificate_id: PathId) -> Response:
    """Revoke an issued certificate for good; it stands in its authority's list from now on."""
    return answer(out(certificate_actions.revoke(call.context, call.actor(), certificate_id)))


@router.delete("/certificates/{certificate_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, certificate_id: PathId) -> Response:
    """Delete a certificate that nothing uses, with its key; an issued one is revoked."""
    certificate_actions.delete(call.context, call.actor(), certificate_id)
    return Response(status_code=204)


@router.get(
    "/projects/{project_id}/certificate-authority", responses={200: {"model": AuthorityOut}, **ERRORS}
)
def authority(call: Caller, project_id: PathId) -> Response:
    """Show the authority of a project, which clients of its issued certificates trust."""
    row = certificate_actions.authority(call.context, call.actor(), project_id)
    return answer({name: row[name] for name in AuthorityOut.model_fields})


@router.get(
    "/projects/{project_id}/certificate-authority/crl",
    responses={
        200: {
            "content": {CRL_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            "description": "a certificate revocation list in DER",
        },
        **ERRORS,
    },
)
def revocation_list(call: Caller, project_id: PathId) -> Response:
    """Show what the authority of a project revoked, as a list signed now that holds for seven days."""
    content = certificate_actions.revocation_list(call.context, call.actor(), project_id)
    return Response(content, media_type=CRL_TYPE)
