"""The logs of hosts: what their agents and libvirtd said last."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import host_log as log_actions
from penstock.api.edge import ERRORS, Caller, Limit, page
from penstock.api.fields import INT64_MAX, PathId
from penstock.base import limits

router = APIRouter(tags=["infrastructure"])

Source = Literal["agent", "libvirtd"]
Level = Literal["debug", "info", "warning", "error"]
FromLevel = Annotated[Level | None, Query(description="only lines of this level and above")]
Before = Annotated[int | None, Query(ge=1, le=INT64_MAX, description="the `next` of the page before")]


class HostLogLineOut(BaseModel):
    """A line that ``source`` wrote at ``at``, by the host's clock."""

    id: int
    at: datetime
    source: Source
    level: Level
    text: str


class HostLogPage(BaseModel):
    """A page of lines."""

    items: list[HostLogLineOut]
    next: str | None


@router.get("/v1/nodes/{node_id}/log", responses={200: {"model": HostLogPage}, **ERRORS})
def list_node_log(
    call: Caller,
    node_id: PathId,
    source: Source | None = None,
    level: FromLevel = None,
    before: Before = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List the lines of a host's logs, newest first: the newest 1,000 of each log, for 7 days."""
    rows = log_actions.page(
        call.context, call.actor(), node_id, source=source, level=level, before=before, limit=limit + 1
    )
    return page(rows, limit)
