"""Documents: into a knowledge base by upload or address, again when they change, out with proof."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import knowledge_base as base_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    QuotaExceededError,
    TooLargeError,
)
from penstock.catalog.deletion import delete_document
from penstock.domain.document import DocumentState
from penstock.domain.quota import Breach, Measure, check
from penstock.drivers.documents.kinds import media_of
from penstock.drivers.web.fetch import check_url
from penstock.store import document as document_store
from penstock.store import knowledge_base as base_store
from penstock.store import quota as quota_store
from penstock.store.rows import Row


def upload(
    context: Context, actor: Actor, base_id: str, *, name: str | None, media_type: str | None, data: bytes
) -> tuple[Row, bool]:
    """Take a document, or a new version of the one with that name; return it and whether anything changed.

    The same bytes again change nothing. Raises InvalidInputError if it is no kind of document that can be read,
    TooLargeError, QuotaExceededError, ConflictError while the knowledge base or the document is being deleted.
    """
    with change(context, actor, "document.upload", base_id) as made:
        base = base_actions.active(made.connection, actor, base_id)
        actor.require("knowledge_base:write", base["tenant_id"], base["project_id"])
        if len(data) > limits.DOCUMENT_BYTES_MAX:
            raise TooLargeError(
                f"a document may have at most {limits.DOCUMENT_BYTES_MAX >> 20} MiB; split it", field="body"
            )
        digest = hashlib.sha256(data).hexdigest()
        chosen = name or f"document-{digest[:12]}"
        media = media_of(data, chosen, media_type)
        facts = {"size_bytes": len(data), "sha256": digest, "media_type": media.value}
        row, changed = _put(context, made, base, chosen, facts, data, source_url=None)
    context.wakeups.signal("knowledge")
    return row, changed


def add_urls(context: Context, actor: Actor, base_id: str, urls: Sequence[str]) -> list[Row]:
    """Take addresses to fetch documents from; one that is there already is fetched again as a new version."""
    for url in urls:
        check_url(url)
    with change(context, actor, "document.add_urls", base_id) as made:
        base = base_actions.active(made.connection, actor, base_id)
        actor.require("knowledge_base:write", base["tenant_id"], base["project_id"])
        nothing: dict[str, Any] = {"size_bytes": 0, "sha256": None, "media_type": None}
        rows = [
            _put(context, made, base, _name_of(url), nothing, None, source_url=url)[0]
            for url in dict.fromkeys(urls)
        ]
    context.wakeups.signal("knowledge")
    return rows


def _name_of(url: str) -> str:
    if len(url) <= limits.DOCUMENT_NAME_CHARACTERS_MAX:
        return url
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return f"{url[: limits.DOCUMENT_NAME_CHARACTERS_MAX - 17]}~{digest}"


def _put(
    context: Context,
    made: Change,
    base: Row,
    name: str,
    facts: Mapping[str, Any],
    data: bytes | None,
    *,
    source_url: str | None,
) -> tuple[Row, bool]:
    if base_store.lock(made.connection, base["id"]) is None:
        raise not_found("knowledge_base", base["id"])
    known = document_store.named(made.connection, base["id"], name)
    if known is not None and known["wanted"] == "deleted":
        raise ConflictError(f"'{name}' is being deleted; upload it again when it is gone", field="name")
    if known is not None and data is not None and known["sha256"] == facts["sha256"]:
        return known, False
    now = context.clock.now()
    more = {
        Measure.DOCUMENTS.value: 0 if known else 1,
        Measure.DOCUMENT_BYTES.value: facts["size_bytes"] - (known["size_bytes"] if known else 0),
    }
    breach = quota_store.check_and_take(made.connection, base["tenant_id"], base["project_id"], more, now)
    breach = breach or (None if known else _room_for_chunks(made.connection, base, now))
    if breach is not None:
        _refuse(breach)
    values: dict[str, Any] = {**facts, "source_url": source_url}
    if known is None:
        row: Row = {
            "id": context.new_id("document"),
            "tenant_id": base["tenant_id"],
            "project_id": base["project_id"],
            "knowledge_base_id": base["id"],
            "name": name,
            "created_by": made.actor.principal_id,
            "created_at": now,
            **_begun(1, now),
            **values,
        }
        document_store.insert(made.connection, row)
    else:
        row = {**known, **_begun(known["version"] + 1, now), **values}
        document_store.change(made.connection, known["id"], {**_begun(row["version"], now), **values})
    _accept(made, row, data, now)
    return document_store.get(made.connection, row["id"]) or row, True


def _room_for_chunks(connection: Connection, base: Row, now: datetime) -> Breach | None:
    """Return the quota of chunks that has room for none; how many a document needs is known when it is read."""
    one = {Measure.CHUNKS.value: 1}
    lines = quota_store.lines_for_order(connection, base["tenant_id"], base["project_id"], one, now)
    return check([line for line in lines if line.dimension in one], one)


def _begun(version: int, now: datetime) -> dict[str, Any]:
    """Return what makes the engine index a version from its beginning."""
    return {
        "version": version,
        "state": DocumentState.PENDING,
        "reason": "none",
        "message": "",
        "chunks_done": 0,
        "attempts": 0,
        "updated_at": now,
        "due_at": now,
    }


def _accept(made: Change, row: Row, data: bytes | None, now: datetime) -> None:
    """Write the version of ``row`` with its content, and that it was accepted."""
    version: dict[str, Any] = {
        "document_id": row["id"],
        "version": row["version"],
        "tenant_id": row["tenant_id"],
        "size_bytes": row["size_bytes"],
        "sha256": row["sha256"],
        "media_type": row["media_type"],
        "content": data,
        "created_at": now,
    }
    document_store.insert_version(made.connection, version)
    made.done(
        "document.accepted",
        row["id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        detail={
            "name": row["name"],
            "version": row["version"],
            "knowledge_base": row["knowledge_base_id"],
            "sha256": row["sha256"],
        },
    )


def _refuse(breach: Breach) -> None:
    data: dict[str, object] = {
        "dimension": breach.line.dimension,
        "project": breach.line.project_id,
        "limit": breach.line.limit,
        "used": breach.line.used,
        "asked": breach.asked,
    }
    raise QuotaExceededError(breach.sentence, data=data)


def list_page(
    context: Context,
    actor: Actor,
    *,
    base_id: str | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` documents that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "knowledge_base:read", None)
    with context.db.transaction(actor.scope) as connection:
        if base_id is not None:
            base_actions.visible(connection, actor, base_id)
        return document_store.page(
            connection,
            base_id=base_id,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            name=name,
            after=after,
            limit=limit,
        )


def show(context: Context, actor: Actor, document_id: str) -> Row:
    """Return one document with its versions; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, document_id)
        return {**row, "versions": document_store.versions(connection, document_id)}


