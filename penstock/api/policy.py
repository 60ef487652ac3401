"""The operator's policies: show and change."""

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import policy as policy_actions
from penstock.actions import share as share_actions
from penstock.api.edge import ERRORS, Caller, Strict, answer
from penstock.domain.policy import READY_MAX, TIME_MAX_S, Fabric, Queue, Reclaim, Sleeping

router = APIRouter(prefix="/v1/policy", tags=["quotas"])


class PolicyBody(Strict):
    """What to change; a field that is left out stays as it is."""

    queue: Literal["fair-share", "first-come"] | None = Field(
        default=None, description="in which order waiting orders are tried"
    )
    reclaim: Literal["borrowed", "yielding", "never"] | None = Field(
        default=None, description="who is stopped for a guaranteed share"
    )
    patience_s: int | None = Field(
        default=None,
        ge=0,
        le=TIME_MAX_S,
        description="waiting, until borrowers that just started are stopped",
    )
    bound_s: int | None = Field(
        default=None, ge=0, le=TIME_MAX_S, description="waiting, until any borrower is stopped"
    )
    fresh_s: int | None = Field(
        default=None, ge=0, le=TIME_MAX_S, description="running shorter than this is 'just started'"
    )
    starve_s: int | None = Field(
        default=None, ge=0, le=TIME_MAX_S, description="waiting, until other borrowers stand back"
    )
    power_weight_percent: int | None = Field(
        default=None, ge=0, le=100, description="how much the power that a place adds counts; 0: not at all"
    )
    sleep: Literal["never", "propose", "automatic"] | None = Field(
        default=None, description="who turns idle nodes off"
    )
    sleep_idle_s: int | None = Field(
        default=None, ge=0, le=TIME_MAX_S, description="idle, until a node may sleep"
    )
    sleep_up_s: int | None = Field(
        default=None, ge=0, le=TIME_MAX_S, description="up, until a node may sleep"
    )
    sleep_ready: int | None = Field(
        default=None, ge=0, le=READY_MAX, description="idle nodes of each kind that stay on"
    )
    wake_s: int | None = Field(
        default=None, ge=0, le=TIME_MAX_S, description="what waking a node is taken to last"
    )
    fabric: Literal["multi-node", "always", "never"] | None = Field(
        default=None, description="which orders have the partition of the fabric made that they name"
    )


class PolicyOut(BaseModel):
    """The policies in force; times in seconds."""

    queue: Queue
    reclaim: Reclaim
    patience_s: int
    bound_s: int
    fresh_s: int
    starve_s: int
    power_weight_percent: int
    sleep: Sleeping
    sleep_idle_s: int
    sleep_up_s: int
    sleep_ready: int
    wake_s: int
    fabric: Fabric


class ShareOut(BaseModel):
    """A share: devices guaranteed, and thousandths of devices used, borrowed above that, or left idle of it.

    ``project_id`` null: of the whole tenant; ``device_class`` null: of all classes together.
    """

    tenant_id: str
    project_id: str | None
    device_class: str | None
    guaranteed: int
    used_milli: int
    borrowed_milli: int
    idle_milli: int


class ClassOut(BaseModel):
    """What there is of a class, and what is guaranteed to nobody."""

    device_class: str
    devices: int
    unpromised: int


class SharesOut(BaseModel):
    """The shares that the caller may see; classes are for the factory's people."""

    items: list[ShareOut]
    classes: list[ClassOut]


@router.get("/shares", responses={200: {"model": SharesOut}, **ERRORS})
def shares(call: Caller) -> Response:
    """Say what is guaranteed to whom, what of it is used, and what is borrowed."""
    return answer(share_actions.show(call.context, call.actor()))


@router.get("", responses={200: {"model": PolicyOut}, **ERRORS})
def show(call: Caller) -> Response:
    """Show the policies in force."""
    return answer(asdict(policy_actions.show(call.context, call.actor())))


@router.put("", responses={200: {"model": PolicyOut}, **ERRORS})
def put(call: Caller, body: PolicyBody) -> Response:
    """Change policies; what is left out stays. They hold from the next orders on; nothing that runs is stopped by it."""
    changes = body.model_dump(exclude_none=True)
    return answer(asdict(policy_actions.put(call.context, call.actor(), changes)))
