"""Peerings of networks: asked for, answered, ended."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import network_peering as peering_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.network_peering import PeeringState
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/network-peerings", tags=["networks"])
StateFilter = Annotated[PeeringState | None, Query(description="only those that are so far")]


class NetworkPeeringBody(Strict):
    """A network of yours, and the id of another one: of this or another project, or of another tenant."""

    network_id: Id
    peer_network_id: Id
    name: Name
    description: Text = ""


class NetworkPeeringOut(BaseModel):
    """A peering; ``peer_prefixes`` are empty to whoever asked until it is accepted."""

    id: str
    name: str
    description: str
    tenant_id: str
    project_id: str
    network_id: str
    prefixes: list[str]
    peer_tenant_id: str
    peer_project_id: str
    peer_network_id: str
    peer_prefixes: list[str]
    state: PeeringState
    created_at: datetime
    accepted_at: datetime | None


class NetworkPeeringPage(BaseModel):
    """A page of peerings."""

    items: list[NetworkPeeringOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a peering as the API shows it."""
    return {name: row[name] for name in NetworkPeeringOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": NetworkPeeringOut}, **ERRORS})
def create(call: Caller, body: NetworkPeeringBody) -> Response:
    """Ask for a peering; nothing passes until the other network's project has accepted."""
    return answer(out(peering_actions.request(call.context, call.actor(), **body.model_dump())), 201)


@router.get("", responses={200: {"model": NetworkPeeringPage}, **ERRORS})
def list_network_peerings(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    network_id: IdFilter = None,
    name: NameFilter = None,
    state: StateFilter = None,
) -> Response:
    """List the peerings with a network of yours on either side, oldest first."""
    rows = peering_actions.list_page(
        call.context,
        call.actor(),
        network_id=network_id,
        name=name,
        state=None if state is None else state.value,
        after=after,
        limit=limit + 1,
    )
    return page([out(row) for row in rows], limit)


@router.get("/{peering_id}", responses={200: {"model": NetworkPeeringOut}, **ERRORS})
def show(call: Caller, peering_id: PathId) -> Response:
    """Show one peering."""
    return answer(out(peering_actions.show(call.context, call.actor(), peering_id)))


@router.post("/{peering_id}/accept", responses={200: {"model": NetworkPeeringOut}, **ERRORS})
def accept(call: Caller, peering_id: PathId) -> Response:
    """Accept for the network that was asked: its prefixes and the other's are routed to each other."""
    return answer(out(peering_actions.accept(call.context, call.actor(), peering_id)))


@router.post("/{peering_id}/refuse", status_code=204, responses=ERRORS)
def refuse(call: Caller, peering_id: PathId) -> Response:
    """Refuse for the network that was asked; the request goes."""
    peering_actions.refuse(call.context, call.actor(), peering_id)
    return Response(status_code=204)


@router.delete("/{peering_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, peering_id: PathId) -> Response:
    """End a peering, from either side."""
    peering_actions.delete(call.context, call.actor(), peering_id)
    return Response(status_code=204)