def visible(connection: Connection, actor: Actor, document_id: str) -> Row:
    """Return a document that the caller may see; NotFoundError otherwise."""
    row = document_store.get(connection, document_id)
    if row is None:
        raise not_found("document", document_id)
    try:
        actor.require_visible("knowledge_base", row["tenant_id"], row["project_id"], document_id)
    except NotFoundError:
        raise not_found("document", document_id) from None
    return row


def reindex(context: Context, actor: Actor, document_id: str) -> Row:
    """Read and index a document again, as a new version; one from an address is fetched again."""
    with change(context, actor, "document.reindex", document_id) as made:
        row = visible(made.connection, actor, document_id)
        actor.require("knowledge_base:write", row["tenant_id"], row["project_id"])
        base = base_actions.active(made.connection, actor, row["knowledge_base_id"])
        base_store.lock(made.connection, base["id"])
        row = document_store.lock(made.connection, document_id) or row
        if row["wanted"] == "deleted":
            raise ConflictError("this document is being deleted")
        data = None
        if row["source_url"] is None:
            data = document_store.content(made.connection, document_id, row["version"])
            if data is None:
                raise InvalidInputError("the content is not kept; upload it again")
        now = context.clock.now()
        values = _begun(row["version"] + 1, now)
        document_store.change(made.connection, document_id, values)
        _accept(made, {**row, **values}, data, now)
    context.wakeups.signal("knowledge")
    return {**row, **values}


def delete(context: Context, actor: Actor, document_id: str) -> Row:
    """Delete a document; searches do not find it any more from now on. Repeatable.

    ``proof_id`` in the answer names the proof, which is signed when nothing is left.
    """
    with change(context, actor, "document.delete", document_id) as made:
        row = visible(made.connection, actor, document_id)
        actor.require("knowledge_base:write", row["tenant_id"], row["project_id"])
        row = document_store.lock(made.connection, document_id) or row
        if row["wanted"] != "deleted":
            row |= delete_document(made.connection, row, actor.principal_id, context.clock.now())
            made.done(
                "document.delete_asked",
                document_id,
                tenant_id=row["tenant_id"],
                project_id=row["project_id"],
                detail={"name": row["name"], "proof": row["proof_id"]},
            )
    context.wakeups.signal("knowledge")
    return row
