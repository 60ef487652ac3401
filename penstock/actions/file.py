"""Files for batches: uploaded, listed, read, deleted."""

import hashlib

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, QuotaExceededError, TooLargeError
from penstock.domain.quota import Measure
from penstock.store import batch as batch_store
from penstock.store import file as file_store
from penstock.store import project as project_store
from penstock.store import quota as quota_store
from penstock.store.rows import Row


def project_of(connection: Connection, actor: Actor, asked: str | None) -> Row:
    """Return the project that a call of OpenAI's API is for: the one named, the key's, or the only one there is.

    Raises NotFoundError for a foreign one, InvalidInputError where there are several and none is named.
    """
    chosen = asked or actor.key_project_id
    if chosen is None:
        found = project_store.page(
            connection,
            tenant_id=actor.tenant_id,
            project_ids=actor.project_ids,
            name=None,
            after=None,
            limit=2,
        )
        if len(found) != 1:
            raise InvalidInputError(
                "name the project in the header OpenAI-Project, or use a key of one project",
                field="OpenAI-Project",
            )
        chosen = str(found[0]["id"])
    row = project_store.get(connection, chosen)
    if row is None or row["state"] != "active":
        raise not_found("project", chosen)
    actor.require_visible("project", row["tenant_id"], row["id"], chosen)
    return row


def upload(
    context: Context, actor: Actor, *, project: str | None, name: str, purpose: str, data: bytes
) -> Row:
    """Take a file; raises InvalidInputError, TooLargeError, QuotaExceededError."""
    if purpose != "batch":
        raise InvalidInputError("purpose must be 'batch'; no other is served here", field="purpose")
    if len(data) > limits.FILE_BYTES_MAX:
        raise TooLargeError(f"a file has at most {limits.FILE_BYTES_MAX >> 20} MiB; split it", field="file")
    if not data.strip():
        raise InvalidInputError("the file is empty", field="file")
    with change(context, actor, "file.upload", name) as made:
        owner = project_of(made.connection, actor, project)
        actor.require("file:write", owner["tenant_id"], owner["id"])
        now = context.clock.now()
        breach = quota_store.check_and_take(
            made.connection, owner["tenant_id"], owner["id"], {Measure.FILE_BYTES.value: len(data)}, now
        )
        if breach is not None:
            raise QuotaExceededError(breach.sentence, data={"dimension": breach.line.dimension})
        row: Row = {
            "id": context.new_id("file"),
            "tenant_id": owner["tenant_id"],
            "project_id": owner["id"],
            "name": name,
            "purpose": purpose,
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "created_by": actor.principal_id,
            "created_at": now,
            "expires_at": now + limits.FILE_LIFE,
        }
        file_store.insert(made.connection, {**row, "content": data})
        detail = {"name": name, "size_bytes": len(data), "sha256": row["sha256"]}
        made.done(
            "file.uploaded",
            row["id"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail=detail,
        )
    return row


def visible(connection: Connection, actor: Actor, file_id: str, permission: str) -> Row:
    """Return a file that the caller may see and has ``permission`` on; NotFoundError otherwise."""
    row = file_store.get(connection, file_id)
    if row is None:
        raise not_found("file", file_id)
    actor.require_visible("file", row["tenant_id"], row["project_id"], file_id)
    actor.require(permission, row["tenant_id"], row["project_id"])
    return row


def show(context: Context, actor: Actor, file_id: str) -> Row:
    """Return one file without its content."""
    with context.db.transaction(actor.scope) as connection:
        return visible(connection, actor, file_id, "file:read")


def content(context: Context, actor: Actor, file_id: str) -> bytes:
    """Return the bytes of a file; raises NotFoundError."""
    with context.db.transaction(actor.scope) as connection:
        visible(connection, actor, file_id, "file:read")
        data = file_store.content(connection, file_id)
    if data is None:
        raise not_found("file", file_id)
    return data


def list_page(
    context: Context, actor: Actor, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
) -> list[Row]:
    """Return up to ``limit`` files that the caller may see."""
    tenant_id = tenant_for_list(actor, "file:read", None)
    with context.db.transaction(actor.scope) as connection:
        return file_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            purpose=purpose,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )


def delete(context: Context, actor: Actor, file_id: str) -> None:
    """Remove a file; raises ConflictError while a batch still has to read it."""
    with change(context, actor, "file.delete", file_id) as made:
        row = visible(made.connection, actor, file_id, "file:write")
        if batch_store.reads(made.connection, file_id):
            raise ConflictError("a batch still has to read this file; cancel it first")
        file_store.delete(made.connection, file_id)
        held = {Measure.FILE_BYTES.value: row["size_bytes"]}
        quota_store.give_back_many(made.connection, [(row["tenant_id"], row["project_id"], held)])
        made.done(
            "file.deleted",
            file_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"name": row["name"]},
        )
