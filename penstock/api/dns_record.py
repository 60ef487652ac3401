"""Records of a network's private zone."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import dns_record as record_actions
from penstock.actions import network_part
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, IdFilter, NameFilter, PathId, Text
from penstock.base import limits
from penstock.store.rows import Row
from penstock.store.schema import dns_record

router = APIRouter(prefix="/v1/dns-records", tags=["networks"])


class DnsRecordBody(Strict):
    """A record of the zone; ``name`` is relative to it, or @ for the zone itself."""

    network_id: Id
    name: str = Field(min_length=1, max_length=190, pattern=TEXT_PATTERN)
    type: Literal["A", "CNAME", "TXT"]
    value: str = Field(min_length=1, max_length=255, pattern=TEXT_PATTERN)
    description: Text = ""


class DnsRecordOut(BaseModel):
    """A record."""

    id: str
    tenant_id: str
    project_id: str
    network_id: str
    name: str
    type: str
    value: str
    description: str
    created_at: datetime


class DnsRecordPage(BaseModel):
    """A page of records."""

    items: list[DnsRecordOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a record as the API shows it."""
    return {name: row[name] for name in DnsRecordOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": DnsRecordOut}, **ERRORS})
def create(call: Caller, body: DnsRecordBody) -> Response:
    """Write a record; ports are in the zone by themselves, under their names."""
    values = body.model_dump()
    row = record_actions.create(call.context, call.actor(), kind=values.pop("type"), **values)
    return answer(out(row), 201)


@router.get("", responses={200: {"model": DnsRecordPage}, **ERRORS})
def list_dns_records(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    network_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the records that the caller may see, oldest first."""
    rows = network_part.list_page(
        call.context,
        call.actor(),
        dns_record,
        network_id=network_id,
        after=after,
        limit=limit + 1,
        equal={"name": name},
    )
    return page([out(row) for row in rows], limit)


@router.get("/{record_id}", responses={200: {"model": DnsRecordOut}, **ERRORS})
def show(call: Caller, record_id: PathId) -> Response:
    """Show one record."""
    return answer(out(network_part.show(call.context, call.actor(), dns_record, record_id)))


@router.delete("/{record_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, record_id: PathId) -> Response:
    """Remove a record."""
    record_actions.delete(call.context, call.actor(), record_id)
    return Response(status_code=204)
