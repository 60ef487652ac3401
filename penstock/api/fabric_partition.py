"""The fabric: where nodes are in it, and partitions of it by project."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import fabric_partition as partition_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.fabric_partition import MemberState, PartitionState, shown
from penstock.store.fabric_partition import Place
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["fabric"])


class FabricPartitionBody(Strict):
    """A partition key to take for a project."""

    name: Name
    project_id: Id
    description: Text = ""


class FabricPartitionNodes(Strict):
    """All nodes that operators want in a partition while its project has them to itself."""

    node_ids: list[Id] = Field(max_length=limits.NODES_PER_PARTITION_MAX)


class FabricPartitionOut(BaseModel):
    """A partition; ``pkey`` has the bit of full members set, as fabric managers write it.

    ``members`` are in it now, ``nodes`` those that operators want in it beside the nodes of services that ask for it.
    An ``automatic`` one was made for a service that named it and goes with the last one that does.
    """

    id: str
    tenant_id: str
    project_id: str
    name: str
    description: str
    pkey: str
    state: PartitionState
    reason: str
    automatic: bool
    repairs: int
    members: int
    nodes: int
    created_at: datetime


class FabricPartitionPage(BaseModel):
    """A page of partitions."""

    items: list[FabricPartitionOut]
    next: str | None


class FabricMemberOut(BaseModel):
    """A node of a partition: in it, joining, leaving, or refused and why."""

    node_id: str
    node: str
    state: MemberState
    reason: str
    since: datetime


class FabricMemberPage(BaseModel):
    """A page of nodes of a partition."""

    items: list[FabricMemberOut]
    next: str | None


class FabricNodePartition(BaseModel):
    """A partition that a node is in, or on its way into or out of."""

    id: str
    name: str
    pkey: str
    state: MemberState


class FabricNodeOut(BaseModel):
    """Where a node is in the fabric; ``pkeys`` are those of the partitions that it is a member of now."""

    node_id: str
    name: str
    rack: str | None
    leaf: str | None
    spine: str | None
    core: str | None
    nvlink_domains: list[str]
    pkeys: list[str]
    partitions: list[FabricNodePartition]
    simulated: bool


class FabricPage(BaseModel):
    """A page of nodes."""

    items: list[FabricNodeOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a partition as the API shows it."""
    known = {name: row[name] for name in FabricPartitionOut.model_fields if name not in ("pkey", "nodes")}
    return {**known, "pkey": shown(row["pkey"]), "nodes": len(row["node_ids"])}


@router.get("/fabric", responses={200: {"model": FabricPage}, **ERRORS})
def inventory(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    leaf: NameFilter = None,
    spine: NameFilter = None,
    core: NameFilter = None,
    nvlink_domain: NameFilter = None,
    partition_id: IdFilter = None,
) -> Response:
    """List where nodes are: rack, leaf, spine, core, NVLink domains, partitions with their keys; for operators."""
    place = Place(leaf, spine, core, nvlink_domain, partition_id)
    rows = partition_actions.inventory(call.context, call.actor(), place, after=after, limit=limit + 1)
    return page([_node_out(row) for row in rows], limit, key="node_id")


def _node_out(row: Row) -> dict[str, Any]:
    partitions = [
        {"id": one["id"], "name": one["name"], "pkey": shown(one["pkey"]), "state": one["state"]}
        for one in row["partitions"]
    ]
    pkeys = [one["pkey"] for one in partitions if one["state"] == MemberState.MEMBER]
    return {**row, "pkeys": pkeys, "partitions": partitions}


@router.post("/fabric-partitions", status_code=201, responses={201: {"model": FabricPartitionOut}, **ERRORS})
def create(call: Caller, body: FabricPartitionBody) -> Response:
    """Take a partition key of the InfiniBand fabric for a project."""
    return answer(out(partition_actions.create(call.context, call.actor(), **body.model_dump())), 201)


@router.get("/fabric-partitions", responses={200: {"model": FabricPartitionPage}, **ERRORS})
def list_fabric_partitions(
    call: Caller, limit: Limit = limits.PAGE_DEFAULT, after: After = None, name: NameFilter = None
) -> Response:
    """List the partitions that the caller may see, oldest first."""
    rows = partition_actions.list_page(call.context, call.actor(), name=name, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/fabric-partitions/{partition_id}", responses={200: {"model": FabricPartitionOut}, **ERRORS})
def show(call: Caller, partition_id: PathId) -> Response:
    """Show one partition."""
    return answer(out(partition_actions.show(call.context, call.actor(), partition_id)))


@router.get(
    "/fabric-partitions/{partition_id}/members", responses={200: {"model": FabricMemberPage}, **ERRORS}
)
def members(
    call: Caller, partition_id: PathId, limit: Limit = limits.PAGE_DEFAULT, after: After = None
) -> Response:
    """List the nodes of a partition: those in it, joining, leaving, and those that cannot join and why."""
    rows = partition_actions.members(call.context, call.actor(), partition_id, after=after, limit=limit + 1)
    return page(rows, limit, key="node_id")


@router.put(
    "/fabric-partitions/{partition_id}/nodes", responses={200: {"model": FabricPartitionOut}, **ERRORS}
)
def set_nodes(call: Caller, partition_id: PathId, body: FabricPartitionNodes) -> Response:
    """Say which nodes are to be in a partition while its project has them to itself, asked for or not; for operators."""
    return answer(out(partition_actions.set_nodes(call.context, call.actor(), partition_id, body.node_ids)))


@router.delete(
    "/fabric-partitions/{partition_id}",
    status_code=202,
    responses={202: {"model": FabricPartitionOut}, **ERRORS},
)
def delete(call: Caller, partition_id: PathId) -> Response:
    """Give a partition key back once no fabric manager has it any more; nothing may ask for the partition."""
    return answer(out(partition_actions.delete(call.context, call.actor(), partition_id)), 202)
