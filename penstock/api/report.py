"""Reports: return on investment, and the ledger by state."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import calendar as calendar_actions
from penstock.actions import report as report_actions
from penstock.actions.report import RoiAsked
from penstock.api.edge import ERRORS, Caller, answer
from penstock.api.usage import From, To
from penstock.rating.chart import roi_chart_svg
from penstock.rating.roi import GPUS_MAX, PRICES_MAX, roi_table_rows

router = APIRouter(prefix="/v1/reports", tags=["reports"])


PriceEur = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class PointOut(BaseModel):
    """What more percentage points of effective utilisation are worth."""

    points: int
    microeur_per_year: int


class PricedCapacityOut(BaseModel):
    """One price; used and unused are null where no utilisation was given."""

    label: str
    capacity_microeur_per_hour: int
    capacity_microeur_per_year: int
    used_microeur_per_year: int | None
    unused_microeur_per_year: int | None
    points: list[PointOut]


class RoiOut(BaseModel):
    """What capacity is worth; shares in parts per million, GPUs in thousandths. ``table`` says it in words."""

    source: str
    gpu_thousandths: int
    simulated_ppm: int
    effective_utilisation_ppm: int | None
    utilisation_ppm: int | None
    conservation_error_us: int | None
    prices: list[PricedCapacityOut]
    table: list[list[str]]


class LedgerRowOut(BaseModel):
    """Time in one state for one cause; a device counts once in ``device_us``, each slice in ``slice_us``."""

    state: str
    cause: str | None
    simulated: bool
    device_us: int
    slice_us: int
    share_ppm: int
    value_microeur: int | None


class UnpricedItemOut(BaseModel):
    """A class of devices that the latest price book does not price."""

    meter: str
    item: str


class LedgerOut(BaseModel):
    """Every GPU-second of a time; a conservation error other than 0 is a defect of the product."""

    from_: datetime = Field(alias="from")
    to: datetime
    price_book_version: int
    conservation_error_us: int
    items: list[LedgerRowOut]
    unpriced: list[UnpricedItemOut]


class ForecastRowOut(BaseModel):
    """One class of devices: what is sold, what will be if it goes on so, and what waits. Counted in slices."""

    device_class: str
    simulated: bool
    slices: int
    sold_slices_now: int
    sold_slices_then: int
    error_slices: int
    waiting_slices: int
    full_at: datetime | None
    past_sold_slices: list[int]


class ForecastOut(BaseModel):
    """A line through the past, drawn on ``until`` as far ahead as the past is long; ``reason`` if there is none."""

    method: str
    from_: datetime | None = Field(alias="from")
    to: datetime
    until: datetime | None
    reason: str
    items: list[ForecastRowOut]


class CalendarClassOut(BaseModel):
    """What there is of a class of devices."""

    device_class: str
    simulated: bool
    devices: int
    slices: int


class CalendarItemOut(BaseModel):
    """What holds slices of a class: in use or yielding (summed, without id), reserved, or maintenance.

    ``start_at`` null: it began before; ``end_at`` null: no end is known.
    """

    device_class: str
    simulated: bool
    purpose: Literal["in_use", "yielding", "reserved", "maintenance"]
    id: str | None
    name: str | None
    tenant_id: str | None
    state: str | None
    start_at: datetime | None
    end_at: datetime | None
    slices: int


class CalendarOut(BaseModel):
    """Who holds what when; ``complete`` is false where there is more than fits an answer."""

    from_: datetime = Field(alias="from")
    to: datetime
    classes: list[CalendarClassOut]
    items: list[CalendarItemOut]
    complete: bool


def asked_roi(
    *,
    gpus: Annotated[
        int | None, Query(ge=1, le=GPUS_MAX, description="compute from this many GPUs, not from the ledger")
    ] = None,
    price_eur: Annotated[
        list[PriceEur] | None,
        Query(max_length=PRICES_MAX, description="euro per GPU-hour; several for a column each"),
    ] = None,
    utilisation: Annotated[
        Decimal | None,
        Query(ge=0, le=100, decimal_places=4, description="effective utilisation in percent, with gpus only"),
    ] = None,
    from_: From = None,
    to: To = None,
) -> RoiAsked:
    """Return the question that the query asks."""
    return RoiAsked(gpus, price_eur or (), utilisation, from_, to)


Asked = Annotated[RoiAsked, Depends(asked_roi)]


@router.get("/roi", responses={200: {"model": RoiOut}, **ERRORS})
def roi(call: Caller, asked: Asked) -> Response:
    """Say what the capacity is worth per hour and year, and what 1, 2 and 3 points of utilisation are."""
    report = report_actions.roi(call.context, call.actor(), asked)
    shown: dict[str, Any] = {**report.as_json(), "table": roi_table_rows(report)}
    return answer(shown)


@router.get(
    "/roi/chart",
    responses={200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}}, **ERRORS},
    response_class=Response,
)
def roi_chart(call: Caller, asked: Asked) -> Response:
    """Draw the same as SVG."""
    report = report_actions.roi(call.context, call.actor(), asked)
    return Response(roi_chart_svg(report), media_type="image/svg+xml")


@router.get("/ledger", responses={200: {"model": LedgerOut}, **ERRORS})
def ledger(call: Caller, *, from_: From = None, to: To = None) -> Response:
    """Show the fleet's time by state and cause, its value, and the conservation error, which is 0."""
    return answer(report_actions.ledger(call.context, call.actor(), from_, to))


@router.get("/forecast", responses={200: {"model": ForecastOut}, **ERRORS})
def forecast(call: Caller) -> Response:
    """Say what will be sold by class if it goes on as it did, by a method that is named."""
    return answer(report_actions.forecast(call.context, call.actor()))


@router.get("/calendar", responses={200: {"model": CalendarOut}, **ERRORS})
def calendar(
    call: Caller,
    *,
    from_: Annotated[datetime | None, Query(alias="from", description="null: now")] = None,
    to: Annotated[datetime | None, Query(description="null: a week after; at most 30 days after")] = None,
) -> Response:
    """Say what is in use until when, booked, and out of work, by class of devices."""
    return answer(calendar_actions.show(call.context, call.actor(), from_, to))
