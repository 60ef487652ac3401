"""Networks: a project's own addresses, names and rules on shared hosts."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import network as network_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.flow import FlowLog
from penstock.domain.network import MTU_DEFAULT, MTU_MAX, MTU_MIN
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/networks", tags=["networks"])
Address = Annotated[str, Field(min_length=7, max_length=15, pattern=TEXT_PATTERN)]
Forwarders = Annotated[list[Address], Field(max_length=limits.DNS_FORWARDERS_MAX)]


class NetworkBody(Strict):
    """A new network. ``dns_zone`` is where its names live, by default ``<name>.internal``."""

    name: Name
    project_id: Id
    description: Text = ""
    mtu: int = Field(default=MTU_DEFAULT, ge=MTU_MIN, le=MTU_MAX)
    dns_zone: str | None = Field(default=None, max_length=253, pattern=TEXT_PATTERN)
    dns_forwarders: Forwarders = Field(
        default=[], description="name servers that are asked for names outside the zone"
    )


class NetworkChange(Strict):
    """What may change about a network; what is left out stays."""

    description: Text | None = None
    dns_forwarders: Forwarders | None = None
    flow_log: Literal["all", "drops", "none"] | None = Field(
        default=None, description="which flows `GET /v1/flows` shows: all, drops, none"
    )


class NetworkOut(BaseModel):
    """A network. Its hosts have everything that was asked for once ``applied_revision`` is ``revision``."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    description: str
    vni: int
    mtu: int
    dns_zone: str
    dns_forwarders: list[str]
    flow_log: FlowLog
    egress_pool_id: str | None
    egress_address: str | None
    wanted: str
    revision: int
    applied_revision: int
    created_at: datetime


class NetworkPage(BaseModel):
    """A page of networks."""

    items: list[NetworkOut]
    next: str | None


class NetworkOnHost(BaseModel):
    """How far a network is on one node."""

    node_id: str
    wanted: str
    generation: int
    phase: str
    phase_generation: int
    code: str | None
    message: str | None


class NetworkHosts(BaseModel):
    """The nodes that carry a network."""

    items: list[NetworkOnHost]


def out(row: Row) -> dict[str, Any]:
    """Return a network as the API shows it."""
    return {name: row[name] for name in NetworkOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": NetworkOut}, **ERRORS})
def create(call: Caller, body: NetworkBody) -> Response:
    """Make an empty network; subnets give it addresses."""
    row = network_actions.create(call.context, call.actor(), **body.model_dump())
    return answer(out(row), 201)


@router.get("", responses={200: {"model": NetworkPage}, **ERRORS})
def list_networks(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    project_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the networks that the caller may see, oldest first."""
    rows = network_actions.list_page(
        call.context, call.actor(), project_id=project_id, name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{network_id}", responses={200: {"model": NetworkOut}, **ERRORS})
def show(call: Caller, network_id: PathId) -> Response:
    """Show one network."""
    return answer(out(network_actions.show(call.context, call.actor(), network_id)))


@router.get("/{network_id}/hosts", responses={200: {"model": NetworkHosts}, **ERRORS})
def hosts(call: Caller, network_id: PathId) -> Response:
    """Show how far a network is on each node; for operators."""
    return answer({"items": network_actions.hosts(call.context, call.actor(), network_id)})


@router.patch("/{network_id}", responses={200: {"model": NetworkOut}, **ERRORS})
def update(call: Caller, network_id: PathId, body: NetworkChange) -> Response:
    """Change description, name servers or flow log of a network."""
    values = body.model_dump(exclude_none=True)
    return answer(out(network_actions.update(call.context, call.actor(), network_id, values)))


@router.delete("/{network_id}", status_code=202, responses={202: {"model": NetworkOut}, **ERRORS})
def delete(call: Caller, network_id: PathId) -> Response:
    """Delete a network without ports; it is gone once no host carries it any more."""
    return answer(out(network_actions.delete(call.context, call.actor(), network_id)), 202)
