"""Events, in an order that no reader can skip; each caller sees its tenant's and projects' own."""

from dataclasses import dataclass

from penstock.actions.context import Actor, Context
from penstock.actions.scope import tenant_for_list
from penstock.store import event as event_store
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are asked for; None or empty: all that the caller may see."""

    kind_prefix: str | None = None
    subject_id: str | None = None


def list_after(context: Context, actor: Actor, wanted: Filter, *, after_id: int, limit: int) -> list[Row]:
    """Return up to ``limit`` events that follow event ``after_id`` (0: from the first)."""
    tenant_id = tenant_for_list(actor, "event:read", None)
    with context.db.transaction(actor.scope) as connection:
        return event_store.read_after(
            connection,
            after_id=after_id,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            limit=limit,
            kind_prefix=wanted.kind_prefix,
            subject_id=wanted.subject_id,
        )


def list_latest(
    context: Context, actor: Actor, wanted: Filter, *, before_id: int | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` events, newest first; ``before_id`` is the last of the page before."""
    tenant_id = tenant_for_list(actor, "event:read", None)
    with context.db.transaction(actor.scope) as connection:
        return event_store.read_latest(
            connection,
            before_id=before_id,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            limit=limit,
            kind_prefix=wanted.kind_prefix,
            subject_id=wanted.subject_id,
        )


def follow(
    context: Context, actor: Actor, wanted: Filter, *, after_id: int | None, limit: int
) -> tuple[list[Row], int]:
    """Return up to ``limit`` events after ``after_id`` and the place to go on from.

    ``after_id`` None: no events, only the place of now. The place moves on past events that are not wanted,
    so that a narrow filter does not read the same events again and again.
    """
    tenant_id = tenant_for_list(actor, "event:read", None)
    with context.db.transaction(actor.scope) as connection:
        now_id = event_store.latest_id(connection, tenant_id=tenant_id)
        if after_id is None:
            return [], now_id
        rows = event_store.read_after(
            connection,
            after_id=after_id,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            limit=limit,
            kind_prefix=wanted.kind_prefix,
            subject_id=wanted.subject_id,
        )
    return rows, rows[-1]["id"] if rows else (now_id or after_id)
