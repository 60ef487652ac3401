"""Load balancers: one address in a network that hands connections to those members that are well."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import load_balancer as balancer_actions
from penstock.actions.load_balancer import NewLoadBalancer
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.load_balancer import (
    INTERVAL_MS_MAX,
    INTERVAL_MS_MIN,
    LOAD_BALANCER_STATE_SENTENCES,
    STREAK_MAX,
    WEIGHT_MAX,
    Algorithm,
    CheckKind,
    MemberState,
    Mode,
)
from penstock.domain.security_group import PORT_MAX
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/load-balancers", tags=["networks"])
Address = Annotated[str, Field(min_length=7, max_length=15, pattern=TEXT_PATTERN)]
PortNumber = Annotated[int, Field(ge=1, le=PORT_MAX)]


def _one_of(words: Iterable[str]) -> str:
    return f"^({'|'.join(words)})$"


class Listener(Strict):
    """A port that is listened on. ``tcp`` passes connections as they are, ``https`` ends TLS with a certificate."""

    port: PortNumber
    mode: str = Field(default=Mode.TCP.value, pattern=_one_of(Mode))
    certificate_id: Id | None = None


class Member(Strict):
    """Who connections are handed to: a port of the network, a machine's port in it, or an address in one of its subnets."""

    port_id: Id | None = None
    vm_id: Id | None = None
    address: Address | None = None
    port: PortNumber
    weight: int = Field(default=1, ge=0, le=WEIGHT_MAX, description="0: nothing new, what it has goes on")


class HealthCheck(Strict):
    """How members are asked whether they are well: by a connection (``tcp``), or a request that 200 to 399 answers."""

    kind: str = Field(default=CheckKind.TCP.value, pattern=_one_of(CheckKind))
    path: str | None = Field(default=None, max_length=256, pattern=TEXT_PATTERN)
    interval_ms: int = Field(default=2_000, ge=INTERVAL_MS_MIN, le=INTERVAL_MS_MAX)
    rise: int = Field(default=2, ge=1, le=STREAK_MAX, description="good answers in a row until it is up")
    fall: int = Field(default=3, ge=1, le=STREAK_MAX, description="bad answers in a row until it is down")


Listeners = Annotated[list[Listener], Field(min_length=1, max_length=limits.LISTENERS_PER_BALANCER_MAX)]
Members = Annotated[list[Member], Field(max_length=limits.MEMBERS_PER_BALANCER_MAX)]
Balance = Annotated[str, Field(pattern=_one_of(Algorithm))]


class LoadBalancerBody(Strict):
    """A new load balancer; it gets a port of its own, with the address asked for or the lowest free one."""

    name: Name
    subnet_id: Id
    description: Text = ""
    address: Address | None = None
    security_group_ids: list[Id] = Field(default=[], max_length=limits.VM_GROUPS_MAX)
    algorithm: Balance = Algorithm.ROUNDROBIN.value
    listeners: Listeners
    members: Members = Field(default=[])
    health_check: HealthCheck = HealthCheck()


class LoadBalancerChange(Strict):
    """What may change; what is left out stays, lists are replaced as a whole. ``revision``: only if it is still that."""

    revision: int | None = Field(default=None, ge=1)
    description: Text | None = None
    algorithm: Balance | None = None
    listeners: Listeners | None = None
    members: Members | None = None
    health_check: HealthCheck | None = None


class ListenerOut(BaseModel):
    """A port that is listened on."""

    port: int
    mode: str
    certificate_id: str | None


class MemberOut(BaseModel):
    """A member with how it is: up, down, draining, unknown, gone; ``check`` is HAProxy's word for its last check."""

    port_id: str | None
    address: str
    port: int
    weight: int
    state: str
    check: str


class HealthCheckOut(BaseModel):
    """How members are asked."""

    kind: str
    path: str | None
    interval_ms: int
    rise: int
    fall: int


