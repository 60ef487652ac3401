"""Emptying hosts: what would happen to each machine, and letting it happen. For operators."""

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import vm_move as move_actions
from penstock.api.edge import ERRORS, Caller, answer
from penstock.api.fields import PathId

router = APIRouter(prefix="/v1/nodes", tags=["infrastructure"])


class DrainLine(BaseModel):
    """One machine of a host: where it goes, or why it stays."""

    vm_id: str
    name: str
    to_node_id: str | None
    to_node_name: str | None
    stays_because: str | None


class DrainOut(BaseModel):
    """What happens to the machines of a host."""

    items: list[DrainLine]


@router.get("/{node_id}/drain", responses={200: {"model": DrainOut}, **ERRORS})
def plan(call: Caller, node_id: PathId) -> Response:
    """Show where each machine of a host would go, and which stays and why. Changes nothing."""
    return answer({"items": move_actions.drain_plan(call.context, call.actor(), node_id)})


@router.post("/{node_id}/drain", status_code=202, responses={202: {"model": DrainOut}, **ERRORS})
def drain(call: Caller, node_id: PathId) -> Response:
    """Take no new work on a host and begin to move every machine off it that can."""
    return answer({"items": move_actions.drain(call.context, call.actor(), node_id)}, 202)
