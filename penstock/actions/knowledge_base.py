"""Knowledge bases: what a project's documents are searched in."""

from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy.engine import Connection

from penstock.actions import project as project_actions
from penstock.actions.change import change
from penstock.actions.charge import price_book
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.catalog.deletion import delete_base
from penstock.domain.knowledge_base import (
    CHUNK_CHARACTERS_DEFAULT,
    LANGUAGES,
    OVERLAP_CHARACTERS_DEFAULT,
)
from penstock.domain.price import OF_KNOWLEDGE
from penstock.store import endpoint as endpoint_store
from penstock.store import knowledge_base as base_store
from penstock.store import price_book as price_book_store
from penstock.store import project as project_store
from penstock.store.rows import Row

USAGE_DAYS_MAX = 366


@dataclass(frozen=True, slots=True)
class Settings:
    """How a new knowledge base reads and cuts documents; fixed for its life."""

    language: str = "english"
    chunk_characters: int = CHUNK_CHARACTERS_DEFAULT
    overlap_characters: int = OVERLAP_CHARACTERS_DEFAULT


def create(
    context: Context,
    actor: Actor,
    *,
    project_id: str,
    name: str,
    description: str,
    service: str,
    settings: Settings,
) -> Row:
    """Make a knowledge base whose vectors come from an embedding service of the same project.

    Raises InvalidInputError naming the field that cannot be, ConflictError for a name that is taken,
    UnavailableError if the database has no pgvector.
    """
    _check(settings)
    base_id = context.new_id("knowledge_base")
    with change(context, actor, "knowledge_base.create", base_id) as made:
        project = project_actions.visible(made.connection, actor, project_id)
        actor.require("knowledge_base:create", project["tenant_id"], project_id)
        endpoint = embedding_service(made.connection, project_id, service)
        book_id = pricing(
            context, made.connection, endpoint["model"], price_book_store.latest_id(made.connection)
        )
        row = new_row(
            context,
            actor,
            project,
            base_id=base_id,
            name=name,
            description=description,
            endpoint=endpoint,
            settings=settings,
            price_book_id=book_id,
        )
        insert(made.connection, row)
        detail = {"name": name, "service": row["service_id"], "model": row["model"]}
        made.done(
            "knowledge_base.created",
            base_id,
            tenant_id=row["tenant_id"],
            project_id=project_id,
            detail=detail,
        )
    return {**row, "wanted": "active", "proof_id": None, "documents": {}}


def pricing(context: Context, connection: Connection, model: str, price_book_id: str | None) -> str | None:
    """Return the price book if it prices all that knowledge bases count, else None: then nothing is charged."""
    book = price_book(context, connection, price_book_id)
    return book.price_book_id if book is not None and book.prices_all(OF_KNOWLEDGE, model) else None


def new_row(
    context: Context,
    actor: Actor,
    project: Row,
    *,
    base_id: str,
    name: str,
    description: str,
    endpoint: Row,
    settings: Settings,
    price_book_id: str | None,
    owner_id: str | None = None,
) -> Row:
    """Return a new knowledge base whose vectors come from ``endpoint`` (service_id, model, dimensions)."""
    return {
        "id": base_id,
        "tenant_id": project["tenant_id"],
        "project_id": project["id"],
        "name": name,
        "description": description,
        "service_id": endpoint["service_id"],
        "model": endpoint["model"],
        "dimensions": endpoint["dimensions"],
        "language": settings.language,
        "chunk_characters": settings.chunk_characters,
        "overlap_characters": settings.overlap_characters,
        "created_by": actor.principal_id,
        "created_at": context.clock.now(),
        "metered_until": context.clock.now(),
        "price_book_id": price_book_id,
        "owner_id": owner_id,
    }


def insert(connection: Connection, row: Row) -> None:
    """Write a new knowledge base; ConflictError if its name is taken or the project has as many as it may."""
    if project_store.hold(connection, row["project_id"]) is None:
        raise not_found("project", row["project_id"])
    if base_store.count_in_project(connection, row["project_id"]) >= limits.KNOWLEDGE_BASES_PER_PROJECT_MAX:
        raise ConflictError(
            f"a project has at most {limits.KNOWLEDGE_BASES_PER_PROJECT_MAX} knowledge bases; delete one first"
        )
    if not base_store.insert(connection, row):
        raise ConflictError(
            f"the project has a knowledge base '{row['name']}', maybe on its way out; choose another name",
            field="name",
        )


