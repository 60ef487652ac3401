"""The fabric: where nodes are in it, and partitions of it by project."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import fabric_partition as partition_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.fabric_partition import shown
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["fabric"])


class FabricPartitionBody(Strict):
    """A partition key to take for a project."""

    name: Name
    project_id: Id
    description: Text = ""


class FabricPartitionNodes(Strict):
    """All nodes that are in a partition."""

    node_ids: list[Id] = Field(max_length=limits.NODES_PER_PARTITION_MAX)


class FabricPartitionOut(BaseModel):
    """A partition; ``pkey`` has the bit of full members set, as fabric managers write it."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    description: str
    pkey: str
    nodes: int
    created_at: datetime


class FabricPartitionPage(BaseModel):
    """A page of partitions."""

    items: list[FabricPartitionOut]
    next: str | None


class FabricNodeOut(BaseModel):
    """Where a node is in the fabric."""

    node_id: str
    name: str
    rack: str | None
    leaf: str | None
    spine: str | None
    core: str | None
    nvlink_domains: list[str]
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
def inventory(call: Caller, limit: Limit = limits.PAGE_DEFAULT, after: After = None) -> Response:
    """List where nodes are: rack, leaf, spine, core, NVLink domains; for operators."""
    rows = partition_actions.inventory(call.context, call.actor(), after=after, limit=limit + 1)
    return page(rows, limit, key="node_id")


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


@router.put(
    "/fabric-partitions/{partition_id}/nodes", responses={200: {"model": FabricPartitionOut}, **ERRORS}
)
def set_nodes(call: Caller, partition_id: PathId, body: FabricPartitionNodes) -> Response:
    """Say which nodes are in a partition; for operators."""
    return answer(out(partition_actions.set_nodes(call.context, call.actor(), partition_id, body.node_ids)))


@router.delete("/fabric-partitions/{partition_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, partition_id: PathId) -> Response:
    """Give a partition key back; no node may be in the partition."""
    partition_actions.delete(call.context, call.actor(), partition_id)
    return Response(status_code=204)
