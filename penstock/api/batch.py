"""Batches, in the shape of OpenAI's API, so that its unmodified clients work."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field, StringConstraints

from penstock.actions import batch as batch_actions
from penstock.api.edge import ERRORS, After, Caller, Strict, answer
from penstock.api.fields import TEXT_PATTERN, Id, PathId
from penstock.api.file import ListSize, listed, seconds
from penstock.domain.batch import COMPLETION_WINDOW, STATE_SENTENCES, BatchState
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/batches", tags=["batches"])
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=TEXT_PATTERN)]
MetadataValue = Annotated[str, StringConstraints(max_length=512, pattern=TEXT_PATTERN)]


class BatchBody(Strict):
    """A batch to run."""

    input_file_id: Id
    endpoint: str = Field(max_length=64)
    completion_window: str = Field(max_length=16)
    metadata: dict[MetadataKey, MetadataValue] | None = Field(default=None, max_length=16)


class BatchProblem(BaseModel):
    """What is wrong with a line of the input file; ``line`` counts from 1."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchProblems(BaseModel):
    """What is wrong with the input file."""

    object: Literal["list"]
    data: list[BatchProblem]


class RequestCounts(BaseModel):
    """How many requests there are, and how many have come to an end how."""

    total: int
    completed: int
    failed: int


class BatchOut(BaseModel):
    """A batch, as OpenAI shows it; times are seconds since 1970. ``message`` says in words how it goes."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchProblems | None
    input_file_id: str
    completion_window: str
    status: str
    message: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    """A page of batches, as OpenAI shows it: go on with ``after`` = ``last_id``."""

    object: Literal["list"]
    data: list[BatchOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


def out(row: Row) -> dict[str, Any]:
    """Return a batch as the API shows it."""
    state, ended = BatchState(row["state"]), seconds(row["ended_at"])
    if row["wanted"] == "cancelled" and state in (BatchState.VALIDATING, BatchState.IN_PROGRESS):
        state = BatchState.CANCELLING
    return {
        "id": row["id"],
        "object": "batch",
        "endpoint": row["endpoint"],
        "errors": {"object": "list", "data": row["errors"]} if row["errors"] else None,
        "input_file_id": row["input_file_id"],
        "completion_window": COMPLETION_WINDOW,
        "status": state.value,
        "message": row["message"] or STATE_SENTENCES[state],
        "output_file_id": row["output_file_id"],
        "error_file_id": row["error_file_id"],
        "created_at": seconds(row["created_at"]),
        "in_progress_at": seconds(row["in_progress_at"]),
        "expires_at": seconds(row["expires_at"]),
        "finalizing_at": seconds(row["finalizing_at"]),
        "completed_at": ended if state is BatchState.COMPLETED else None,
        "failed_at": ended if state is BatchState.FAILED else None,
        "expired_at": ended if state is BatchState.EXPIRED else None,
        "cancelling_at": seconds(row["cancelling_at"]),
        "cancelled_at": ended if state is BatchState.CANCELLED else None,
        "request_counts": {name: row[name] for name in ("total", "completed", "failed")},
        "metadata": row["metadata"] or None,
    }


@router.post("", responses={200: {"model": BatchOut}, **ERRORS})
def create(call: Caller, body: BatchBody) -> Response:
    """Run the requests of an uploaded file when there is room, within 24 hours, at the price of batches."""
    row = batch_actions.create(
        call.context,
        call.actor(),
        input_file_id=body.input_file_id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        metadata=body.metadata or {},
    )
    return answer(out(row))


@router.get("", responses={200: {"model": BatchList}, **ERRORS})
def list_batches(call: Caller, limit: ListSize = 20, after: After = None) -> Response:
    """List batches, the newest first."""
    rows = batch_actions.list_page(call.context, call.actor(), after=after, limit=limit + 1)
    return listed([out(row) for row in rows], limit)


@router.get("/{batch_id}", responses={200: {"model": BatchOut}, **ERRORS})
def show(call: Caller, batch_id: PathId) -> Response:
    """Show one batch with its progress."""
    return answer(out(batch_actions.show(call.context, call.actor(), batch_id)))


@router.post("/{batch_id}/cancel", responses={200: {"model": BatchOut}, **ERRORS})
def cancel(call: Caller, batch_id: PathId) -> Response:
    """Begin no further request of a batch; what has its answer keeps it."""
    return answer(out(batch_actions.cancel(call.context, call.actor(), batch_id)))
