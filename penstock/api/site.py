"""Sites: where hardware stands."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import site as site_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, answer, page
from penstock.api.fields import NameFilter, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/sites", tags=["infrastructure"])


class SiteOut(BaseModel):
    """A site; everything in a simulated one is simulated."""

    id: str
    name: str
    simulated: bool
    timezone: str
    nodes: int
    created_at: datetime


class SitePage(BaseModel):
    """A page of sites."""

    items: list[SiteOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a site as the API shows it."""
    return {name: row[name] for name in SiteOut.model_fields}


@router.get("", responses={200: {"model": SitePage}, **ERRORS})
def list_sites(
    call: Caller,
    simulated: bool | None = None,  # noqa: FBT001 - a query parameter
    name: NameFilter = None,
    after: After = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List sites."""
    actor = call.actor()
    rows = site_actions.page(
        call.context, actor, simulated=simulated, name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{site_id}", responses={200: {"model": SiteOut}, **ERRORS})
def get_site(call: Caller, site_id: PathId) -> Response:
    """Show one site."""
    actor = call.actor()
    return answer(out(site_actions.get(call.context, actor, site_id)))