def _check(settings: Settings) -> None:
    if settings.language not in LANGUAGES:
        raise InvalidInputError(
            f"no language '{settings.language}'; there are: {', '.join(LANGUAGES)}", field="language"
        )
    if settings.overlap_characters > settings.chunk_characters // 2:
        raise InvalidInputError("the overlap may be at most half of a chunk", field="overlap_characters")


def embedding_service(connection: Connection, project_id: str, service: str, field: str = "service") -> Row:
    """Return the running embedding endpoint of that name or id in a project; InvalidInputError names ``field``."""
    endpoint = endpoint_store.find(connection, project_id, service)
    if endpoint is None or endpoint["wanted"] != "running":
        raise InvalidInputError(
            f"the project has no service '{service}' that makes vectors; order one: penstock service order embedding",
            field=field,
        )
    if endpoint["kind"] != "embedding" or endpoint["dimensions"] is None:
        raise InvalidInputError(
            f"'{service}' serves {endpoint['model']}, which writes text; a knowledge base needs a service that makes "
            "vectors: penstock service order embedding",
            field=field,
        )
    return endpoint


def list_page(
    context: Context,
    actor: Actor,
    *,
    project_id: str | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` knowledge bases that the caller may see, by id, with their documents by state."""
    tenant_id = tenant_for_list(actor, "knowledge_base:read", None)
    confined = actor.project_ids
    with context.db.transaction(actor.scope) as connection:
        if project_id is not None:
            project_actions.visible(connection, actor, project_id)
            confined = frozenset({project_id})
        rows = base_store.page(
            connection, tenant_id=tenant_id, project_ids=confined, name=name, after=after, limit=limit
        )
        return _with_documents(connection, rows)


def _with_documents(connection: Connection, rows: list[Row]) -> list[Row]:
    counts = base_store.documents_by_state(connection, [row["id"] for row in rows]) if rows else {}
    return [{**row, "documents": counts.get(row["id"], {})} for row in rows]


def show(context: Context, actor: Actor, base_id: str) -> Row:
    """Return one knowledge base; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return _with_documents(connection, [visible(connection, actor, base_id)])[0]


def visible(connection: Connection, actor: Actor, base_id: str) -> Row:
    """Return a knowledge base that the caller may see; NotFoundError otherwise."""
    row = base_store.get(connection, base_id)
    if row is None:
        raise not_found("knowledge_base", base_id)
    actor.require_visible("knowledge_base", row["tenant_id"], row["project_id"], base_id)
    return row


def active(connection: Connection, actor: Actor, base_id: str) -> Row:
    """Return a visible knowledge base; ConflictError if it is being deleted."""
    row = visible(connection, actor, base_id)
    if row["wanted"] != "active":
        raise ConflictError("this knowledge base is being deleted")
    return row


def delete(context: Context, actor: Actor, base_id: str) -> Row:
    """Delete a knowledge base with all documents; its documents are not found any more from now on. Repeatable.

    ``proof_id`` in the answer names the proof, which is signed when nothing is left.
    """
    with change(context, actor, "knowledge_base.delete", base_id) as made:
        row = visible(made.connection, actor, base_id)
        actor.require("knowledge_base:delete", row["tenant_id"], row["project_id"])
        row = base_store.lock(made.connection, base_id) or row
        if row["wanted"] != "deleted":
            if row["owner_id"] is not None:
                raise ConflictError(
                    f"it belongs to the service '{row['name']}'; release that: penstock service release {row['name']}"
                )
            proof_id = delete_base(made.connection, row, actor.principal_id, context.clock.now())
            made.done(
                "knowledge_base.delete_asked",
                base_id,
                tenant_id=row["tenant_id"],
                project_id=row["project_id"],
                detail={"name": row["name"], "proof": proof_id},
            )
            row = {**row, "wanted": "deleted", "proof_id": proof_id}
        shown = _with_documents(made.connection, [row])[0]
    context.wakeups.signal("knowledge")
    return shown


def usage(context: Context, actor: Actor, base_id: str, *, start: date | None, end: date | None) -> list[Row]:
    """Return what a knowledge base was metered by, by day (UTC) and meter; by default since the first of the month.

    The tokens of its embedding service are in the ledger of tokens: `penstock usage --by key` has them under the
    knowledge base's id.
    """
    today = context.clock.now().date()
    last = end or today + timedelta(days=1)
    first = start or min(today, last - timedelta(days=1)).replace(day=1)
    if not first < last or (last - first).days > USAGE_DAYS_MAX:
        raise InvalidInputError(f"ask for 1 to {USAGE_DAYS_MAX} days", field="from")
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, base_id)
        actor.require("usage:read", row["tenant_id"], row["project_id"])
        return base_store.usage(connection, base_id, first, last)
