"""Projects of a tenant."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import project as project_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/projects", tags=["projects"])
SHOWN = ("id", "tenant_id", "name", "description", "state", "created_at")


class ProjectBody(Strict):
    """A new project; ``tenant_id`` is needed from callers of the factory only."""

    name: Name
    description: Text = ""
    tenant_id: Id | None = None


class ProjectOut(BaseModel):
    """A project."""

    id: str
    tenant_id: str
    name: str
    description: str
    state: str
    created_at: datetime


class ProjectPage(BaseModel):
    """A page of projects."""

    items: list[ProjectOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a project as the API shows it."""
    return {name: row[name] for name in SHOWN}


@router.post("", status_code=201, responses={201: {"model": ProjectOut}, **ERRORS})
def create(call: Caller, body: ProjectBody) -> Response:
    """Make a project (administrators of the tenant)."""
    row = project_actions.create(
        call.context,
        call.actor(),
        tenant_id=body.tenant_id,
        name=body.name,
        description=body.description,
    )
    return answer(out(row), 201)


@router.get("", responses={200: {"model": ProjectPage}, **ERRORS})
def list_projects(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    tenant_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the projects that the caller may see, oldest first."""
    rows = project_actions.list_page(
        call.context, call.actor(), tenant_id=tenant_id, name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{project_id}", responses={200: {"model": ProjectOut}, **ERRORS})
def show(call: Caller, project_id: PathId) -> Response:
    """Show one project."""
    return answer(out(project_actions.show(call.context, call.actor(), project_id)))


@router.delete("/{project_id}", status_code=204, responses={204: {"description": "deleted"}, **ERRORS})
def delete(call: Caller, project_id: PathId) -> Response:
    """Delete a project without live services, with its keys, role bindings and quotas."""
    project_actions.delete(call.context, call.actor(), project_id)
    return Response(status_code=204)
