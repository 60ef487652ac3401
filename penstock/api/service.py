"""Services: order (and dry-run), list, show, release."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import plan as plan_actions
from penstock.actions import service as service_actions
from penstock.actions.order import Order, When
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, Instant
from penstock.base import limits
from penstock.domain.knowledge_base import base_id_of
from penstock.domain.service import PHASES, REASON_SENTENCES, STATE_SENTENCES, Reason, ServiceState
from penstock.domain.weights import fetching_sentence
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/services", tags=["services"])

ORDER_SECONDS_MAX = int(limits.ORDER_TIME_MAX.total_seconds())
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
SHOWN = (
    "id",
    "tenant_id",
    "project_id",
    "offer_id",
    "kind",
    "name",
    "spec",
    "simulated",
    "wanted",
    "state",
    "reason",
    "message",
    "generation",
    "price_book_id",
    "ordered_by",
    "reservation_id",
    "ends_at",
    "duration_s",
)


class OrderBody(Strict):
    """An order of an offer for a project."""

    offer: str = Field(
        min_length=1, max_length=limits.NAME_CHARACTERS_MAX, description="name or id of an offer"
    )
    project: str = Field(min_length=1, max_length=64, description="id of the project that orders and pays")
    name: str | None = Field(
        default=None,
        max_length=limits.NAME_CHARACTERS_MAX,
        pattern=NAME_PATTERN,
        description="unique among live services",
    )
    spec: dict[str, Any] = Field(default_factory=dict[str, Any], description="the offer's form, filled in")
    start_at: Instant | None = Field(
        default=None, description="book its place for then; needs until or duration_s. null: now"
    )
    until: Instant | None = Field(default=None, description="it is released then. null: when you release it")
    duration_s: int | None = Field(
        default=None, ge=60, le=ORDER_SECONDS_MAX, description="how long it is to run, in place of until"
    )
    reservation: Id | None = Field(default=None, description="run inside this reservation and end with it")

    def when(self) -> When:
        """Return when it is to run."""
        return When(self.start_at, self.until, self.duration_s, self.reservation)


class PhaseOut(BaseModel):
    """One stamped moment and the seconds since the order."""

    phase: str
    at: datetime
    seconds_since_order: float


class AllocationOut(BaseModel):
    """One part of a service on one node."""

    id: str
    node_id: str
    node_name: str
    driver: str
    wanted: str
    phase: str
    code: str | None
    message: str | None
    draining: bool
    simulated: bool


class ServiceOut(BaseModel):
    """A service."""

    id: str
    tenant_id: str
    project_id: str
    offer_id: str
    kind: str
    name: str
    spec: dict[str, Any]
    simulated: bool | None
    wanted: str
    state: str
    state_sentence: str
    reason: str
    message: str
    generation: int
    price_book_id: str
    ordered_by: str
    reservation_id: str | None
    ends_at: datetime | None
    duration_s: int | None
    release_at: datetime | None
    phases: list[PhaseOut]
    order_to_first_token_seconds: float | None
    knowledge_base_id: str | None  # of kind rag: what its documents go into; its proof of deletion names it
    allocations: list[AllocationOut] | None = None


class ServicePage(BaseModel):
    """A page of services."""

    items: list[ServiceOut]
    next: str | None


class PlanOut(BaseModel):
    """What an order would cost and where it would go; nothing was changed.

    ``never_fits``: no release could ever make room for it in this factory.
    """

    would_start_now: bool
    would_stop: int
    earliest_start: datetime | None
    never_fits: bool
    reason: str
    price: dict[str, Any]
    quota: dict[str, Any] | None
    placement: list[dict[str, Any]]
    alternatives: list[dict[str, Any]]


def out(row: Row) -> dict[str, Any]:
    """Return a service as the API shows it."""
    ordered: datetime = row["ordered_at"]
    phases = [
        {
            "phase": phase.sentence,
            "at": row[phase.column],
            "seconds_since_order": (row[phase.column] - ordered).total_seconds(),
        }
        for phase in PHASES
        if row.get(phase.column) is not None
    ]
    first_token = row.get("first_token_at")
    shown: dict[str, Any] = {name: row[name] for name in SHOWN} | {"release_at": row.get("release_at")}
    shown["knowledge_base_id"] = base_id_of(row["id"]) if row["kind"] == "rag" else None
    shown["state_sentence"] = STATE_SENTENCES[ServiceState(row["state"])]
    shown["message"] = row["message"] or REASON_SENTENCES[Reason(row["reason"])]
    shown["phases"] = sorted(phases, key=lambda phase: phase["at"])
    shown["order_to_first_token_seconds"] = (first_token - ordered).total_seconds() if first_token else None
    if "allocations" in row:
        shown["message"] = fetching_sentence(row["allocations"]) or shown["message"]
        shown["allocations"] = [
            {
                "id": a["id"],
                "node_id": a["node_id"],
                "node_name": a["node_name"],
                "driver": a["driver"],
                "wanted": a["wanted"],
                "phase": a["phase"],
                "code": a["code"],
                "message": a["message"],
                "draining": a["draining_at"] is not None,
                "simulated": a["node_simulated"],
            }
            for a in row["allocations"]
        ]
    return shown


@router.post(
    "",
    responses={
        200: {
            "model": PlanOut,
            "description": "a dry run, or the replay of an order with the same Idempotency-Key",
        },
        202: {"model": ServiceOut, "description": "accepted; it is started in the background"},
        **ERRORS,
    },
    status_code=202,
)
def order(
    call: Caller,
    body: OrderBody,
    *,
    dry_run: Annotated[bool, Query(description="plan and price only; change nothing")] = False,
    idempotency_key: Annotated[
        str | None, Header(max_length=limits.IDEMPOTENCY_KEY_CHARACTERS_MAX, pattern=r"^[\x21-\x7e]+$")
    ] = None,
) -> Response:
    """Order an offer. The same Idempotency-Key and body give the same service, however often they are sent."""
    actor = call.actor()
    asked = Order(body.offer, body.project, body.name, body.spec, idempotency_key, body.when())
    if dry_run:
        return answer(plan_actions.dry_run(call.context, actor, asked))
    row, is_new = service_actions.order(call.context, actor, asked)
    return answer(out(row), 202 if is_new else 200)


@router.get("", responses={200: {"model": ServicePage}, **ERRORS})
def list_services(
    call: Caller,
    *,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    project: Annotated[str | None, Query(max_length=64)] = None,
    state: Annotated[list[str] | None, Query(max_length=8)] = None,
    kind: Annotated[str | None, Query(max_length=32)] = None,
    name: Annotated[str | None, Query(max_length=limits.NAME_CHARACTERS_MAX)] = None,
) -> Response:
    """List services, oldest first."""
    rows = service_actions.list_page(
        call.context,
        call.actor(),
        project=project,
        states=state or (),
        kind=kind,
        name=name,
        after=after,
        limit=limit + 1,
    )
    return page([out(row) for row in rows], limit)


@router.get("/{service_id}", responses={200: {"model": ServiceOut}, **ERRORS})
def show(call: Caller, service_id: str) -> Response:
    """Show one service with its phases and parts."""
    return answer(out(service_actions.show(call.context, call.actor(), service_id)))


@router.delete("/{service_id}", responses={202: {"model": ServiceOut}, **ERRORS}, status_code=202)
def release(
    call: Caller,
    service_id: str,
    grace_s: Annotated[
        int,
        Query(
            ge=0,
            le=limits.RELEASE_GRACE_SECONDS_MAX,
            description="run on, and be paid for, so many seconds more; `/keep` takes it back until then",
        ),
    ] = 0,
) -> Response:
    """Release a service; what it held is given back and its meter stops. Repeating it is harmless."""
    row = service_actions.release(call.context, call.actor(), service_id, grace_s=grace_s)
    return answer(out(row), 202)


@router.post("/{service_id}/keep", responses={200: {"model": ServiceOut}, **ERRORS})
def keep(call: Caller, service_id: str) -> Response:
    """Take back a release whose grace is not over. Repeating it is harmless."""
    return answer(out(service_actions.keep(call.context, call.actor(), service_id)))


@router.get("/{service_id}/explain", responses={200: {"description": "the decision in words"}, **ERRORS})
def explain(call: Caller, service_id: str) -> Response:
    """Say why it is where it is, or why it waits and which change would start it now."""
    return answer(plan_actions.explain_service(call.context, call.actor(), service_id))
