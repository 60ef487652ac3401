"""Batches: many requests in one file, answered when there is room: sent, watched, cancelled, their results taken."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.actions import batch as batch_actions
from penstock.actions import file as file_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError, NotFoundError, PenstockError, UnauthenticatedError
from penstock.console import confirm
from penstock.console.edge import Visit, check_request, get, post, to_log_in
from penstock.console.endpoints import running_endpoints
from penstock.console.menu import may_see
from penstock.console.projects import in_use, seen_projects
from penstock.console.secure import secured
from penstock.domain.batch import COMPLETION_WINDOW, ENDED, ENDPOINTS, STATE_SENTENCES, BatchState
from penstock.store.rows import Row

PAGE = 50
FILES_SHOWN = 100
NAME_CHARACTERS_MAX = 200
PROBLEMS_SHOWN = 20


def list_batches(visit: Visit) -> Response:
    """Show the batches, the newest first, and how to make one."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    after = visit.query("after") or None
    rows = batch_actions.list_page(visit.context, visit.actor, after=after, limit=PAGE + 1)
    files = file_actions.list_page(
        visit.context, visit.actor, purpose="batch", after=None, limit=FILES_SHOWN, newest_first=True
    )
    projects = seen_projects(visit)
    tenants = visit.actor.tenant_id is not None
    return visit.page(
        "batches.html",
        error.status if error else 200,
        batches=[told(row) for row in rows[:PAGE]],
        after=after,
        more=rows[PAGE - 1]["id"] if len(rows) > PAGE else None,
        files=files,
        projects=in_use(projects),
        endpoints=ENDPOINTS,
        example=_example(visit) if tenants else "",
        may_write=tenants and may_see(visit.actor, "batch:write"),
        megabytes_max=limits.FILE_BYTES_MAX >> 20,
        error=error,
        field=visit.field,
    )


def _example(visit: Visit) -> str:
    """Return a line of a file as it could be sent, with an endpoint that runs."""
    endpoints = running_endpoints(visit, "generation")
    model = endpoints[0]["name"] if endpoints else "MODEL"
    return (
        '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": '
        f'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is a GPU?"}}]}}}}'
    )


def told(row: Row) -> dict[str, Any]:
    """Return a batch with its state as it is shown, its sentence, and how many requests have come to an end."""
    state = BatchState(row["state"])
    if row["wanted"] == "cancelled" and state in (BatchState.VALIDATING, BatchState.IN_PROGRESS):
        state = BatchState.CANCELLING
    return {
        **row,
        "shown": state.value,
        "over": BatchState(row["state"]) in ENDED,
        "sentence": row["message"] or STATE_SENTENCES[state],
        "done": row["completed"] + row["failed"],
    }


async def upload(request: Request) -> Response:
    """Take one file as the body, as the page's script sends it; answers 204, or a sentence that says why not."""
    try:
        visit = await run_in_threadpool(check_request, request, {})
        name = _checked_name(request.query_params.get("name", ""))
        data = await request.body()
        await run_in_threadpool(_take, visit, name, data)
    except UnauthenticatedError:
        return to_log_in(request)
    except PenstockError as error:
        return secured(Response(error.sentence, status_code=error.status, media_type="text/plain"))
    return secured(Response(status_code=204))


def _checked_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise InvalidInputError(f"a file's name has 1 to {NAME_CHARACTERS_MAX} characters", field="name")
    return name


def _take(visit: Visit, name: str, data: bytes) -> Row:
    project = visit.query("project") or visit.field("project") or None
    return file_actions.upload(
        visit.context, visit.actor, project=project, name=name, purpose="batch", data=data
    )


def make(visit: Visit) -> Response:
    """Make a batch of a file that was sent, or of requests that were typed."""
    try:
        file_id = visit.field("file")
        if visit.field("lines"):
            file_id = _take(visit, "typed.jsonl", visit.field("lines").encode())["id"]
        if not file_id:
            raise InvalidInputError("choose a file, or type requests", field="file")
        row = batch_actions.create(
            visit.context,
            visit.actor,
            input_file_id=file_id,
            endpoint=visit.field("endpoint"),
            completion_window=COMPLETION_WINDOW,
            metadata={},
        )
    except PenstockError as error:
        return _list(visit, error)
    return visit.go(f"/batches/{row['id']}", "The batch is taken. This page follows it.")


def show(visit: Visit) -> Response:
    """Show one batch with its progress, cost and results."""
    row = batch_actions.show(visit.context, visit.actor, visit.path("batch_id"))
    shown = told(row)
    files = {
        name: _file(visit, row[f"{name}_file_id"])
        for name in ("input", "output", "error")
        if row[f"{name}_file_id"]
    }
    sees_cost = visit.actor.may("usage:read", row["tenant_id"], row["project_id"])
    return visit.page(
        "batch.html",
        batch=shown,
        files={name: file for name, file in files.items() if file is not None},
        problems=row["errors"][:PROBLEMS_SHOWN],
        cost=batch_actions.cost(visit.context, visit.actor, row["id"]) if sees_cost else None,
        at=visit.context.clock.now(),
        may_cancel=not shown["over"]
        and row["wanted"] != "cancelled"
        and visit.actor.may("batch:write", row["tenant_id"], row["project_id"]),
    )


def _file(visit: Visit, file_id: str) -> Row | None:
    try:
        return file_actions.show(visit.context, visit.actor, file_id)
    except NotFoundError:
        return None  # deleted, or its 30 days are over


def ask_cancel(visit: Visit) -> Response:
    """Say what cancelling does."""
    row = batch_actions.show(visit.context, visit.actor, visit.path("batch_id"))
    visit.actor.require("batch:write", row["tenant_id"], row["project_id"])
    open_ = row["total"] - row["completed"] - row["failed"]
    return confirm.ask(
        visit,
        title="Cancel this batch?",
        effects=[
            f"{open_:,} of its {row['total']:,} requests have no answer yet and get none; those that run end first.",
            "What was answered until then is in the output file, and stays on the bill.",
            "It cannot be gone on with; a file with the rest can be sent as a new batch.",
        ],
        action=f"/batches/{row['id']}/cancel",
        button="Cancel the batch",
        back=(f"/batches/{row['id']}", "The batch"),
    )


def cancel(visit: Visit) -> Response:
    """Cancel a batch."""
    row = batch_actions.cancel(visit.context, visit.actor, visit.path("batch_id"))
    return visit.go(f"/batches/{row['id']}", "No further request is begun.")


def download(visit: Visit) -> Response:
    """Hand a file over."""
    row = file_actions.show(visit.context, visit.actor, visit.path("file_id"))
    data = file_actions.content(visit.context, visit.actor, row["id"])
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in row["name"])
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return secured(Response(data, media_type="application/jsonl", headers=headers))


def delete_file(visit: Visit) -> Response:
    """Delete a file; what stands in the way is said on the page."""
    try:
        file_actions.delete(visit.context, visit.actor, visit.path("file_id"))
    except NotFoundError:
        raise
    except PenstockError as error:
        return _list(visit, error)
    return visit.go("/batches", "The file is deleted.")


routes = [
    get("/batches", list_batches),
    post("/batches", make),
    Route("/batches/files", upload, methods=["POST"]),
    get("/batches/{batch_id}", show),
    get("/batches/{batch_id}/cancel", ask_cancel),
    post("/batches/{batch_id}/cancel", cancel),
    get("/files/{file_id}", download),
    post("/files/{file_id}/delete", delete_file),
]
