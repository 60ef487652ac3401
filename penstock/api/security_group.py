"""Security groups: who may reach whom."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import security_group as group_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.api.subnet import L4Port, Prefix
from penstock.base import limits
from penstock.domain.security_group import Scope
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/security-groups", tags=["networks"])


class SecurityGroupBody(Strict):
    """A new group: nothing may come in; everything may go out unless ``allow_egress`` is false."""

    network_id: Id
    name: Name
    description: Text = ""
    allow_egress: bool = True


class RuleBody(Strict):
    """What to let through. The other side is a prefix, a group of the same network, or (neither) anybody."""

    direction: Literal["in", "out"]
    protocol: Literal["any", "tcp", "udp", "icmp"]
    port_min: L4Port | None = None
    port_max: L4Port | None = None
    prefix: Prefix | None = None
    remote_group_id: Id | None = None
    description: Text = ""


class BindingBody(Strict):
    """What a group holds for: a port, a service, a subnet, a node (operators) or its whole network."""

    scope: Literal["port", "service", "subnet", "node", "network"]
    target_id: Id


class RuleOut(BaseModel):
    """A rule; its id stands in the flow log."""

    id: str
    direction: str
    protocol: str
    port_min: int | None
    port_max: int | None
    prefix: str | None
    remote_group_id: str | None
    description: str
    created_at: datetime


class BindingOut(BaseModel):
    """Something that a group holds for."""

    scope: str
    target_id: str


class SecurityGroupOut(BaseModel):
    """A security group."""

    id: str
    tenant_id: str
    project_id: str
    network_id: str
    name: str
    description: str
    rules: list[RuleOut]
    bindings: list[BindingOut]
    created_at: datetime


class SecurityGroupPage(BaseModel):
    """A page of security groups."""

    items: list[SecurityGroupOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a group as the API shows it."""
    shown = {name: row[name] for name in SecurityGroupOut.model_fields if name not in ("rules", "bindings")}
    bindings = [{"scope": one["scope"], "target_id": one["target_id"]} for one in row["bindings"]]
    return {**shown, "rules": [rule_out(rule) for rule in row["rules"]], "bindings": bindings}


def rule_out(rule: Row) -> dict[str, Any]:
    """Return a rule as the API shows it."""
    return {name: rule[name] for name in RuleOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": SecurityGroupOut}, **ERRORS})
def create(call: Caller, body: SecurityGroupBody) -> Response:
    """Make a security group of a network."""
    return answer(out(group_actions.create(call.context, call.actor(), **body.model_dump())), 201)


@router.get("", responses={200: {"model": SecurityGroupPage}, **ERRORS})
def list_security_groups(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    network_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the security groups that the caller may see, oldest first."""
    rows = group_actions.list_page(
        call.context, call.actor(), network_id=network_id, name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{security_group_id}", responses={200: {"model": SecurityGroupOut}, **ERRORS})
def show(call: Caller, security_group_id: PathId) -> Response:
    """Show one security group with its rules and what it is bound to."""
    return answer(out(group_actions.show(call.context, call.actor(), security_group_id)))


@router.delete("/{security_group_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, security_group_id: PathId) -> Response:
    """Delete a security group that is bound to nothing."""
    group_actions.delete(call.context, call.actor(), security_group_id)
    return Response(status_code=204)


@router.post("/{security_group_id}/rules", status_code=201, responses={201: {"model": RuleOut}, **ERRORS})
def add_rule(call: Caller, security_group_id: PathId, body: RuleBody) -> Response:
    """Let something through, on all hosts within seconds."""
    rule = group_actions.add_rule(call.context, call.actor(), security_group_id, **body.model_dump())
    return answer(rule_out(rule), 201)


@router.delete("/{security_group_id}/rules/{rule_id}", status_code=204, responses=ERRORS)
def remove_rule(call: Caller, security_group_id: PathId, rule_id: PathId) -> Response:
    """Let something through no longer; connections that stand because of it are cut."""
    group_actions.remove_rule(call.context, call.actor(), security_group_id, rule_id)
    return Response(status_code=204)


@router.post("/{security_group_id}/bindings", responses={200: {"model": SecurityGroupOut}, **ERRORS})
def bind(call: Caller, security_group_id: PathId, body: BindingBody) -> Response:
    """Make a group hold for a port, a service, a subnet, a node or its whole network."""
    row = group_actions.bind(call.context, call.actor(), security_group_id, Scope(body.scope), body.target_id)
    return answer(out(row))


@router.delete(
    "/{security_group_id}/bindings/{target_id}", responses={200: {"model": SecurityGroupOut}, **ERRORS}
)
def unbind(call: Caller, security_group_id: PathId, target_id: PathId) -> Response:
    """Make a group hold for a target no longer."""
    return answer(out(group_actions.unbind(call.context, call.actor(), security_group_id, target_id)))
