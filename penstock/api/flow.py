"""Flows of networks, and counters of ports in JSON and in Prometheus' text format."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import AwareDatetime, BaseModel

from penstock.actions import flow as flow_actions
from penstock.api.edge import ERRORS, Caller, Limit, answer, page
from penstock.api.fields import INT64_MAX, IdFilter, PathId
from penstock.base import limits
from penstock.domain.flow import Verdict
from penstock.store.flow import COUNTS
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["networks"])
Since = Annotated[AwareDatetime | None, Query(description="not older than this")]
Until = Annotated[AwareDatetime | None, Query(description="older than this")]


class FlowOut(BaseModel):
    """One packet that began a connection or was dropped; ``rule`` is its rule's id, or a word such as default-in."""

    id: int
    at: datetime
    tenant_id: str
    project_id: str
    network_id: str
    port_id: str | None
    verdict: Verdict
    rule: str
    protocol: str
    source: str | None
    source_port: int | None
    target: str | None
    target_port: int | None


class FlowPage(BaseModel):
    """A page of flows, newest first; give ``next`` as ``before`` to go on."""

    items: list[FlowOut]
    next: str | None


class PortCounters(BaseModel):
    """What went through a port since it was plugged in, as its guest sees it; null until its host says so."""

    port_id: str
    received_bytes: int | None
    received_packets: int | None
    received_drops: int | None
    sent_bytes: int | None
    sent_packets: int | None
    sent_drops: int | None
    counted_at: datetime | None


def out(row: Row) -> dict[str, Any]:
    """Return a flow as the API shows it."""
    return {name: row[name] for name in FlowOut.model_fields}


@router.get("/flows", responses={200: {"model": FlowPage}, **ERRORS})
def list_flows(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    before: Annotated[
        int | None, Query(ge=1, le=INT64_MAX, description="the `next` of the page before")
    ] = None,
    network_id: IdFilter = None,
    port_id: IdFilter = None,
    verdict: Annotated[Verdict | None, Query(description="only accepts, or only drops")] = None,
    since: Since = None,
    until: Until = None,
) -> Response:
    """List flows of your networks, newest first, as far as each network's `flow_log` keeps them."""
    rows = flow_actions.list_page(
        call.context,
        call.actor(),
        equal={
            "network_id": network_id,
            "port_id": port_id,
            "verdict": None if verdict is None else verdict.value,
        },
        since=since,
        until=until,
        before=before,
        limit=limit + 1,
    )
    return page([out(row) for row in rows], limit)


@router.get("/ports/{port_id}/counters", responses={200: {"model": PortCounters}, **ERRORS})
def counters(call: Caller, port_id: PathId) -> Response:
    """Show what went through a port: bytes, packets and drops, at most a minute old while it is plugged in."""
    row = flow_actions.counters(call.context, call.actor(), port_id)
    return answer({name: row[name] for name in PortCounters.model_fields})


def text_of(rows: Iterable[Row], *, named: bool) -> str:
    """Return the counters of ports; ``named``: with the names that their owners gave them.

    Names of ports and nodes are letters, digits, dots and hyphens, so no label needs escaping.
    """
    labelled = [
        (
            f'port="{row["port_id"]}",network="{row["network_id"]}",host="{row["node_name"]}"'
            + (f',name="{row["name"]}"' if named else ""),
            row,
        )
        for row in rows
    ]
    lines: list[str] = []
    for name in COUNTS if labelled else ():
        family = f"penstock_port_{name}_total"
        way, _, what = name.partition("_")
        lines += [f"# HELP {family} {what.capitalize()} {way} by guests.", f"# TYPE {family} counter"]
        lines += [f"{family}{{{label}}} {row[name]}" for label, row in labelled]
    return "".join(f"{line}\n" for line in lines)


@router.get(
    "/port-series",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text"},
        **ERRORS,
    },
)
def series(call: Caller) -> Response:
    """Show the counters of your ports that are plugged in, at most 60 seconds old, in Prometheus' text format."""
    rows = flow_actions.own_series(call.context, call.actor())
    return Response(text_of(rows, named=True), media_type=CONTENT_TYPE_LATEST)
