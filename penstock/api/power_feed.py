"""Power feeds and what they may deliver."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import power_feed as power_feed_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import IdFilter, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/power-feeds", tags=["infrastructure"])

WATTS_MAX = 10_000_000_000


class BudgetBody(Strict):
    """What a feed may deliver."""

    budget_watts: int = Field(ge=0, le=WATTS_MAX, description="0: nobody knows")


class PowerFeedOut(BaseModel):
    """A power feed; ``budget_watts`` is null where nobody stated it."""

    id: str
    site_id: str
    site: str
    simulated: bool
    name: str
    level: str
    budget_watts: int | None


class PowerFeedPage(BaseModel):
    """A page of power feeds."""

    items: list[PowerFeedOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a feed as the API shows it."""
    return {
        **{name: row[name] for name in PowerFeedOut.model_fields},
        "budget_watts": row["budget_watts"] or None,
    }


@router.get("", responses={200: {"model": PowerFeedPage}, **ERRORS})
def list_power_feeds(
    call: Caller,
    site: IdFilter = None,
    after: After = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List power feeds."""
    actor = call.actor()
    rows = power_feed_actions.page(call.context, actor, site_id=site, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/{feed_id}", responses={200: {"model": PowerFeedOut}, **ERRORS})
def get_power_feed(call: Caller, feed_id: PathId) -> Response:
    """Show one power feed."""
    actor = call.actor()
    return answer(out(power_feed_actions.get(call.context, actor, feed_id)))


@router.put("/{feed_id}/budget", responses={200: {"model": PowerFeedOut}, **ERRORS})
def set_power_feed_budget(call: Caller, feed_id: PathId, body: BudgetBody) -> Response:
    """State what a feed may deliver."""
    actor = call.actor()
    return answer(out(power_feed_actions.set_budget(call.context, actor, feed_id, body.budget_watts)))
