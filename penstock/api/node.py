"""Nodes: list, show, cordon, retire; and rehearsals on simulated ones."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import node as node_actions
from penstock.api.device import DeviceOut
from penstock.api.device import out as device_out
from penstock.api.edge import ERRORS, After, Caller, Limit, answer, page
from penstock.api.fields import IdFilter, NameFilter, PathId
from penstock.base import limits
from penstock.domain.fabric_partition import MemberState, shown
from penstock.drivers.base import InjectsFaults
from penstock.store.rows import Row

router = APIRouter(tags=["infrastructure"])

NodeState = Literal["ready", "unreachable", "recovering", "retired"]


class NodeOut(BaseModel):
    """A node. ``memory_bytes`` is what services may have of it, without the operating system's reserve."""

    id: str
    site_id: str
    site: str
    rack_id: str | None
    rack: str | None
    agent_id: str
    agent: str
    agent_state: str
    agent_last_seen_at: datetime
    name: str
    simulated: bool
    cordoned: bool
    state: NodeState
    state_message: str
    architecture: str
    cpu_model: str
    cpu_cores: int
    cpu_threads: int
    memory_bytes: int
    memory_used_bytes: int
    memory_free_bytes: int
    cpu_millis: int
    cpu_used_millis: int
    cpu_free_millis: int
    drivers: list[str]
    leaf: str | None
    spine: str | None
    core: str | None
    notes: list[str]
    devices_total: int
    devices_used: int
    devices_free: int
    devices_unhealthy: int
    device_classes: list[str]
    generation: int
    created_at: datetime


class NodeAllocationOut(BaseModel):
    """Something a service wants or has on a node; ``service_id`` null: it carries a network, a volume or the like."""

    id: str
    service_id: str | None
    tenant_id: str
    project_id: str
    driver: str
    wanted: str
    phase: str
    code: str | None
    message: str | None
    endpoint: str | None
    busy_permille: int | None
    observed_at: datetime | None


class NodePartitionOut(BaseModel):
    """A partition of the fabric that a node is in, joins, leaves, or cannot join and why."""

    id: str
    name: str
    tenant_id: str
    project_id: str
    pkey: str
    state: MemberState
    reason: str
    since: datetime


class HostCheckOut(BaseModel):
    """How well a part of a host is, as its agent saw it at ``seen_at``; ``unknown`` if that was over a minute ago."""

    name: str
    state: Literal["ok", "warning", "bad", "unknown"]
    message: str
    since: datetime
    seen_at: datetime


class NodeDetail(NodeOut):
    """A node with its parts, its devices, what runs on it and how well it is."""

    numa: list[dict[str, Any]]
    disks: list[dict[str, Any]]
    nics: list[dict[str, Any]]
    devices: list[DeviceOut]
    allocations: list[NodeAllocationOut]
    checks: list[HostCheckOut]
    partitions: list[NodePartitionOut]


