"""Maintenance windows, for operators: plan (and see first what moves), list, show, cancel."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import maintenance as maintenance_actions
from penstock.actions.maintenance import Window
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, Instant, Name, NameFilter, PathId, Text
from penstock.api.reservation import BOOKING_SECONDS_MAX
from penstock.base import limits
from penstock.domain.reservation import RESERVATION_SENTENCES, ReservationState
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/maintenance", tags=["maintenance"])

SHOWN = (
    "id",
    "name",
    "description",
    "simulated",
    "wanted",
    "state",
    "start_at",
    "end_at",
    "active_at",
    "over_at",
    "generation",
    "created_by",
    "created_at",
)


class MaintenanceBody(Strict):
    """Nodes, or all nodes of racks, that go out of work for an interval."""

    nodes: list[Id] = Field(default_factory=list[str], max_length=limits.MAINTENANCE_TARGETS_MAX)
    racks: list[Id] = Field(default_factory=list[str], max_length=limits.MAINTENANCE_TARGETS_MAX)
    name: Name | None = None
    description: Text = Field(default="", description="why; tenants do not see it")
    start_at: Instant | None = Field(default=None, description="null: now")
    end_at: Instant | None = Field(default=None, description="either this or duration_s")
    duration_s: int | None = Field(
        default=None, ge=60, le=BOOKING_SECONDS_MAX, description="how long, in place of end_at"
    )

    def window(self) -> Window:
        """Return it as the action takes it."""
        return Window(
            self.nodes, self.racks, self.start_at, self.end_at, self.duration_s, self.name, self.description
        )


class NodeOut(BaseModel):
    """A node that goes out of work."""

    id: str
    name: str
    rack: str | None


class AffectedOut(BaseModel):
    """A service on the nodes and what becomes of it."""

    id: str
    name: str
    kind: str
    tenant_id: str
    project_id: str
    state: str
    nodes: list[str]
    fate: str
    sentence: str


class BookedOut(BaseModel):
    """A booking that is in the way of a window."""

    id: str
    name: str
    tenant_id: str
    start_at: datetime
    end_at: datetime
    nodes: list[str]


class MaintenancePlanOut(BaseModel):
    """What a window would do; nothing was changed. ``drains``: its nodes will be empty when it begins."""

    would_be_planned: bool
    drains: bool
    reason: str
    start_at: datetime
    end_at: datetime
    devices: int
    nodes: list[NodeOut]
    services: list[AffectedOut]
    bookings: list[BookedOut]


class MaintenanceOut(BaseModel):
    """A window. ``services`` are those that are on its nodes still."""

    id: str
    name: str
    description: str
    simulated: bool
    wanted: str
    state: str
    state_sentence: str
    start_at: datetime
    end_at: datetime
    active_at: datetime | None
    over_at: datetime | None
    generation: int
    created_by: str
    created_at: datetime
    devices: int
    nodes: list[NodeOut] | None = None
    services: list[AffectedOut] | None = None


class MaintenancePage(BaseModel):
    """A page of windows."""

    items: list[MaintenanceOut]
    next: str | None


def _only(rows: list[Row], model: type[BaseModel]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in model.model_fields} for row in rows]


def out(row: Row) -> dict[str, Any]:
    """Return a window as the API shows it."""
    shown: dict[str, Any] = {name: row[name] for name in SHOWN}
    shown["state_sentence"] = RESERVATION_SENTENCES[ReservationState(row["state"])]
    shown["devices"] = row["device_count"]
    if "nodes" in row:
        shown["nodes"] = _only(row["nodes"], NodeOut)
        shown["services"] = _only(row["services"], AffectedOut)
    return shown


@router.post(
    "",
    responses={
        200: {"model": MaintenancePlanOut, "description": "a dry run"},
        201: {"model": MaintenanceOut, "description": "planned"},
        **ERRORS,
    },
    status_code=201,
)
def create(
    call: Caller,
    body: MaintenanceBody,
    *,
    dry_run: Annotated[
        bool, Query(description="say what would move and what cannot; change nothing")
    ] = False,
) -> Response:
    """Take nodes out of work for an interval. Nothing new that reaches into it is placed there from now on."""
    actor = call.actor()
    if dry_run:
        told = maintenance_actions.plan(call.context, actor, body.window())
        lists = {
            "services": _only(told["services"], AffectedOut),
            "bookings": _only(told["bookings"], BookedOut),
        }
        return answer({**told, **lists})
    return answer(out(maintenance_actions.create(call.context, actor, body.window())), 201)


@router.get("", responses={200: {"model": MaintenancePage}, **ERRORS})
def list_maintenance(
    call: Caller,
    *,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    state: Annotated[list[str] | None, Query(max_length=8)] = None,
    name: NameFilter = None,
) -> Response:
    """List windows, oldest first."""
    rows = maintenance_actions.list_page(
        call.context, call.actor(), states=state or (), name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{maintenance_id}", responses={200: {"model": MaintenanceOut}, **ERRORS})
def show(call: Caller, maintenance_id: PathId) -> Response:
    """Show one window with its nodes and what is on them still."""
    return answer(out(maintenance_actions.show(call.context, call.actor(), maintenance_id)))


@router.delete("/{maintenance_id}", responses={202: {"model": MaintenanceOut}, **ERRORS}, status_code=202)
def cancel(call: Caller, maintenance_id: PathId) -> Response:
    """End a window: planned, it never happens; begun, its nodes come back to work."""
    return answer(out(maintenance_actions.cancel(call.context, call.actor(), maintenance_id)), 202)
