"""Nodes that carry networks, as the operator sets them up."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import network_host as host_actions
from penstock.api.edge import ERRORS, Caller, Strict, answer
from penstock.api.fields import TEXT_PATTERN, PathId
from penstock.api.network import Address
from penstock.api.subnet import Prefix
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["networks"])
FORBIDDEN_MAX = 64
DEVICE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class NetworkHostBody(Strict):
    """How a node carries networks."""

    underlay_address: Address = Field(description="where the other hosts reach it for VXLAN")
    external_bridge: str | None = Field(
        default=None,
        min_length=1,
        max_length=15,
        pattern=DEVICE_PATTERN,
        description="the bridge that leads outside",
    )
    driver: str | None = Field(default=None, max_length=32, pattern=TEXT_PATTERN)


class ForbiddenBody(Strict):
    """Prefixes that no guest may reach, whatever rules say."""

    prefixes: list[Prefix] = Field(max_length=FORBIDDEN_MAX)


class ForbiddenOut(BaseModel):
    """Prefixes that no guest may reach; the hosts' own addresses always are refused too."""

    prefixes: list[str]


class NetworkHostOut(BaseModel):
    """A node that carries networks."""

    node_id: str
    name: str
    state: str
    slot: int
    underlay_address: str
    external_bridge: str | None
    driver: str


class NetworkHostList(BaseModel):
    """All nodes that carry networks."""

    items: list[NetworkHostOut]


def out(row: Row) -> dict[str, Any]:
    """Return a host as the API shows it."""
    return {name: row[name] for name in NetworkHostOut.model_fields}


@router.get("/network-hosts", responses={200: {"model": NetworkHostList}, **ERRORS})
def list_network_hosts(call: Caller) -> Response:
    """List the nodes that carry networks."""
    return answer({"items": [out(row) for row in host_actions.every_host(call.context, call.actor())]})


@router.put("/network-hosts/{node_id}", responses={200: {"model": NetworkHostOut}, **ERRORS})
def put(call: Caller, node_id: PathId, body: NetworkHostBody) -> Response:
    """Make a node carry networks, or change how."""
    return answer(out(host_actions.put(call.context, call.actor(), node_id, **body.model_dump())))


@router.delete("/network-hosts/{node_id}", status_code=204, responses=ERRORS)
def remove(call: Caller, node_id: PathId) -> Response:
    """Make a node carry networks no longer; no port may be plugged in there."""
    host_actions.remove(call.context, call.actor(), node_id)
    return Response(status_code=204)


@router.get("/network-forbidden", responses={200: {"model": ForbiddenOut}, **ERRORS})
def show_forbidden(call: Caller) -> Response:
    """Show which prefixes no guest may reach."""
    return answer({"prefixes": host_actions.forbidden(call.context, call.actor())})


@router.put("/network-forbidden", responses={200: {"model": ForbiddenOut}, **ERRORS})
def put_forbidden(call: Caller, body: ForbiddenBody) -> Response:
    """Say which prefixes no guest may reach: the operator's own networks."""
    return answer({"prefixes": host_actions.set_forbidden(call.context, call.actor(), body.prefixes)})
