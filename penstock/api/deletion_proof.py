"""Proofs of deletion: signed statements that nothing is left of a document or a knowledge base."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import deletion_proof as proof_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, answer, page
from penstock.api.fields import IdFilter, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/deletion_proofs", tags=["deletion proofs"])
SHOWN = (
    "id",
    "tenant_id",
    "project_id",
    "knowledge_base_id",
    "subject_id",
    "state",
    "report",
    "signed_text",
    "signature",
    "public_key",
    "requested_by",
    "requested_at",
    "signed_at",
)


class DeletionProofOut(BaseModel):
    """A proof. ``signature`` is Ed25519 over ``signed_text`` in UTF-8; both it and ``public_key`` are base64.

    ``report`` is what ``signed_text`` says: what was removed, and that nothing is left.
    """

    id: str
    tenant_id: str
    project_id: str
    knowledge_base_id: str
    subject_id: str
    state: str
    report: dict[str, Any] | None
    signed_text: str | None
    signature: str | None
    public_key: str | None
    requested_by: str
    requested_at: datetime
    signed_at: datetime | None


class DeletionProofPage(BaseModel):
    """A page of proofs."""

    items: list[DeletionProofOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a proof as the API shows it."""
    return {name: row[name] for name in SHOWN}


@router.get("", responses={200: {"model": DeletionProofPage}, **ERRORS})
def list_proofs(
    call: Caller, limit: Limit = limits.PAGE_DEFAULT, after: After = None, subject_id: IdFilter = None
) -> Response:
    """List proofs, oldest first."""
    rows = proof_actions.list_page(
        call.context, call.actor(), subject_id=subject_id, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{proof_id}", responses={200: {"model": DeletionProofOut}, **ERRORS})
def show(call: Caller, proof_id: PathId) -> Response:
    """Show one proof; its state is `pending` until nothing is left."""
    return answer(out(proof_actions.show(call.context, call.actor(), proof_id)))
