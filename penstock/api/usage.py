"""Usage: who consumed what in a time, and what it costs."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import usage as usage_actions
from penstock.actions.usage import UsageAsked
from penstock.api.edge import ERRORS, Caller, Limit, answer
from penstock.api.fields import IdFilter
from penstock.base import limits

router = APIRouter(prefix="/v1/usage", tags=["usage"])

From = Annotated[
    datetime | None,
    Query(alias="from", description="start, with offset; default: the first of the running month, UTC"),
]
To = Annotated[
    datetime | None,
    Query(description="end, not included, with offset; default: the end of the running month, UTC"),
]


class UsageItemOut(BaseModel):
    """One group. Fields that were not grouped by are null; ``item`` and version also where lines differ."""

    tenant_id: str | None
    project_id: str | None
    service_id: str | None
    key_id: str | None
    meter: str
    item: str | None
    quantity: int
    unit: str
    amount_microeur: int | None
    price_book_version: int | None
    simulated: bool


class UnpricedOut(BaseModel):
    """Something used that the price book of its order does not price."""

    price_book_id: str
    meter: str
    item: str


class UsageOut(BaseModel):
    """Usage in micro-euro, device-microseconds and tokens; ``total_microeur`` is of what has a price."""

    from_: datetime = Field(alias="from")
    to: datetime
    items: list[UsageItemOut]
    total_microeur: int
    simulated_microeur: int
    unpriced: list[UnpricedOut]
    next: str | None


@router.get("", responses={200: {"model": UsageOut}, **ERRORS})
def show_usage(
    call: Caller,
    *,
    from_: From = None,
    to: To = None,
    group_by: Annotated[
        str,
        Query(max_length=64, description="comma-separated: tenant, project, service, key, model, meter"),
    ] = "meter",
    tenant: IdFilter = None,
    project: IdFilter = None,
    service: IdFilter = None,
    limit: Limit = limits.PAGE_DEFAULT,
    after: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,9}$", description="the `next` of the page before")
    ] = None,
) -> Response:
    """Show usage, always apart by meter and by simulated or real. Totals are of all pages."""
    actor = call.actor()
    asked = UsageAsked(
        start=from_,
        end=to,
        group_by=usage_actions.dimensions(group_by),
        tenant_id=tenant,
        project_id=project,
        service_id=service,
    )
    shown = usage_actions.show(call.context, actor, asked)
    first = int(after or 0)
    items = shown["items"]
    more = len(items) > first + limit
    return answer(
        {**shown, "items": items[first : first + limit], "next": str(first + limit) if more else None}
    )