class LoadBalancerOut(BaseModel):
    """A load balancer. Counters go on when it moves or changes; what came between two reports (15 s) may be missing then."""

    id: str
    tenant_id: str
    project_id: str
    network_id: str
    subnet_id: str
    port_id: str
    name: str
    description: str
    address: str
    dns_name: str
    state: str
    state_sentence: str
    reason: str
    algorithm: str
    listeners: list[ListenerOut]
    members: list[MemberOut]
    health_check: HealthCheckOut
    wanted: str
    revision: int
    applied_revision: int
    sessions: int
    open_sessions: int
    received_bytes: int
    sent_bytes: int
    created_at: datetime


class LoadBalancerPage(BaseModel):
    """A page of load balancers."""

    items: list[LoadBalancerOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a load balancer as the API shows it."""
    shown = {**row, "state_sentence": LOAD_BALANCER_STATE_SENTENCES[row["state"]]}
    return {name: shown[name] for name in LoadBalancerOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": LoadBalancerOut}, **ERRORS})
def create(call: Caller, body: LoadBalancerBody) -> Response:
    """Make a load balancer in a subnet; its name is a name of the network's zone."""
    row = balancer_actions.create(call.context, call.actor(), NewLoadBalancer(**body.model_dump()))
    return answer(out(row), 201)


@router.get("", responses={200: {"model": LoadBalancerPage}, **ERRORS})
def list_load_balancers(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    network_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the load balancers that the caller may see, oldest first."""
    rows = balancer_actions.list_page(
        call.context, call.actor(), network_id=network_id, name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{load_balancer_id}", responses={200: {"model": LoadBalancerOut}, **ERRORS})
def show(call: Caller, load_balancer_id: PathId) -> Response:
    """Show one load balancer with the health of its members and its counters."""
    return answer(out(balancer_actions.show(call.context, call.actor(), load_balancer_id)))


@router.patch("/{load_balancer_id}", responses={200: {"model": LoadBalancerOut}, **ERRORS})
def update(call: Caller, load_balancer_id: PathId, body: LoadBalancerChange) -> Response:
    """Change a load balancer; connections that it has go on."""
    values = body.model_dump(exclude_unset=True)
    revision = values.pop("revision", None)
    given = {name: value for name, value in values.items() if value is not None}
    # Members and listeners take their defaults too: what was not set within them is not left out.
    for name in ("listeners", "members"):
        if name in given:
            given[name] = [one.model_dump() for one in getattr(body, name)]
    if body.health_check is not None:
        given["health_check"] = body.health_check.model_dump()
    row = balancer_actions.update(call.context, call.actor(), load_balancer_id, given, revision=revision)
    return answer(out(row))


@router.delete("/{load_balancer_id}", status_code=202, responses={202: {"model": LoadBalancerOut}, **ERRORS})
def delete(call: Caller, load_balancer_id: PathId) -> Response:
    """Delete a load balancer; it is gone once its host has taken it down."""
    return answer(out(balancer_actions.delete(call.context, call.actor(), load_balancer_id)), 202)


_FAMILIES = (
    ("penstock_load_balancer_sessions_total", "counter", "Connections taken.", "sessions"),
    ("penstock_load_balancer_received_bytes_total", "counter", "Received from clients.", "received_bytes"),
    ("penstock_load_balancer_sent_bytes_total", "counter", "Sent to clients.", "sent_bytes"),
)


def text_of(rows: Iterable[Row]) -> str:
    """Return the counters of load balancers and how many members are in which state, in Prometheus' text format."""
    listed = list(rows)
    if not listed:
        return ""
    lines: list[str] = []
    for name, kind, words, column in _FAMILIES:
        lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
        lines += [f'{name}{{load_balancer="{row["id"]}"}} {row[column]}' for row in listed]
    name = "penstock_load_balancer_members"
    lines += [f"# HELP {name} Members by state.", f"# TYPE {name} gauge"]
    for row in listed:
        states = [words[0] for words in row["health"].values()]
        lines += [
            f'{name}{{load_balancer="{row["id"]}",state="{state}"}} {states.count(state)}'
            for state in MemberState
            if state is not MemberState.GONE
        ]
    return "".join(f"{line}\n" for line in lines)
