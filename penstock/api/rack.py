"""Racks of a site."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import rack as rack_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import IdFilter, NameFilter, PathId, Title
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/racks", tags=["infrastructure"])


class RackOut(BaseModel):
    """A rack, its feed and what stands in it."""

    id: str
    site_id: str
    site: str
    name: str
    simulated: bool
    power_feed_id: str | None
    power_feed: str | None
    budget_watts: int | None
    row: str | None
    nodes: int
    devices: int
    devices_used: int


class RowBody(Strict):
    """The row a rack stands in."""

    row: Title | None = Field(description="a name within the site; null: none")


class RackPage(BaseModel):
    """A page of racks."""

    items: list[RackOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a rack as the API shows it; a budget that nobody stated is null."""
    shown = {**row, "row": row["row_name"], "budget_watts": row["budget_watts"] or None}
    return {name: shown[name] for name in RackOut.model_fields}


@router.get("", responses={200: {"model": RackPage}, **ERRORS})
def list_racks(
    call: Caller,
    site: IdFilter = None,
    name: NameFilter = None,
    after: After = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List racks."""
    actor = call.actor()
    rows = rack_actions.page(call.context, actor, site_id=site, name=name, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/{rack_id}", responses={200: {"model": RackOut}, **ERRORS})
def get_rack(call: Caller, rack_id: PathId) -> Response:
    """Show one rack."""
    actor = call.actor()
    return answer(out(rack_actions.get(call.context, actor, rack_id)))


@router.put("/{rack_id}/row", responses={200: {"model": RackOut}, **ERRORS})
def set_rack_row(call: Caller, rack_id: PathId, body: RowBody) -> Response:
    """Say which row a rack stands in, so that the row can have a power budget."""
    return answer(out(rack_actions.set_row(call.context, call.actor(), rack_id, body.row)))
