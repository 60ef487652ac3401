"""Liveness and metrics, for machines."""

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from penstock import __version__
from penstock.actions import deletion_proof as proof_actions
from penstock.actions import flow as flow_actions
from penstock.actions import load_balancer as balancer_actions
from penstock.actions import vm_series as series_actions
from penstock.api.edge import ERRORS, Caller, answer
from penstock.api.flow import text_of as ports_text
from penstock.api.load_balancer import text_of as balancers_text
from penstock.api.vm_series import text_of
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
def metrics(call: Caller) -> Response:
    """Return the metrics of this process and the counters of machines, ports and load balancers in Prometheus' text format.

    No credential is needed and no tenant is named: all are named by their ids.
    """
    try:
        machines = text_of(series_actions.every_one(call.context), named=False)
        machines += balancers_text(balancer_actions.series(call.context))
        machines += ports_text(flow_actions.every_series(call.context), named=False)
    except UnavailableError:
        machines = ""  # whoever watches still learns of this process
    return Response(generate_latest() + machines.encode(), media_type=CONTENT_TYPE_LATEST)
