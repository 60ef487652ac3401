"""Subnets: prefixes of a network."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import network_part
from penstock.actions import subnet as subnet_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.security_group import PORT_MAX
from penstock.store.rows import Row
from penstock.store.schema import subnet

router = APIRouter(prefix="/v1/subnets", tags=["networks"])
Prefix = Annotated[str, Field(min_length=7, max_length=18, pattern=TEXT_PATTERN)]
L4Port = Annotated[int, Field(ge=1, le=PORT_MAX)]


class AclEntry(Strict):
    """One line of an ACL; the first that fits decides. ``prefix`` is the other side."""

    action: Literal["allow", "deny"]
    direction: Literal["in", "out"]
    protocol: Literal["any", "tcp", "udp", "icmp"] = "any"
    port_min: L4Port | None = None
    port_max: L4Port | None = None
    prefix: Prefix | None = None


Acl = Annotated[list[AclEntry], Field(max_length=limits.ACL_ENTRIES_MAX)]
Options = Annotated[dict[str, Any], Field(max_length=limits.DHCP_OPTIONS_MAX)]


class SubnetBody(Strict):
    """A new subnet; its first address is its router, name server and DHCP server."""

    network_id: Id
    name: Name
    prefix: Prefix
    description: Text = ""
    dhcp_options: Options = Field(
        default={},
        description="by name: dns-server, ntp-server, domain-name, domain-search, mtu, lease-seconds, ...",
    )
    acl: Acl = Field(
        default=[], description="what crosses the subnet's edge, in order; nothing fits: it passes"
    )


class SubnetChange(Strict):
    """What may change about a subnet; what is left out stays."""

    description: Text | None = None
    dhcp_options: Options | None = None
    acl: Acl | None = None


class SubnetOut(BaseModel):
    """A subnet."""

    id: str
    tenant_id: str
    project_id: str
    network_id: str
    name: str
    description: str
    prefix: str
    gateway: str
    dhcp_options: dict[str, Any]
    acl: list[dict[str, Any]]
    created_at: datetime


class SubnetPage(BaseModel):
    """A page of subnets."""

    items: list[SubnetOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a subnet as the API shows it."""
    return {name: row[name] for name in SubnetOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": SubnetOut}, **ERRORS})
def create(call: Caller, body: SubnetBody) -> Response:
    """Make a subnet. Prefixes may be those of other networks, not of the same one."""
    return answer(out(subnet_actions.create(call.context, call.actor(), **body.model_dump())), 201)


@router.get("", responses={200: {"model": SubnetPage}, **ERRORS})
def list_subnets(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    network_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the subnets that the caller may see, oldest first."""
    rows = network_part.list_page(
        call.context,
        call.actor(),
        subnet,
        network_id=network_id,
        after=after,
        limit=limit + 1,
        equal={"name": name},
    )
    return page([out(row) for row in rows], limit)


@router.get("/{subnet_id}", responses={200: {"model": SubnetOut}, **ERRORS})
def show(call: Caller, subnet_id: PathId) -> Response:
    """Show one subnet."""
    return answer(out(network_part.show(call.context, call.actor(), subnet, subnet_id)))


@router.patch("/{subnet_id}", responses={200: {"model": SubnetOut}, **ERRORS})
def update(call: Caller, subnet_id: PathId, body: SubnetChange) -> Response:
    """Change description, DHCP options or ACL of a subnet."""
    values = body.model_dump(exclude_none=True)
    return answer(out(subnet_actions.update(call.context, call.actor(), subnet_id, values)))


@router.delete("/{subnet_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, subnet_id: PathId) -> Response:
    """Delete a subnet without ports."""
    subnet_actions.delete(call.context, call.actor(), subnet_id)
    return Response(status_code=204)
