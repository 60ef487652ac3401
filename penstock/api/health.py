"""Liveness and metrics, for machines."""

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from penstock import __version__
from penstock.actions import deletion_proof as proof_actions
from penstock.api.edge import ERRORS, Caller, answer
from penstock.base.errors import UnavailableError
from penstock.store import service as service_store

router = APIRouter(tags=["health"])


class HealthOut(BaseModel):
    """How the control plane is."""

    status: str
    version: str
    database: str
    deletions: str


@router.get(
    "/healthz", responses={200: {"model": HealthOut}, 503: {"model": HealthOut, "description": "degraded"}}
)
def healthz(call: Caller) -> Response:
    """Say whether this process serves and reaches its database; no credential needed."""
    body = {"status": "ok", "version": __version__, "database": "ok", "deletions": "ok"}
    try:
        with call.context.db.reading() as connection:
            service_store.next_due(connection)
        if waiting := proof_actions.waiting(call.context):
            body["deletions"] = (
                f"{waiting} wait for an engine that has the factory's signing key (PENSTOCK_SIGNING_KEY_FILE), or has time"
            )
    except UnavailableError as error:
        return answer(body | {"status": "degraded", "database": error.sentence}, 503)
    return answer(body)


@router.get(
    "/metrics",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text"},
        **ERRORS,
    },
)
def metrics() -> Response:
    """Return the metrics of this process in Prometheus' text format; no credential needed, no tenant named."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
