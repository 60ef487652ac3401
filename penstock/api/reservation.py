"""Reservations: book (and dry-run), list, show, cancel."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import reservation as reservation_actions
from penstock.actions.order import Order
from penstock.actions.reservation import Asked
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Instant, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.reservation import RESERVATION_SENTENCES, ReservationState
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/reservations", tags=["reservations"])

BOOKING_SECONDS_MAX = int(limits.BOOKING_TIME_MAX.total_seconds())
SHOWN = (
    "id",
    "tenant_id",
    "project_id",
    "offer_id",
    "price_book_id",
    "name",
    "description",
    "kind",
    "spec",
    "device_class",
    "device_count",
    "simulated",
    "wanted",
    "state",
    "start_at",
    "end_at",
    "no_show_after_s",
    "used_at",
    "active_at",
    "over_at",
    "generation",
    "created_by",
    "created_at",
)


class ReservationBody(Strict):
    """A booking of what an offer's form describes, for a project, during an interval."""

    offer: str = Field(
        min_length=1, max_length=limits.NAME_CHARACTERS_MAX, description="name or id of an offer of devices"
    )
    project: str = Field(min_length=1, max_length=64, description="id of the project that books and pays")
    name: Name | None = Field(default=None, description="unique among reservations that are not over")
    description: Text = ""
    spec: dict[str, Any] = Field(default_factory=dict[str, Any], description="the offer's form, filled in")
    start_at: Instant | None = Field(default=None, description="null: now")
    end_at: Instant | None = Field(default=None, description="either this or duration_s")
    duration_s: int | None = Field(
        default=None, ge=60, le=BOOKING_SECONDS_MAX, description="how long, in place of end_at"
    )
    no_show_after_s: int | None = Field(
        default=limits.NO_SHOW_AFTER_SECONDS,
        ge=0,
        le=BOOKING_SECONDS_MAX,
        description="given back if nothing ran in it so long after its start; null: kept to its end",
    )

    def asked(self) -> Asked:
        """Return it as the action takes it."""
        return Asked(
            Order(self.offer, self.project, self.name, self.spec),
            self.start_at,
            self.end_at,
            self.duration_s,
            self.description,
            self.no_show_after_s,
        )


class InsideOut(BaseModel):
    """A service that was ordered into a reservation."""

    id: str
    name: str
    kind: str
    state: str
    wanted: str


class PieceOut(BaseModel):
    """A piece of a device that a reservation holds; operators see it."""

    node_id: str
    node: str
    device_id: str
    position: int
    device_class: str
    mask: int
    slices: int


class ReservationOut(BaseModel):
    """A reservation."""

    id: str
    tenant_id: str
    project_id: str
    offer_id: str
    price_book_id: str
    name: str
    description: str
    kind: str
    spec: dict[str, Any]
    device_class: str
    device_count: int
    simulated: bool
    wanted: str
    state: str
    state_sentence: str
    start_at: datetime
    end_at: datetime
    no_show_after_s: int | None
    used_at: datetime | None
    active_at: datetime | None
    over_at: datetime | None
    generation: int
    created_by: str
    created_at: datetime
    services: list[InsideOut] | None = None
    held: list[PieceOut] | None = None


class ReservationPage(BaseModel):
    """A page of reservations."""

    items: list[ReservationOut]
    next: str | None


class ReservationPlanOut(BaseModel):
    """What the calendar says to a booking; nothing was changed."""

    would_be_booked: bool
    start_at: datetime
    end_at: datetime
    earliest_start: datetime | None
    never_fits: bool
    reason: str
    device_class: str | None
    device_count: int
    price: dict[str, Any]
    quota: dict[str, Any] | None


def out(row: Row) -> dict[str, Any]:
    """Return a reservation as the API shows it."""
    shown: dict[str, Any] = {name: row[name] for name in SHOWN}
    shown["state_sentence"] = RESERVATION_SENTENCES[ReservationState(row["state"])]
    return shown | {name: row[name] for name in ("services", "held") if name in row}


@router.post(
    "",
    responses={
        200: {"model": ReservationPlanOut, "description": "a dry run"},
        201: {"model": ReservationOut, "description": "booked: the capacity is yours from its start on"},
        **ERRORS,
    },
    status_code=201,
)
def create(
    call: Caller,
    body: ReservationBody,
    *,
    dry_run: Annotated[bool, Query(description="say what the calendar says; change nothing")] = False,
) -> Response:
    """Book devices. Quotas count them from now on; nobody else gets them from the start to the end."""
    actor = call.actor()
    if dry_run:
        return answer(reservation_actions.dry_run(call.context, actor, body.asked()))
    return answer(out(reservation_actions.create(call.context, actor, body.asked())), 201)


@router.get("", responses={200: {"model": ReservationPage}, **ERRORS})
def list_reservations(
    call: Caller,
    *,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    project: Annotated[str | None, Query(max_length=64)] = None,
    state: Annotated[list[str] | None, Query(max_length=8)] = None,
    name: NameFilter = None,
) -> Response:
    """List reservations, oldest first."""
    rows = reservation_actions.list_page(
        call.context,
        call.actor(),
        project=project,
        states=state or (),
        name=name,
        after=after,
        limit=limit + 1,
    )
    return page([out(row) for row in rows], limit)


@router.get("/{reservation_id}", responses={200: {"model": ReservationOut}, **ERRORS})
def show(call: Caller, reservation_id: PathId) -> Response:
    """Show one reservation with the services in it."""
    return answer(out(reservation_actions.show(call.context, call.actor(), reservation_id)))


@router.delete("/{reservation_id}", responses={202: {"model": ReservationOut}, **ERRORS}, status_code=202)
def cancel(call: Caller, reservation_id: PathId) -> Response:
    """End a reservation. Before it begins nothing is owed; afterwards what runs in it is released."""
    return answer(out(reservation_actions.cancel(call.context, call.actor(), reservation_id)), 202)
