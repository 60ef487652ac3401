"""Limits of token traffic: operators limit tenants, administrators of a tenant its projects, keys and endpoints."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import tenant as tenant_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base.errors import ConflictError
from penstock.domain.rate_limit import Priority, Subject, subject_of
from penstock.store import api_key as api_key_store
from penstock.store import project as project_store
from penstock.store import rate_limit as rate_limit_store
from penstock.store import service as service_store
from penstock.store import tenant as tenant_store
from penstock.store.rows import Row


def put(context: Context, actor: Actor, subject_id: str, given: Mapping[str, Any]) -> Row:
    """Set all limits of a subject; what is not given is not limited. In force at every gateway within a second.

    Raises NotFoundError for a subject that is absent or foreign, ForbiddenError for a tenant's limits and for priority
    ``high`` unless the caller is an operator.
    """
    subject = subject_of(subject_id)
    with change(context, actor, "rate_limit.set", subject_id) as made:
        tenant_id, project_id = _owner(made.connection, actor, subject, subject_id)
        _require(actor, subject, tenant_id)
        if given.get("priority") == Priority.HIGH:
            actor.require("rate_limit:set_tenant", tenant_id)
        row = rate_limit_store.put(
            made.connection,
            {
                "id": context.new_id("rate_limit"),
                "tenant_id": tenant_id,
                "project_id": project_id,
                "subject": subject,
                "subject_id": subject_id,
                **given,
                "created_at": context.clock.now(),
            },
        )
        detail = {"subject": subject, "subject_id": subject_id, **given}
        made.done("rate_limit.set", row["id"], tenant_id=tenant_id, project_id=project_id, detail=detail)
    context.wakeups.signal("gateway")
    return row


def _require(actor: Actor, subject: str, tenant_id: str) -> None:
    actor.require("rate_limit:set_tenant" if subject == Subject.TENANT else "rate_limit:write", tenant_id)


def _owner(connection: Connection, actor: Actor, subject: Subject, subject_id: str) -> tuple[str, str | None]:
    """Return tenant and project of what is limited; NotFoundError if the caller may not see it."""
    if subject is Subject.TENANT:
        tenant_actions.require_visible(actor, subject_id)
        if tenant_store.get(connection, subject_id) is None:
            raise not_found("tenant", subject_id)
        return subject_id, None
    if subject is Subject.KEY:
        row = api_key_store.get(connection, subject_id)
        if row is None or row["tenant_id"] is None:
            raise not_found("api_key", subject_id)
        actor.require_visible("api_key", row["tenant_id"], None, subject_id)
        return row["tenant_id"], None
    if subject is Subject.PROJECT:
        row = project_store.get(connection, subject_id)
        project_id = subject_id
    else:
        row = service_store.get(connection, subject_id)
        project_id = "" if row is None else row["project_id"]
        if row is not None and row["kind"] not in ("llm", "rag"):
            actor.require_visible("service", row["tenant_id"], project_id, subject_id)
            raise ConflictError("only endpoints (services of kind llm or rag) have limits of token traffic")
    if row is None:
        raise not_found(subject, subject_id)
    noun = "project" if subject is Subject.PROJECT else "service"
    actor.require_visible(noun, row["tenant_id"], project_id, subject_id)
    return row["tenant_id"], project_id


def list_page(
    context: Context,
    actor: Actor,
    *,
    tenant_id: str | None,
    subject_id: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` rows by id."""
    tenant_id = tenant_for_list(actor, "rate_limit:read", tenant_id)
    with context.db.transaction(actor.scope) as connection:
        return rate_limit_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            subject_id=subject_id,
            after=after,
            limit=limit,
        )


def show(context: Context, actor: Actor, rate_limit_id: str) -> Row:
    """Return the limits of one subject; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return _visible(connection, actor, rate_limit_id)


def _visible(connection: Connection, actor: Actor, rate_limit_id: str) -> Row:
    row = rate_limit_store.get(connection, rate_limit_id)
    if row is None:
        raise not_found("rate_limit", rate_limit_id)
    actor.require_visible("rate_limit", row["tenant_id"], row["project_id"], rate_limit_id)
    return row


def delete(context: Context, actor: Actor, rate_limit_id: str) -> None:
    """Remove all limits of a subject."""
    with change(context, actor, "rate_limit.delete", rate_limit_id) as made:
        row = _visible(made.connection, actor, rate_limit_id)
        _require(actor, row["subject"], row["tenant_id"])
        rate_limit_store.remove(made.connection, rate_limit_id)
        detail = {"subject": row["subject"], "subject_id": row["subject_id"]}
        made.done(
            "rate_limit.deleted",
            rate_limit_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail=detail,
        )
    context.wakeups.signal("gateway")
