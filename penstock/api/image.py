"""Images: what machines begin with. Announced first, then their bytes are sent."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from penstock.actions import image as image_actions
from penstock.actions.context import Actor
from penstock.actions.image import NewImage
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.image import IMAGE_STATE_SENTENCES, ImageState
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/images", tags=["machines"])


Projects = Annotated[list[Id], Field(max_length=limits.IMAGE_SHARES_MAX)]


class ImageBody(Strict):
    """A new image; its bytes follow."""

    project_id: Id | None = Field(
        default=None, description="null: of the operator's catalogue, for everybody"
    )
    name: Name
    description: Text = ""
    architecture: Literal["x86_64", "aarch64"] = "x86_64"
    shared: bool = Field(default=False, description="also for the other projects of the tenant")
    shared_with: Projects = Field(
        default_factory=list[str], description="also for these projects of the tenant"
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="of the file; an image that arrives otherwise is refused",
    )
    provenance: Text = Field(default="", description="where it is from, in words or as an address")
    source_url: str | None = Field(
        default=None,
        max_length=limits.URL_CHARACTERS_MAX,
        description="https, of a public address: the factory fetches the image from there; nothing is to be sent then",
    )
    vm_id: Id | None = Field(default=None, description="the machine whose first disk it is made of")
    snapshot_id: Id | None = Field(default=None, description="of that machine; null: the disk as it is now")


class ImageSharing(Strict):
    """Which other projects of its tenant may use an image."""

    shared: bool = Field(default=False, description="all of them")
    shared_with: Projects = Field(default_factory=list[str], description="these")


class ImageOut(BaseModel):
    """An image. ``project_id`` null: of the operator's catalogue."""

    id: str
    tenant_id: str | None
    project_id: str | None
    name: str
    description: str
    architecture: str
    shared: bool
    shared_with: list[str]
    published: bool
    state: str
    state_sentence: str
    message: str
    sha256: str | None
    size_bytes: int
    virtual_bytes: int
    received_bytes: int = Field(description="so far, of one that is fetched")
    temporary: bool = Field(description="of a clone: it goes with the last machine that needs it")
    total_bytes: int | None = Field(description="that it will have, as far as the server says")
    provenance: dict[str, Any]
    created_by: str
    created_at: datetime


class ImagePage(BaseModel):
    """A page of images."""

    items: list[ImageOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return an image as the API shows it."""
    shown = {name: row[name] for name in ImageOut.model_fields if name in row}
    return {**shown, "state_sentence": IMAGE_STATE_SENTENCES[ImageState(row["state"])]}


@router.post("", status_code=201, responses={201: {"model": ImageOut}, **ERRORS})
def create(call: Caller, body: ImageBody) -> Response:
    """Announce an image; then send its bytes to `PUT /v1/images/{id}/content`, unless it has a `source_url` or a `vm_id`."""
    row = image_actions.create(call.context, call.actor(), NewImage(**body.model_dump()))
    return answer(out(row), 201)


def authenticated(call: Caller) -> Actor:
    """Authenticate before the body is read: a stranger's gigabytes are not taken in."""
    return call.actor()


@router.put(
    "/{image_id}/content",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    responses={200: {"model": ImageOut}, **ERRORS},
)
async def upload(
    call: Caller, request: Request, actor: Annotated[Actor, Depends(authenticated)], image_id: PathId
) -> Response:
    """Send an image: qcow2 that stands alone, at most 64 GiB. It is refused as soon as it shows that it is none."""
    opened = image_actions.upload(call.context, actor, image_id)
    taken = await run_in_threadpool(opened.__enter__)
    try:
        async for part in request.stream():
            if part:
                await run_in_threadpool(taken.write, part)
        await run_in_threadpool(taken.finish)
    except BaseException as error:
        await run_in_threadpool(opened.__exit__, type(error), error, error.__traceback__)
        raise
    await run_in_threadpool(opened.__exit__, None, None, None)
    return answer(out(await run_in_threadpool(image_actions.show, call.context, actor, image_id)))


@router.get("", responses={200: {"model": ImagePage}, **ERRORS})
def list_images(
    call: Caller, limit: Limit = limits.PAGE_DEFAULT, after: After = None, name: NameFilter = None
) -> Response:
    """List the images that the caller may use, those of the operator's catalogue with them."""
    rows = image_actions.list_page(call.context, call.actor(), name=name, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/{image_id}", responses={200: {"model": ImageOut}, **ERRORS})
def show(call: Caller, image_id: PathId) -> Response:
    """Show one image."""
    return answer(out(image_actions.show(call.context, call.actor(), image_id)))


@router.put("/{image_id}/sharing", responses={200: {"model": ImageOut}, **ERRORS})
def share(call: Caller, image_id: PathId, body: ImageSharing) -> Response:
    """Say which other projects of the tenant may use an image; machines that began with it stay."""
    row = image_actions.share(
        call.context, call.actor(), image_id, shared=body.shared, projects=body.shared_with
    )
    return answer(out(row))


@router.delete("/{image_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, image_id: PathId) -> Response:
    """Delete an image; refused while machines that began with it are there."""
    image_actions.delete(call.context, call.actor(), image_id)
    return Response(status_code=204)
