"""Files for batches, in the shape of OpenAI's API, so that its unmodified clients work."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import file as file_actions
from penstock.actions.context import Actor
from penstock.api.document import authenticated, content
from penstock.api.edge import ERRORS, After, Caller, answer
from penstock.api.fields import ID_PATTERN, PathId
from penstock.api.multipart import parse_form
from penstock.base.clock import to_epoch_us
from penstock.base.errors import InvalidInputError
from penstock.base.units import US_PER_SECOND
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/files", tags=["files"])
NAME_CHARACTERS_MAX = 254
OpenAIProject = Annotated[
    str | None,
    Header(alias="OpenAI-Project", pattern=ID_PATTERN, description="the project, where the key has several"),
]
ListSize = Annotated[int, Query(ge=1, le=1_000, description="items per page")]


class FileOut(BaseModel):
    """A file, as OpenAI shows it; times are seconds since 1970."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"]


class FileList(BaseModel):
    """A page of files, as OpenAI shows it: go on with ``after`` = ``last_id``."""

    object: Literal["list"]
    data: list[FileOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """What is left of a file."""

    id: str
    object: Literal["file"]
    deleted: bool


def seconds(instant: Any) -> int | None:
    """Return an instant as OpenAI writes it."""
    return None if instant is None else to_epoch_us(instant) // US_PER_SECOND


def listed(items: list[dict[str, Any]], limit: int) -> Response:
    """Answer one page in OpenAI's form; ``items`` may hold one more than ``limit``."""
    shown = items[:limit]
    return answer(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(items) > limit,
        }
    )


def out(row: Row) -> dict[str, Any]:
    """Return a file as the API shows it."""
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["size_bytes"],
        "created_at": seconds(row["created_at"]),
        "expires_at": seconds(row["expires_at"]),
        "filename": row["name"],
        "purpose": row["purpose"],
        "status": "processed",
    }


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["purpose", "file"],
                    "properties": {
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "file": {"type": "string", "format": "binary"},
                    },
                }
            }
        },
    }
}


@router.post("", openapi_extra=_FORM, responses={200: {"model": FileOut}, **ERRORS})
def upload(
    call: Caller,
    request: Request,
    actor: Annotated[Actor, Depends(authenticated)],
    data: Annotated[bytes, Depends(content)],
    project: OpenAIProject = None,
) -> Response:
    """Upload a JSONL file of requests for a batch, at most 32 MiB; it is kept for 30 days."""
    form = parse_form(request.headers.get("content-type", ""), data)
    file, purpose = form.get("file"), form.get("purpose")
    if file is None or file.filename is None:
        raise InvalidInputError("the form has no file", field="file")
    name = file.filename or "file.jsonl"
    if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise InvalidInputError(
            f"a name has at most {NAME_CHARACTERS_MAX} printable characters", field="file"
        )
    row = file_actions.upload(
        call.context,
        actor,
        project=project,
        name=name,
        purpose="" if purpose is None else purpose.data.decode("utf-8", "replace"),
        data=file.data,
    )
    return answer(out(row))


@router.get("", responses={200: {"model": FileList}, **ERRORS})
def list_files(
    call: Caller,
    purpose: Literal["batch", "batch_output"] | None = None,
    limit: ListSize = 100,
    order: Literal["asc", "desc"] = "desc",
    after: After = None,
) -> Response:
    """List files, the newest first unless told otherwise."""
    rows = file_actions.list_page(
        call.context,
        call.actor(),
        purpose=purpose,
        after=after,
        limit=limit + 1,
        newest_first=order == "desc",
    )
    return listed([out(row) for row in rows], limit)


@router.get("/{file_id}", responses={200: {"model": FileOut}, **ERRORS})
def show(call: Caller, file_id: PathId) -> Response:
    """Show one file."""
    return answer(out(file_actions.show(call.context, call.actor(), file_id)))


@router.get("/{file_id}/content", responses={200: {"description": "the bytes of the file"}, **ERRORS})
def show_content(call: Caller, file_id: PathId) -> Response:
    """Return what is in a file."""
    data = file_actions.content(call.context, call.actor(), file_id)
    return Response(data, media_type="application/octet-stream")


@router.delete("/{file_id}", responses={200: {"model": FileDeleted}, **ERRORS})
def delete(call: Caller, file_id: PathId) -> Response:
    """Delete a file that no batch has still to read."""
    file_actions.delete(call.context, call.actor(), file_id)
    return answer({"id": file_id, "object": "file", "deleted": True})
