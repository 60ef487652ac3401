"""Batches: made of an uploaded file, watched, cancelled."""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from penstock.actions import file as file_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, ForbiddenError, InvalidInputError
from penstock.catalog.usage import Metered
from penstock.domain.batch import COMPLETION_WINDOW, ENDED, ENDPOINTS, BatchState, pass_purpose
from penstock.domain.invoice import total_microeur
from penstock.store import batch as batch_store
from penstock.store import price_book as price_book_store
from penstock.store import usage as usage_store
from penstock.store.rows import Row
from penstock.store.usage import UsageFilter

_MOMENT = timedelta(microseconds=1)
PASS_PREFIX = "bps_"  # noqa: S105 - how a pass begins, no secret


def create(
    context: Context,
    actor: Actor,
    *,
    input_file_id: str,
    endpoint: str,
    completion_window: str,
    metadata: Mapping[str, str],
) -> Row:
    """Accept a batch of the requests in a file; it is read and answered in the background.

    What it uses is billed to the caller's key, at the price of batches. Raises NotFoundError for a file that the
    caller does not have, ConflictError at too many batches that run.
    """
    if endpoint not in ENDPOINTS:
        raise InvalidInputError(f"endpoint must be one of {', '.join(ENDPOINTS)}", field="endpoint")
    if completion_window != COMPLETION_WINDOW:
        raise InvalidInputError(f"completion_window must be '{COMPLETION_WINDOW}'", field="completion_window")
    with change(context, actor, "batch.create", input_file_id) as made:
        file = file_actions.visible(made.connection, actor, input_file_id, "file:read")
        actor.require("batch:write", file["tenant_id"], file["project_id"])
        actor.require("llm:call", file["tenant_id"], file["project_id"])
        if actor.key_id is None:
            raise ForbiddenError(
                "a batch is billed to an API key: ask with one", data={"permission": "batch:write"}
            )
        if file["purpose"] != "batch":
            raise InvalidInputError("this file was not uploaded for a batch", field="input_file_id")
        if batch_store.count_running(made.connection, file["project_id"]) >= limits.BATCHES_PER_PROJECT_MAX:
            raise ConflictError(
                f"a project has at most {limits.BATCHES_PER_PROJECT_MAX} batches at a time; wait for one or cancel it"
            )
        now, batch_id = context.clock.now(), context.new_id("batch")
        passed = PASS_PREFIX + secrets.token_urlsafe(32)
        row: Row = {
            "id": batch_id,
            "tenant_id": file["tenant_id"],
            "project_id": file["project_id"],
            "endpoint": endpoint,
            "state": BatchState.VALIDATING.value,
            "input_file_id": input_file_id,
            "metadata": dict(metadata),
            "principal_id": actor.principal_id,
            "key_id": actor.key_id,
            "pass_sha256": hashlib.sha256(passed.encode()).hexdigest(),
            "pass_sealed": context.vault.seal(passed, pass_purpose(batch_id)),
            "created_at": now,
            "expires_at": now + limits.BATCH_LIFE,
            "due_at": now,
        }
        batch_store.insert(made.connection, row)
        detail = {"input_file_id": input_file_id, "endpoint": endpoint}
        made.done(
            "batch.created", batch_id, tenant_id=row["tenant_id"], project_id=row["project_id"], detail=detail
        )
        stored = batch_store.get(made.connection, batch_id)
    context.wakeups.signal("batch")
    assert stored is not None  # noqa: S101 - it was written above
    return stored


def show(context: Context, actor: Actor, batch_id: str) -> Row:
    """Return one batch; raises NotFoundError."""
    with context.db.transaction(actor.scope) as connection:
        row = batch_store.get(connection, batch_id)
    if row is None:
        raise not_found("batch", batch_id)
    actor.require_visible("batch", row["tenant_id"], row["project_id"], batch_id)
    actor.require("batch:read", row["tenant_id"], row["project_id"])
    return row


def cost(context: Context, actor: Actor, batch_id: str) -> dict[str, Any]:
    """Return the tokens that a batch used until now and their price; ``unpriced`` tells whether some have none."""
    row = show(context, actor, batch_id)
    actor.require("usage:read", row["tenant_id"], row["project_id"])
    now = context.clock.now()
    asked = UsageFilter(
        row["created_at"], now + _MOMENT, now, row["tenant_id"], {row["project_id"]}, batch_id=batch_id
    )
    with context.db.transaction(actor.scope) as connection:
        used = usage_store.tokens(connection, asked, limits.RATED_GROUPS_MAX)
        books = price_book_store.read(connection, sorted({one.price_book_id for one in used})) if used else {}
    priced, unpriced = Metered((), tuple(used), books).rated_apart()
    return {
        "input_tokens": sum(one.input_tokens for one in used),
        "output_tokens": sum(one.output_tokens for one in used),
        "total_microeur": total_microeur(priced),
        "unpriced": bool(unpriced),
    }


def list_page(context: Context, actor: Actor, *, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` batches that the caller may see, the newest first."""
    tenant_id = tenant_for_list(actor, "batch:read", None)
    with context.db.transaction(actor.scope) as connection:
        return batch_store.page(
            connection, tenant_id=tenant_id, project_ids=actor.project_ids, after=after, limit=limit
        )


def cancel(context: Context, actor: Actor, batch_id: str) -> Row:
    """Let a batch begin nothing further; raises ConflictError if it has ended. Asking again is the same answer."""
    with change(context, actor, "batch.cancel", batch_id) as made:
        row = batch_store.get(made.connection, batch_id, lock=True)
        if row is None:
            raise not_found("batch", batch_id)
        actor.require_visible("batch", row["tenant_id"], row["project_id"], batch_id)
        actor.require("batch:write", row["tenant_id"], row["project_id"])
        state = BatchState(row["state"])
        if state in ENDED and state is not BatchState.CANCELLED:
            raise ConflictError(f"this batch is {state.value} already")
        if state not in ENDED and row["wanted"] != "cancelled":
            batch_store.want_cancelled(made.connection, batch_id, context.clock.now())
            made.done(
                "batch.cancel_asked", batch_id, tenant_id=row["tenant_id"], project_id=row["project_id"]
            )
    context.wakeups.signal("batch")
    return {**row, "wanted": "cancelled"}
