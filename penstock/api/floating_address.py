"""Floating addresses: outside addresses that lead to one port, and to another one later; a network's way out."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import floating_address as address_actions
from penstock.actions import network_part
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.api.network import NetworkOut
from penstock.api.network import out as network_out
from penstock.base import limits
from penstock.store.rows import Row
from penstock.store.schema import floating_address

router = APIRouter(prefix="/v1", tags=["networks"])


class FloatingAddressBody(Strict):
    """An address to take from a pool."""

    name: Name
    project_id: Id
    pool_id: Id
    description: Text = ""


class FloatingAddressPointer(Strict):
    """Where an address leads; null: nowhere."""

    port_id: Id | None


class WayOutBody(Strict):
    """The pool that a network goes out by; null: it does not."""

    pool_id: Id | None


class FloatingAddressOut(BaseModel):
    """A floating address; with ``egress`` it is a network's way out."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    description: str
    pool_id: str
    address: str
    port_id: str | None
    network_id: str | None
    egress: bool
    created_at: datetime


class FloatingAddressPage(BaseModel):
    """A page of floating addresses."""

    items: list[FloatingAddressOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return an address as the API shows it."""
    return {name: row[name] for name in FloatingAddressOut.model_fields}


@router.post("/floating-addresses", status_code=201, responses={201: {"model": FloatingAddressOut}, **ERRORS})
def create(call: Caller, body: FloatingAddressBody) -> Response:
    """Take the lowest free address of a pool."""
    return answer(out(address_actions.create(call.context, call.actor(), **body.model_dump())), 201)


@router.get("/floating-addresses", responses={200: {"model": FloatingAddressPage}, **ERRORS})
def list_floating_addresses(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    network_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the floating addresses that the caller may see, oldest first."""
    rows = network_part.list_page(
        call.context,
        call.actor(),
        floating_address,
        network_id=network_id,
        after=after,
        limit=limit + 1,
        equal={"name": name},
    )
    return page([out(row) for row in rows], limit)


@router.get("/floating-addresses/{address_id}", responses={200: {"model": FloatingAddressOut}, **ERRORS})
def show(call: Caller, address_id: PathId) -> Response:
    """Show one floating address."""
    return answer(out(network_part.show(call.context, call.actor(), floating_address, address_id)))


@router.put("/floating-addresses/{address_id}/port", responses={200: {"model": FloatingAddressOut}, **ERRORS})
def point(call: Caller, address_id: PathId, body: FloatingAddressPointer) -> Response:
    """Let an address lead to a port of its project, or nowhere; it moves within seconds."""
    return answer(out(address_actions.point(call.context, call.actor(), address_id, body.port_id)))


@router.delete("/floating-addresses/{address_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, address_id: PathId) -> Response:
    """Give an address back that leads nowhere."""
    address_actions.delete(call.context, call.actor(), address_id)
    return Response(status_code=204)


@router.put("/networks/{network_id}/way-out", responses={200: {"model": NetworkOut}, **ERRORS})
def set_way_out(call: Caller, network_id: PathId, body: WayOutBody) -> Response:
    """Let a network reach the outside, all of it by one address that stays; or no longer."""
    row = address_actions.set_way_out(call.context, call.actor(), network_id, body.pool_id)
    return answer(network_out(row))
