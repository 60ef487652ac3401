"""Power budgets, and what is held of power where."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import power_budget as power_budget_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, IdFilter, PathId, Title
from penstock.base import limits
from penstock.domain.power_budget import MW_PER_WATT, PowerLevel, watts
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["infrastructure"])

WATTS_MAX = 10_000_000_000
_LEVELS = "device, node, rack, row or site"
LevelFilter = Annotated[PowerLevel | None, Query(description="only of this level")]
AfterSubject = Annotated[
    str | None, Query(max_length=128, pattern=TEXT_PATTERN, description="`next` of the page before")
]


class PowerBudgetBody(Strict):
    """How much may be drawn where."""

    level: PowerLevel = Field(strict=False, description=_LEVELS)
    subject_id: Id = Field(description="id of the device, node, rack or site; for a row the site's")
    row: Title | None = Field(default=None, description="name of the row; with level row only")
    limit_watts: int = Field(ge=0, le=WATTS_MAX)


class PowerBudgetOut(BaseModel):
    """A budget with what it holds; ``headroom_watts`` is below 0 where more is held than may be."""

    id: str
    site_id: str
    site: str
    simulated: bool
    level: PowerLevel
    subject_id: str
    name: str
    limit_watts: int
    held_watts: int
    headroom_watts: int
    overcommitted: bool
    created_at: datetime


class PowerBudgetPage(BaseModel):
    """A page of budgets."""

    items: list[PowerBudgetOut]
    next: str | None


class PlaceOut(BaseModel):
    """A site, row, rack or node: planned watts with everything idle, with everything under load, and now; and its budget."""

    level: PowerLevel
    subject_id: str
    parent_id: str | None
    name: str
    site_id: str
    site: str
    simulated: bool
    nodes: int
    asleep: int
    idle_watts: int
    loaded_watts: int
    held_watts: int
    budget_id: str | None
    limit_watts: int | None
    headroom_watts: int | None
    overcommitted: bool


class PlacePage(BaseModel):
    """A page of places of one level, by subject."""

    items: list[PlaceOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a budget as the API shows it."""
    room_mw = row["limit_watts"] * MW_PER_WATT - row["held_mw"]
    shown = {
        **row,
        "held_watts": watts(row["held_mw"]),
        "headroom_watts": row["limit_watts"] - watts(row["held_mw"]),
        "overcommitted": room_mw < 0,
    }
    return {name: shown[name] for name in PowerBudgetOut.model_fields}


def place_out(row: Row, level: PowerLevel) -> dict[str, Any]:
    """Return a place as the API shows it."""
    limit, held = row["limit_watts"], watts(row["held_mw"])
    shown = {
        **row,
        "level": level,
        "idle_watts": watts(row["idle_mw"]),
        "loaded_watts": watts(row["load_mw"]),
        "held_watts": held,
        "headroom_watts": None if limit is None else limit - held,
        "overcommitted": limit is not None and row["held_mw"] > limit * MW_PER_WATT,
    }
    return {name: shown[name] for name in PlaceOut.model_fields}


@router.get("/power-budgets", responses={200: {"model": PowerBudgetPage}, **ERRORS})
def list_power_budgets(
    call: Caller,
    site: IdFilter = None,
    level: LevelFilter = None,
    after: After = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List power budgets with what they hold."""
    rows = power_budget_actions.page(
        call.context, call.actor(), site_id=site, level=level, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.put("/power-budgets", responses={200: {"model": PowerBudgetOut}, **ERRORS})
def put_power_budget(call: Caller, body: PowerBudgetBody) -> Response:
    """Set how much may be drawn somewhere; setting it again changes it. Below what is held: nothing is stopped, nothing more starts there."""
    row = power_budget_actions.put(
        call.context,
        call.actor(),
        level=body.level,
        subject_id=body.subject_id,
        row=body.row,
        limit_watts=body.limit_watts,
    )
    return answer(out(row))


@router.get("/power-budgets/{budget_id}", responses={200: {"model": PowerBudgetOut}, **ERRORS})
def get_power_budget(call: Caller, budget_id: PathId) -> Response:
    """Show one power budget with what it holds."""
    return answer(out(power_budget_actions.get(call.context, call.actor(), budget_id)))


@router.delete(
    "/power-budgets/{budget_id}", status_code=204, responses={204: {"description": "removed"}, **ERRORS}
)
def delete_power_budget(call: Caller, budget_id: PathId) -> Response:
    """Remove a power budget."""
    power_budget_actions.delete(call.context, call.actor(), budget_id)
    return Response(status_code=204)


@router.get("/power", responses={200: {"model": PlacePage}, **ERRORS})
def list_power(
    call: Caller,
    level: Annotated[
        Literal["site", "row", "rack", "node"], Query(description="site, row, rack or node")
    ] = "rack",
    site: IdFilter = None,
    after: AfterSubject = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List what is held of power in sites, rows, racks or nodes, beside their budgets. Planned, nothing is measured."""
    rows = power_budget_actions.places(
        call.context, call.actor(), site_id=site, level=PowerLevel(level), after=after, limit=limit + 1
    )
    return page([place_out(row, PowerLevel(level)) for row in rows], limit, key="subject_id")
