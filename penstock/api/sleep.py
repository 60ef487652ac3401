"""Nodes that sleep: what may, what does, and asking for either."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import sleep as sleep_actions
from penstock.api.edge import ERRORS, Caller, Limit, answer
from penstock.api.fields import PathId
from penstock.base import limits
from penstock.domain.power_budget import watts
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["infrastructure"])


class SleeperOut(BaseModel):
    """A node that may sleep (``idle_s``, ``saved_watts``), or that sleeps, falls asleep or wakes."""

    id: str
    name: str
    site_id: str
    site: str
    simulated: bool
    power_wanted: Literal["on", "off"]
    power_state: Literal["on", "waking", "off"]
    power_at: datetime | None
    idle_s: int | None
    saved_watts: int | None


class SleeperList(BaseModel):
    """Nodes, at most as many as asked for."""

    items: list[SleeperOut]
    next: str | None


class NodePowerOut(BaseModel):
    """What is wanted of a node's power, and what is."""

    id: str
    name: str
    simulated: bool
    power_wanted: Literal["on", "off"]
    power_state: Literal["on", "waking", "off"]


def out(row: Row) -> dict[str, Any]:
    """Return a node as this list shows it."""
    shown = {**row, "idle_s": row.get("idle_s")}
    shown["saved_watts"] = None if "saved_mw" not in row else watts(row["saved_mw"])
    return {name: shown[name] for name in SleeperOut.model_fields}


@router.get("/power/sleep", responses={200: {"model": SleeperList}, **ERRORS})
def list_sleep(
    call: Caller,
    state: Annotated[
        Literal["proposed", "asleep"],
        Query(description="proposed: may sleep now; asleep: sleeps, falls asleep or wakes"),
    ] = "proposed",
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List nodes that may be powered down now, the longest idle first, or those that sleep."""
    actor = call.actor()
    if state == "proposed":
        rows = sleep_actions.proposed(call.context, actor)[:limit]
    else:
        rows = sleep_actions.asleep(call.context, actor, limit)
    return answer({"items": [out(row) for row in rows], "next": None})


@router.post("/nodes/{node_id}/sleep", responses={200: {"model": NodePowerOut}, **ERRORS})
def sleep_node(call: Caller, node_id: PathId) -> Response:
    """Accept a proposal: power a node down. It is woken by the first order or booking that needs it."""
    row = sleep_actions.sleep(call.context, call.actor(), node_id)
    return answer({name: row[name] for name in NodePowerOut.model_fields})


@router.post("/nodes/{node_id}/wake", responses={200: {"model": NodePowerOut}, **ERRORS})
def wake_node(call: Caller, node_id: PathId) -> Response:
    """Wake a node that sleeps."""
    row = sleep_actions.wake(call.context, call.actor(), node_id)
    return answer({name: row[name] for name in NodePowerOut.model_fields})