class NodePage(BaseModel):
    """A page of nodes."""

    items: list[NodeOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a node as a list shows it; the row has counts of its devices."""
    more = {
        "devices_total": row["devices"],
        "devices_free": row["devices"] - row["devices_used"] - row["devices_unhealthy"],
        "memory_free_bytes": max(0, row["memory_bytes"] - row["memory_used_bytes"]),
        "cpu_free_millis": max(0, row["cpu_millis"] - row["cpu_used_millis"]),
    }
    return {name: more[name] if name in more else row[name] for name in NodeOut.model_fields}


def detail(row: Row) -> dict[str, Any]:
    """Return a node with everything about it."""
    devices: list[Row] = row["devices"]
    counted = {
        **row,
        "devices": len(devices),
        "devices_used": sum(1 for device in devices if device["used_mask"]),
        "devices_unhealthy": sum(
            1 for device in devices if device["health"] != "ok" and not device["used_mask"]
        ),
        "device_classes": sorted({device["device_class"] for device in devices}),
    }
    return {
        **out(counted),
        "numa": row["numa"],
        "disks": row["disks"],
        "nics": row["nics"],
        "devices": [device_out(device) for device in devices],
        "allocations": [
            {name: found[name] for name in NodeAllocationOut.model_fields} for found in row["allocations"]
        ],
        "checks": [{name: found[name] for name in HostCheckOut.model_fields} for found in row["checks"]],
        "partitions": [{**found, "pkey": shown(found["pkey"])} for found in row["partitions"]],
    }


@router.get("/v1/nodes", responses={200: {"model": NodePage}, **ERRORS})
def list_nodes(
    call: Caller,
    site: IdFilter = None,
    rack: IdFilter = None,
    agent: IdFilter = None,
    state: NodeState | None = None,
    name: NameFilter = None,
    simulated: bool | None = None,  # noqa: FBT001 - a query parameter
    cordoned: bool | None = None,  # noqa: FBT001 - a query parameter
    after: After = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List nodes; ``site``, ``rack`` and ``agent`` are ids."""
    actor = call.actor()
    filters = {
        "site_id": site,
        "rack_id": rack,
        "agent_id": agent,
        "state": state,
        "name": name,
        "simulated": simulated,
        "cordoned": cordoned,
    }
    rows = node_actions.page(call.context, actor, filters=filters, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/v1/nodes/{node_id}", responses={200: {"model": NodeDetail}, **ERRORS})
def get_node(call: Caller, node_id: PathId) -> Response:
    """Show one node with its devices and what runs on it."""
    actor = call.actor()
    return answer(detail(node_actions.get(call.context, actor, node_id)))


@router.post("/v1/nodes/{node_id}/cordon", responses={200: {"model": NodeDetail}, **ERRORS})
def cordon_node(call: Caller, node_id: PathId) -> Response:
    """Keep new work off a node; what runs there goes on."""
    actor = call.actor()
    return answer(detail(node_actions.cordon(call.context, actor, node_id, cordoned=True)))


@router.post("/v1/nodes/{node_id}/uncordon", responses={200: {"model": NodeDetail}, **ERRORS})
def uncordon_node(call: Caller, node_id: PathId) -> Response:
    """Let new work come to a node again."""
    actor = call.actor()
    return answer(detail(node_actions.cordon(call.context, actor, node_id, cordoned=False)))


@router.post("/v1/nodes/{node_id}/retire", responses={200: {"model": NodeDetail}, **ERRORS})
def retire_node(call: Caller, node_id: PathId) -> Response:
    """Take a node that holds nothing out of service for good; its history stays."""
    actor = call.actor()
    return answer(detail(node_actions.retire(call.context, actor, node_id)))


@router.post("/v1/nodes/{node_id}/write-off", responses={200: {"model": NodeDetail}, **ERRORS})
def write_off_node(call: Caller, node_id: PathId) -> Response:
    """Declare that an unreachable node runs nothing any more, so that what waits for its word goes on."""
    actor = call.actor()
    return answer(detail(node_actions.write_off(call.context, actor, node_id)))


@router.post("/v1/simulated/nodes/{node_id}/fail", responses={200: {"model": NodeDetail}, **ERRORS})
def fail_simulated_node(call: Caller, request: Request, node_id: PathId) -> Response:
    """Rehearse: make a simulated node fall silent, as if its power were gone. Real nodes are refused."""
    actor = call.actor()
    return answer(detail(node_actions.rehearse(call.context, actor, _injectors(request), node_id, fail=True)))


@router.post("/v1/simulated/nodes/{node_id}/heal", responses={200: {"model": NodeDetail}, **ERRORS})
def heal_simulated_node(call: Caller, request: Request, node_id: PathId) -> Response:
    """Rehearse: bring a simulated node back."""
    actor = call.actor()
    return answer(
        detail(node_actions.rehearse(call.context, actor, _injectors(request), node_id, fail=False))
    )


def _injectors(request: Request) -> dict[str, InjectsFaults]:
    """Return the simulated sites of this process by site id."""
    injectors: dict[str, InjectsFaults] = request.app.state.control_plane.fault_injectors
    return injectors
