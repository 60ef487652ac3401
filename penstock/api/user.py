"""Users: people who log in."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import principal as principal_actions
from penstock.actions import user as user_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Email, Id, IdFilter, NameFilter, Password, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/users", tags=["users"])
KIND = user_actions.KIND


class UserBody(Strict):
    """A new user. Operators leave ``tenant_id`` out for a user of the factory."""

    email: Email
    password: Password | None = Field(default=None, description="12 characters or more; none: no log-in yet")
    tenant_id: Id | None = None


class PasswordBody(Strict):
    """A new password; people who change their own give the current one too."""

    password: Password
    current_password: Password | None = None


class UserOut(BaseModel):
    """A user; ``tenant_id`` is null for users of the factory."""

    id: str
    tenant_id: str | None
    email: str
    disabled_at: datetime | None
    created_at: datetime


class UserPage(BaseModel):
    """A page of users."""

    items: list[UserOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a user as the API shows it."""
    shown = {name: row[name] for name in ("id", "tenant_id", "disabled_at", "created_at")}
    return {**shown, "email": row["name"]}


@router.post("", status_code=201, responses={201: {"model": UserOut}, **ERRORS})
def create(call: Caller, body: UserBody) -> Response:
    """Make a user (administrators). Give him a role with a role binding."""
    row = user_actions.create(
        call.context,
        call.actor(),
        tenant_id=body.tenant_id,
        email=body.email,
        password=body.password,
    )
    return answer(out(row), 201)


@router.get("", responses={200: {"model": UserPage}, **ERRORS})
def list_users(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    tenant_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List users, oldest first; ``name`` is the e-mail address."""
    rows = principal_actions.list_page(
        call.context,
        call.actor(),
        KIND,
        tenant_id=tenant_id,
        name=name.lower() if name else None,
        after=after,
        limit=limit + 1,
    )
    return page([out(row) for row in rows], limit)


@router.get("/{user_id}", responses={200: {"model": UserOut}, **ERRORS})
def show(call: Caller, user_id: PathId) -> Response:
    """Show one user."""
    return answer(out(principal_actions.show(call.context, call.actor(), KIND, user_id)))


@router.post("/{user_id}/disable", responses={200: {"model": UserOut}, **ERRORS})
def disable(call: Caller, user_id: PathId) -> Response:
    """Refuse every key and log-in of a user from now on."""
    return answer(
        out(principal_actions.set_disabled(call.context, call.actor(), KIND, user_id, disabled=True))
    )


@router.post("/{user_id}/enable", responses={200: {"model": UserOut}, **ERRORS})
def enable(call: Caller, user_id: PathId) -> Response:
    """Let a disabled user in again."""
    return answer(
        out(principal_actions.set_disabled(call.context, call.actor(), KIND, user_id, disabled=False))
    )


@router.put("/{user_id}/password", status_code=204, responses={204: {"description": "set"}, **ERRORS})
def set_password(call: Caller, user_id: PathId, body: PasswordBody) -> Response:
    """Set a password and end the user's other sessions."""
    user_actions.set_password(
        call.context,
        call.actor(),
        user_id,
        password=body.password,
        current_password=body.current_password,
    )
    return Response(status_code=204)
