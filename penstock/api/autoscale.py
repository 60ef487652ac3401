"""Scaling of an endpoint: its policy, its replicas, and why there are so many."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import autoscale as autoscale_actions
from penstock.api.edge import ERRORS, Caller, Strict, answer
from penstock.api.fields import PathId
from penstock.base import limits

router = APIRouter(prefix="/v1/services/{service_id}/scaling", tags=["services"])


class ScalingBody(Strict):
    """Fields of the policy; those that are left out stay as they are."""

    replicas_min: int | None = Field(default=None, ge=0, le=limits.REPLICAS_PER_SERVICE_MAX)
    replicas_max: int | None = Field(default=None, ge=1, le=limits.REPLICAS_PER_SERVICE_MAX)
    queue_target: int | None = Field(default=None, ge=1, le=10_000)
    tokens_target: int | None = Field(default=None, ge=1, le=1_000_000_000)
    ttft_target_ms: int | None = Field(default=None, ge=1, le=600_000)
    idle_seconds: int | None = Field(default=None, ge=1, le=604_800)
    scale_up_seconds: int | None = Field(default=None, ge=0, le=3_600)
    scale_down_seconds: int | None = Field(default=None, ge=0, le=86_400)


class PolicyOut(BaseModel):
    """How the number of replicas follows the load; what was not given is shown as it is taken to be."""

    replicas_min: int
    replicas_max: int
    queue_target: int
    tokens_target: int
    ttft_target_ms: int | None
    idle_seconds: int
    scale_up_seconds: int
    scale_down_seconds: int


class StepOut(BaseModel):
    """The last change of the number, and what was heard when it was decided."""

    model_config = {"populate_by_name": True}

    at: datetime
    from_: int = Field(alias="from")
    to: int
    reason: str
    sentence: str
    heard: dict[str, Any]


class ScalingOut(BaseModel):
    """An endpoint's replicas; ``policy`` null: their number is fixed. Loads are what live gateways say."""

    service_id: str
    state: str
    policy: PolicyOut | None
    replicas_wanted: int
    replicas_ready: int
    replicas_starting: int
    replicas_draining: int
    waiting: int
    in_flight: int
    tokens_in_flight: int
    ttft_us: int | None
    gateways: int
    last_step: StepOut | None


@router.get("", responses={200: {"model": ScalingOut}, **ERRORS})
def show(call: Caller, service_id: PathId) -> Response:
    """Show how many replicas an endpoint has, should have, and why."""
    return answer(autoscale_actions.show(call.context, call.actor(), service_id))


@router.put("", responses={200: {"model": ScalingOut}, **ERRORS})
def put(call: Caller, service_id: PathId, body: ScalingBody) -> Response:
    """Change how the number of replicas follows the load. Giving replicas_min or replicas_max makes it follow."""
    policy = body.model_dump(exclude_none=True)
    return answer(autoscale_actions.put(call.context, call.actor(), service_id, policy))
