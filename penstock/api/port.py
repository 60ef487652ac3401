"""Ports: where guests are plugged into a network, with addresses that stay."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import network_part
from penstock.actions import port as port_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.store.rows import Row
from penstock.store.schema import port

router = APIRouter(prefix="/v1/ports", tags=["networks"])
KBIT_MAX = 1_000_000_000
GROUPS_MAX = 16
Rate = Annotated[int, Field(ge=8, le=KBIT_MAX)]


class PortBody(Strict):
    """A new port; without an address it gets the lowest free one of its subnet."""

    subnet_id: Id
    name: Name
    description: Text = ""
    address: str | None = Field(default=None, min_length=7, max_length=15, pattern=TEXT_PATTERN)
    security_group_ids: list[Id] = Field(default=[], max_length=GROUPS_MAX)
    egress_kbit_per_second: Rate | None = Field(
        default=None, description="how much it may send; more is dropped"
    )
    service_id: Id | None = None


class PortChange(Strict):
    """What may change about a port."""

    egress_kbit_per_second: Rate | None = Field(description="how much it may send; null: as much as there is")


class PortPlace(Strict):
    """Where a port is plugged in; null unplugs it."""

    node_id: Id | None


class PortOut(BaseModel):
    """A port; its address and MAC are for life."""

    id: str
    tenant_id: str
    project_id: str
    network_id: str
    subnet_id: str
    name: str
    description: str
    address: str
    mac: str
    service_id: str | None
    egress_kbit_per_second: int | None
    created_at: datetime


class PortPage(BaseModel):
    """A page of ports."""

    items: list[PortOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a port as the API shows it."""
    return {name: row[name] for name in PortOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": PortOut}, **ERRORS})
def create(call: Caller, body: PortBody) -> Response:
    """Make a port. Nobody reaches it until a security group lets them."""
    return answer(out(port_actions.create(call.context, call.actor(), **body.model_dump())), 201)


@router.get("", responses={200: {"model": PortPage}, **ERRORS})
def list_ports(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    network_id: IdFilter = None,
    subnet_id: IdFilter = None,
    service_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the ports that the caller may see, oldest first."""
    rows = network_part.list_page(
        call.context,
        call.actor(),
        port,
        network_id=network_id,
        after=after,
        limit=limit + 1,
        equal={"name": name, "subnet_id": subnet_id, "service_id": service_id},
    )
    return page([out(row) for row in rows], limit)


@router.get("/{port_id}", responses={200: {"model": PortOut}, **ERRORS})
def show(call: Caller, port_id: PathId) -> Response:
    """Show one port."""
    return answer(out(network_part.show(call.context, call.actor(), port, port_id)))


@router.patch("/{port_id}", responses={200: {"model": PortOut}, **ERRORS})
def update(call: Caller, port_id: PathId, body: PortChange) -> Response:
    """Change how much a port may send."""
    return answer(out(port_actions.update(call.context, call.actor(), port_id, **body.model_dump())))


@router.put("/{port_id}/node", responses={200: {"model": PortOut}, **ERRORS})
def place(call: Caller, port_id: PathId, body: PortPlace) -> Response:
    """Plug a port in on a node, or unplug it; for operators, for what no service of ours places."""
    return answer(out(port_actions.place(call.context, call.actor(), port_id, body.node_id)))


@router.delete("/{port_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, port_id: PathId) -> Response:
    """Delete a port that no service, floating address or route uses."""
    port_actions.delete(call.context, call.actor(), port_id)
    return Response(status_code=204)
