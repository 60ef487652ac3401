"""Routes: prefixes that are reached through a guest of the network."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import network_part
from penstock.actions import network_route as route_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.api.subnet import Prefix
from penstock.base import limits
from penstock.store.rows import Row
from penstock.store.schema import network_route

router = APIRouter(prefix="/v1/network-routes", tags=["networks"])


class NetworkRouteBody(Strict):
    """A prefix and the port behind which it is; that guest may send as it."""

    network_id: Id
    name: Name
    prefix: Prefix
    port_id: Id
    description: Text = ""


class NetworkRouteOut(BaseModel):
    """A route."""

    id: str
    tenant_id: str
    project_id: str
    network_id: str
    name: str
    prefix: str
    port_id: str
    description: str
    created_at: datetime


class NetworkRoutePage(BaseModel):
    """A page of routes."""

    items: list[NetworkRouteOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a route as the API shows it."""
    return {name: row[name] for name in NetworkRouteOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": NetworkRouteOut}, **ERRORS})
def create(call: Caller, body: NetworkRouteBody) -> Response:
    """Send a prefix to a port, for all of the network."""
    return answer(out(route_actions.create(call.context, call.actor(), **body.model_dump())), 201)


@router.get("", responses={200: {"model": NetworkRoutePage}, **ERRORS})
def list_network_routes(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    network_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the routes that the caller may see, oldest first."""
    rows = network_part.list_page(
        call.context,
        call.actor(),
        network_route,
        network_id=network_id,
        after=after,
        limit=limit + 1,
        equal={"name": name},
    )
    return page([out(row) for row in rows], limit)


@router.get("/{route_id}", responses={200: {"model": NetworkRouteOut}, **ERRORS})
def show(call: Caller, route_id: PathId) -> Response:
    """Show one route."""
    return answer(out(network_part.show(call.context, call.actor(), network_route, route_id)))


@router.delete("/{route_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, route_id: PathId) -> Response:
    """Remove a route."""
    route_actions.delete(call.context, call.actor(), route_id)
    return Response(status_code=204)
