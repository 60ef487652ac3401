"""What an endpoint promises, and how fast it uses up what it may miss of that."""

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import objective as objective_actions
from penstock.actions.objective import PERCENT_DEFAULT_PPM
from penstock.api.edge import ERRORS, Caller, Strict, answer
from penstock.api.fields import PathId

router = APIRouter(prefix="/v1/services/{service_id}/objective", tags=["services"])


class ObjectiveBody(Strict):
    """A promise; at least one of ttft_ms, token_ms and availability_percent. Four decimals of a percent count."""

    ttft_ms: int | None = Field(
        default=None, ge=1, le=600_000, description="until the first token of a stream"
    )
    token_ms: int | None = Field(default=None, ge=1, le=600_000, description="mean time between two tokens")
    percent: float = Field(
        default=PERCENT_DEFAULT_PPM / 10_000,
        gt=0,
        le=100,
        description="of the requests that keep these times",
    )
    availability_percent: float | None = Field(
        default=None, gt=0, le=100, description="of the requests that do not fail"
    )


class PromiseOut(BaseModel):
    """What is promised."""

    ttft_ms: int | None
    token_ms: int | None
    percent: float
    availability_percent: float | None


class WindowOut(BaseModel):
    """What became of the requests of a time.

    ``missed`` ones were late, slow or failed. Burn is missed over allowed in thousandths: 1,000 uses up exactly what
    may be missed. Null where nothing is promised.
    """

    window: str
    requests: int
    missed: int
    late: int
    slow: int
    failed: int
    burn_milli: int | None
    availability_burn_milli: int | None


class ObjectiveOut(BaseModel):
    """A promise and what became of it."""

    service_id: str
    objective: PromiseOut | None
    windows: list[WindowOut]


@router.get("", responses={200: {"model": ObjectiveOut}, **ERRORS})
def show(call: Caller, service_id: PathId) -> Response:
    """Show what an endpoint promises and how fast it uses up what it may miss."""
    return answer(objective_actions.show(call.context, call.actor(), service_id))


@router.put("", responses={200: {"model": ObjectiveOut}, **ERRORS})
def put(call: Caller, service_id: PathId, body: ObjectiveBody) -> Response:
    """Set what an endpoint promises."""
    share = body.availability_percent
    shown = objective_actions.put(
        call.context,
        call.actor(),
        service_id,
        ttft_ms=body.ttft_ms,
        token_ms=body.token_ms,
        percent_ppm=max(1, round(body.percent * 10_000)),
        availability_ppm=None if share is None else max(1, round(share * 10_000)),
    )
    return answer(shown)


@router.delete("", status_code=204, responses={204: {"description": "removed"}, **ERRORS})
def delete(call: Caller, service_id: PathId) -> Response:
    """Promise nothing any more."""
    objective_actions.delete(call.context, call.actor(), service_id)
    return Response(status_code=204)
