"""Public records of tenants, and the zone that the operator serves them in."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field, StringConstraints

from penstock.actions import public_record as record_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.public_record import TTL_DEFAULT_SECONDS, TTL_SECONDS_MAX, TTL_SECONDS_MIN, PublicZone
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["networks"])
Host = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=TEXT_PATTERN)]


class PublicDnsBody(Strict):
    """The operator's zone that tenants' names stand in, and its name servers; null: none is served."""

    suffix: Host | None
    name_servers: list[Host] = Field(default=[], max_length=8)


class PublicDnsOut(BaseModel):
    """The zone that is served, and the caller's own part of it."""

    suffix: str | None
    name_servers: list[str]
    zone: str | None


class PublicRecordBody(Strict):
    """A record; ``name`` is relative to the tenant's zone, or @ for that zone itself."""

    project_id: Id
    name: str = Field(min_length=1, max_length=190, pattern=TEXT_PATTERN)
    type: Literal["A", "AAAA", "CNAME", "TXT"]
    value: str = Field(min_length=1, max_length=255, pattern=TEXT_PATTERN)
    ttl_seconds: int = Field(default=TTL_DEFAULT_SECONDS, ge=TTL_SECONDS_MIN, le=TTL_SECONDS_MAX)
    description: Text = ""


class PublicRecordOut(BaseModel):
    """A record; ``full_name`` is null while no zone is served."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    full_name: str | None
    type: str
    value: str
    ttl_seconds: int
    description: str
    created_at: datetime


class PublicRecordPage(BaseModel):
    """A page of records."""

    items: list[PublicRecordOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a record as the API shows it."""
    return {name: row[name] for name in PublicRecordOut.model_fields}


def _zone(named: PublicZone | None, own: str | None) -> dict[str, Any]:
    servers = [] if named is None else list(named.name_servers)
    return {"suffix": None if named is None else named.suffix, "name_servers": servers, "zone": own}


@router.get("/public-dns", responses={200: {"model": PublicDnsOut}, **ERRORS})
def show_public_dns(call: Caller) -> Response:
    """Show which zone is served to the world, and your part of it."""
    return answer(_zone(*record_actions.zone(call.context, call.actor())))


@router.put("/public-dns", responses={200: {"model": PublicDnsOut}, **ERRORS})
def put_public_dns(call: Caller, body: PublicDnsBody) -> Response:
    """Name the zone that tenants' public names stand in, or none; for operators."""
    return answer(_zone(record_actions.set_zone(call.context, call.actor(), **body.model_dump()), None))


@router.post("/public-records", status_code=201, responses={201: {"model": PublicRecordOut}, **ERRORS})
def create(call: Caller, body: PublicRecordBody) -> Response:
    """Write a public record; it is answered for seconds later."""
    values = body.model_dump()
    row = record_actions.create(call.context, call.actor(), kind=values.pop("type"), **values)
    return answer(out(row), 201)


@router.get("/public-records", responses={200: {"model": PublicRecordPage}, **ERRORS})
def list_public_records(
    call: Caller, limit: Limit = limits.PAGE_DEFAULT, after: After = None, name: NameFilter = None
) -> Response:
    """List the public records that the caller may see, oldest first."""
    rows = record_actions.list_page(call.context, call.actor(), name=name, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/public-records/{record_id}", responses={200: {"model": PublicRecordOut}, **ERRORS})
def show(call: Caller, record_id: PathId) -> Response:
    """Show one public record."""
    return answer(out(record_actions.show(call.context, call.actor(), record_id)))


@router.delete("/public-records/{record_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, record_id: PathId) -> Response:
    """Remove a public record."""
    record_actions.delete(call.context, call.actor(), record_id)
    return Response(status_code=204)
