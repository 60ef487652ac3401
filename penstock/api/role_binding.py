"""Role bindings: who may do what, where."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import role_binding as role_binding_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, PathId
from penstock.base import limits
from penstock.domain.role import Role
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/role-bindings", tags=["role bindings"])
SHOWN = ("id", "principal_id", "role", "tenant_id", "project_id", "created_at")


class RoleBindingBody(Strict):
    """A role for a principal, in its tenant (or the factory) or in one project of it."""

    principal_id: Id
    role: Literal["operator", "tenant_admin", "member", "viewer", "auditor"]
    project_id: Id | None = Field(default=None, description="null: everywhere in the principal's tenant")


class RoleBindingOut(BaseModel):
    """A role binding; both null: the whole factory."""

    id: str
    principal_id: str
    role: str
    tenant_id: str | None
    project_id: str | None
    created_at: datetime


class RoleBindingPage(BaseModel):
    """A page of role bindings."""

    items: list[RoleBindingOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a role binding as the API shows it."""
    return {name: row[name] for name in SHOWN}


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": RoleBindingOut, "description": "it was given before"},
        201: {"model": RoleBindingOut},
        **ERRORS,
    },
)
def create(call: Caller, body: RoleBindingBody) -> Response:
    """Give a role; nobody gives more than he holds there himself."""
    row, is_new = role_binding_actions.create(
        call.context,
        call.actor(),
        principal_id=body.principal_id,
        role=Role(body.role),
        project_id=body.project_id,
    )
    return answer(out(row), 201 if is_new else 200)


@router.get("", responses={200: {"model": RoleBindingPage}, **ERRORS})
def list_role_bindings(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    tenant_id: IdFilter = None,
    principal_id: IdFilter = None,
) -> Response:
    """List role bindings, oldest first."""
    rows = role_binding_actions.list_page(
        call.context,
        call.actor(),
        tenant_id=tenant_id,
        principal_id=principal_id,
        after=after,
        limit=limit + 1,
    )
    return page([out(row) for row in rows], limit)


@router.get("/{binding_id}", responses={200: {"model": RoleBindingOut}, **ERRORS})
def show(call: Caller, binding_id: PathId) -> Response:
    """Show one role binding."""
    return answer(out(role_binding_actions.show(call.context, call.actor(), binding_id)))


@router.delete("/{binding_id}", status_code=204, responses={204: {"description": "taken away"}, **ERRORS})
def delete(call: Caller, binding_id: PathId) -> Response:
    """Take a role away; the last administrator of a tenant and the last operator stay."""
    role_binding_actions.delete(call.context, call.actor(), binding_id)
    return Response(status_code=204)
