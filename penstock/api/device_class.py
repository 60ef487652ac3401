"""Device classes: what kinds of accelerators there are, as data."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import device_class as device_class_actions
from penstock.api.edge import ERRORS, Caller, Strict, answer
from penstock.api.fields import TEXT_PATTERN
from penstock.base import limits
from penstock.domain.device import SLICES_MAX, DeviceClass

router = APIRouter(prefix="/v1/device-classes", tags=["infrastructure"])

Name = Annotated[
    str, Path(min_length=1, max_length=limits.NAME_CHARACTERS_MAX, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=TEXT_PATTERN)]
BYTES_MAX = 1 << 50


class DeviceClassBody(Strict):
    """What is said of a class; ``match`` are texts found in the model name a driver reports."""

    vendor: Text
    model: Text
    memory_bytes: int = Field(gt=0, le=BYTES_MAX)
    slices: int = Field(default=1, ge=1, le=SLICES_MAX, description="equal parts the device can be cut into")
    slice_memory_bytes: int | None = Field(
        default=None, gt=0, le=BYTES_MAX, description="memory of one slice; without it an equal share"
    )
    power_watts: int = Field(ge=0, le=100_000, description="maximum board power")
    idle_watts: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="drawn when nothing runs; without it 15 % of power_watts are assumed",
    )
    match: list[Text] = Field(max_length=32)
    source: Text = Field(description="where these facts come from")
    bf16_tflops: int = Field(default=0, ge=0, le=1_000_000, description="dense; 0: not known")
    interconnect_gb_per_s: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="from one device to its neighbours, both ways; 0: none known",
    )


class DeviceClassOut(BaseModel):
    """A device class."""

    name: str
    vendor: str
    model: str
    memory_bytes: int
    slices: int
    slice_memory_bytes: int
    power_watts: int
    match: list[str]
    source: str
    bf16_tflops: int
    interconnect_gb_per_s: int
    idle_watts: int | None


class DeviceClassList(BaseModel):
    """All device classes; there are tens of them, so this list has one page."""

    items: list[DeviceClassOut]
    next: str | None


@router.get("", responses={200: {"model": DeviceClassList}, **ERRORS})
def list_device_classes(call: Caller) -> Response:
    """List device classes."""
    actor = call.actor()
    items: list[dict[str, Any]] = device_class_actions.page(call.context, actor)
    return answer({"items": items, "next": None})


@router.get("/{name}", responses={200: {"model": DeviceClassOut}, **ERRORS})
def get_device_class(call: Caller, name: Name) -> Response:
    """Show one device class."""
    actor = call.actor()
    return answer(device_class_actions.get(call.context, actor, name))


@router.put("/{name}", responses={200: {"model": DeviceClassOut}, **ERRORS})
def put_device_class(call: Caller, name: Name, body: DeviceClassBody) -> Response:
    """Add a class or replace what is said of it; devices that match join it at their next enrolment."""
    actor = call.actor()
    class_ = DeviceClass(
        name=name,
        vendor=body.vendor,
        model=body.model,
        memory_bytes=body.memory_bytes,
        slices=body.slices,
        slice_memory_bytes=body.slice_memory_bytes or body.memory_bytes // body.slices,
        power_watts=body.power_watts,
        match=tuple(body.match),
        source=body.source,
        bf16_tflops=body.bf16_tflops,
        interconnect_gb_per_s=body.interconnect_gb_per_s,
        idle_watts=body.idle_watts,
    )
    return answer(device_class_actions.put(call.context, actor, class_))
