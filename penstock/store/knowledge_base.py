"""Knowledge bases: their rows, the tables of chunks behind them, and what they are metered by."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from psycopg import errors as pg_errors
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from penstock.base.errors import UnavailableError
from penstock.store.rows import Row, every, one
from penstock.store.schema import document, knowledge_base, knowledge_usage

# How widely the graph of vectors is searched: at least this many candidates, and at least 4 for each asked for.
_EFFORT_MIN = 300
# About how many chunks one question's words may make full-text search look at.
_WORDS_BUDGET = 600

_GET = sa.select(knowledge_base).where(knowledge_base.c.id == sa.bindparam("id"))


def insert(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Add a knowledge base and its table of chunks; False if the project has one of that name.

    Raises UnavailableError if this PostgreSQL has no pgvector.
    """
    statement = upsert(knowledge_base).values(**row).on_conflict_do_nothing()
    if connection.execute(statement.returning(knowledge_base.c.id)).first() is None:
        return False
    try:
        connection.execute(
            sa.text("SELECT knowledge_create(:id, :dimensions)"),
            {"id": row["id"], "dimensions": row["dimensions"]},
        )
    except DBAPIError as error:
        if isinstance(error.orig, pg_errors.FeatureNotSupported):
            raise UnavailableError(
                "the database of this factory has no pgvector, which knowledge bases need; an operator must install "
                "it there (0.7 or newer) and run CREATE EXTENSION vector, or use the embedded PostgreSQL",
                internal=str(error.orig),
            ) from error
        raise
    return True


def get(connection: Connection, base_id: str) -> Row | None:
    """Return a knowledge base, also one that is being deleted, or None."""
    return one(connection.execute(_GET, {"id": base_id}))


def of_owners(connection: Connection, owner_ids: Collection[str]) -> list[Row]:
    """Return the knowledge bases of these services, locked."""
    query = sa.select(knowledge_base).where(knowledge_base.c.owner_id.in_(sorted(owner_ids)))
    return every(connection.execute(query.order_by(knowledge_base.c.id).with_for_update()))


def proved(connection: Connection, owner_ids: Collection[str]) -> set[str]:
    """Return those of these services whose knowledge base has answered a first question."""
    query = sa.select(knowledge_base.c.owner_id).where(
        knowledge_base.c.owner_id.in_(sorted(owner_ids)), knowledge_base.c.proved_at.is_not(None)
    )
    return set(connection.execute(query).scalars())


_TO_PROVE = sa.text(
    """
    SELECT b.*, s.name AS service_name FROM knowledge_base b JOIN service s ON s.id = b.owner_id
    WHERE b.proved_at IS NULL AND b.wanted = 'active' AND s.wanted = 'running' AND s.state IN ('starting', 'degraded')
        AND EXISTS (SELECT 1 FROM allocation a WHERE a.service_id = s.id AND a.wanted = 'present')
        AND NOT EXISTS (SELECT 1 FROM allocation a WHERE a.service_id = s.id AND a.wanted = 'present'
            AND (a.phase <> 'ready' OR a.phase_generation <> a.generation))
    ORDER BY b.id LIMIT :limit
    """
)
_PROVED = sa.text(
    """
    WITH moved AS (
        UPDATE knowledge_base SET proved_at = :now WHERE id = :id AND proved_at IS NULL AND wanted = 'active' RETURNING owner_id
    )
    UPDATE service s SET due_at = :now, message = '' FROM moved WHERE s.id = moved.owner_id AND s.wanted = 'running'
    """
)


def to_prove(connection: Connection, limit: int) -> list[Row]:
    """Return knowledge bases of services whose parts run all, and that have not answered a first question yet."""
    return every(connection.execute(_TO_PROVE, {"limit": limit}))


def prove(connection: Connection, base_id: str, now: datetime) -> None:
    """Write that a first question went all the way, and let the engine look at the service."""
    connection.execute(_PROVED, {"id": base_id, "now": now})


def hold(connection: Connection, base_id: str) -> Row | None:
    """Return a knowledge base and keep it from being removed until the transaction ends."""
    return one(connection.execute(_GET.with_for_update(key_share=True, read=True), {"id": base_id}))


def lock(connection: Connection, base_id: str) -> Row | None:
    """Return a knowledge base and keep everybody else from changing it until the transaction ends."""
    return one(connection.execute(_GET.with_for_update(), {"id": base_id}))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` knowledge bases by id; None filters are open."""
    query = sa.select(knowledge_base).order_by(knowledge_base.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(knowledge_base.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(knowledge_base.c.project_id.in_(sorted(project_ids)))
    if name is not None:
        query = query.where(knowledge_base.c.name == name)
    if after is not None:
        query = query.where(knowledge_base.c.id > after)
    return every(connection.execute(query))


def count_in_project(connection: Connection, project_id: str) -> int:
    """Return how many knowledge bases a project has."""
    query = sa.select(sa.func.count()).where(knowledge_base.c.project_id == project_id)
    return connection.execute(query).scalar_one()


def documents_by_state(connection: Connection, base_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return the number of documents in each state, by knowledge base."""
    query = (
        sa.select(document.c.knowledge_base_id, document.c.state, sa.func.count().label("count"))
        .where(document.c.knowledge_base_id.in_(sorted(base_ids)))
        .group_by(document.c.knowledge_base_id, document.c.state)
    )
    found: dict[str, dict[str, int]] = {}
    for row in every(connection.execute(query)):
        found.setdefault(row["knowledge_base_id"], {})[row["state"]] = row["count"]
    return found


def want_deleted(connection: Connection, base_id: str, proof_id: str, at: datetime) -> None:
    """Hide a knowledge base's documents from searches at once, and let the engine remove all of it."""
    connection.execute(
        sa.update(knowledge_base)
        .where(knowledge_base.c.id == base_id)
        .values(wanted="deleted", proof_id=proof_id)
    )
    connection.execute(
        sa.update(document)
        .where(document.c.knowledge_base_id == base_id)
        .values(wanted="deleted", state="deleting", due_at=at, updated_at=at)
    )


def doomed(connection: Connection, limit: int) -> list[Row]:
    """Return knowledge bases that are to be deleted, locked for this transaction; others' are skipped."""
    query = (
        sa.select(knowledge_base)
        .where(knowledge_base.c.wanted == "deleted")
        .order_by(knowledge_base.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return every(connection.execute(query))


def remove(connection: Connection, base_id: str) -> None:
    """Remove a knowledge base, its meters' rows kept, with its table of chunks; its documents must be gone."""
    connection.execute(sa.text("SELECT knowledge_drop(:id)"), {"id": base_id})
    connection.execute(sa.delete(knowledge_base).where(knowledge_base.c.id == base_id))


# ---- chunks ------------------------------------------------------------------------------------------------

_ADD = sa.text("SELECT knowledge_add(:base, :document, :version, :language, CAST(:chunks AS jsonb))")
_REMOVE = sa.text("SELECT knowledge_remove(:base, :document, CAST(:keep AS int[]))")
_COUNT = sa.text("SELECT knowledge_count(:base, :document, :version)")
_NEAR = sa.text("SELECT * FROM knowledge_near(:base, :vector, :effort, :most)")
_WORDS = sa.text("SELECT * FROM knowledge_words(:base, :language, :asked, :budget, :most)")
_READ = sa.text("SELECT * FROM knowledge_read(:base, CAST(:keys AS jsonb))")


def add_chunks(
    connection: Connection,
    base: Mapping[str, Any],
    document_id: str,
    version: int,
    chunks: Sequence[Mapping[str, Any]],
) -> int:
    """Write chunks (position, heading, page, start, end, content, vector); those that are there stay."""
    parameters = {
        "base": base["id"],
        "document": document_id,
        "version": version,
        "language": base["language"],
        "chunks": orjson.dumps(list(chunks)).decode(),
    }
    return int(connection.execute(_ADD, parameters).scalar_one())


def remove_chunks(connection: Connection, base_id: str, document_id: str, keep: Sequence[int] = ()) -> int:
    """Remove a document's chunks but those of the versions in ``keep``; return how many went."""
    parameters = {"base": base_id, "document": document_id, "keep": list(keep)}
    return int(connection.execute(_REMOVE, parameters).scalar_one())


def count_chunks(
    connection: Connection, base_id: str, document_id: str | None = None, version: int | None = None
) -> int | None:
    """Return the number of chunks that are there; None if the table itself is gone."""
    parameters = {"base": base_id, "document": document_id, "version": version}
    found = connection.execute(_COUNT, parameters).scalar_one()
    return None if found is None else int(found)


def near(connection: Connection, base_id: str, vector: str, most: int) -> list[Row]:
    """Return the ``most`` nearest chunks by cosine, nearest first; ``vector`` is pgvector's text form."""
    parameters = {"base": base_id, "vector": vector, "effort": max(_EFFORT_MIN, 4 * most), "most": most}
    return every(connection.execute(_NEAR, parameters))


def with_words(connection: Connection, base: Mapping[str, Any], asked: str, most: int) -> list[Row]:
    """Return the ``most`` best chunks that hold words of ``asked``."""
    parameters = {
        "base": base["id"],
        "language": base["language"],
        "asked": asked,
        "budget": _WORDS_BUDGET,
        "most": most,
    }
    return every(connection.execute(_WORDS, parameters))


def read_chunks(connection: Connection, base_id: str, keys: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return what stands in chunks, in no order; ``keys`` have document_id, version and position."""
    parameters = {"base": base_id, "keys": orjson.dumps(list(keys)).decode()}
    return every(connection.execute(_READ, parameters))


# ---- meters ------------------------------------------------------------------------------------------------


def charged_to(base: Mapping[str, Any]) -> str:
    """Return the id that a knowledge base's invoice lines name: its service's, else its own."""
    return str(base["owner_id"] or base["id"])


def meter(
    connection: Connection,
    base: Mapping[str, Any],
    day: date,
    quantities: Mapping[str, int],
    key_id: str | None = None,
) -> None:
    """Add quantities by meter to a knowledge base's day (UTC), for whoever asked with ``key_id``."""
    for name, quantity in sorted(quantities.items()):
        if quantity:
            parameters = {
                "base": base["id"],
                "day": day,
                "meter": name,
                "key": key_id or "",
                "quantity": quantity,
            }
            connection.execute(_METER, parameters)


_METER = sa.text(
    """
    INSERT INTO knowledge_usage (knowledge_base_id, day, meter, key_id, tenant_id, project_id, service_id, item,
        price_book_id, quantity)
    SELECT id, :day, :meter, :key, tenant_id, project_id, coalesce(owner_id, id), model, price_book_id, :quantity
    FROM knowledge_base WHERE id = :base
    ON CONFLICT (knowledge_base_id, day, meter, key_id)
        DO UPDATE SET quantity = knowledge_usage.quantity + excluded.quantity
    """
)
# What is stored, by whole seconds since it was metered last, cut at midnights of UTC so that each day has its own.
_METER_STORED = """
    WITH due AS (
        SELECT id, tenant_id, project_id, model, price_book_id, metered_until, coalesce(owner_id, id) AS charged_to,
            metered_until + make_interval(secs => floor(
                extract(epoch FROM CAST(:now AS timestamptz) - metered_until))) AS until
        FROM knowledge_base WHERE {which} FOR UPDATE {others}
    ), stored AS (
        SELECT due.id, coalesce(sum(d.size_bytes), 0) AS bytes, coalesce(sum(d.chunks_kept), 0) AS chunks
        FROM due LEFT JOIN document d ON d.knowledge_base_id = due.id GROUP BY due.id
    ), moved AS (
        UPDATE knowledge_base b SET metered_until = due.until FROM due WHERE b.id = due.id AND due.until > due.metered_until
    )
    INSERT INTO knowledge_usage (knowledge_base_id, day, meter, key_id, tenant_id, project_id, service_id, item,
        price_book_id, quantity)
    SELECT due.id, CAST(day AS date), m.meter, '', due.tenant_id, due.project_id, due.charged_to, due.model,
        due.price_book_id, CAST(m.amount * extract(epoch FROM
            LEAST(timezone('UTC', due.until), day + interval '1 day') - GREATEST(timezone('UTC', due.metered_until), day)
        ) AS bigint)
    FROM due JOIN stored ON stored.id = due.id
    CROSS JOIN LATERAL generate_series(date_trunc('day', timezone('UTC', due.metered_until)),
        timezone('UTC', due.until), interval '1 day') AS day
    CROSS JOIN LATERAL (VALUES ('byte_seconds', stored.bytes), ('chunk_seconds', stored.chunks)) AS m (meter, amount)
    WHERE m.amount > 0 AND timezone('UTC', due.until) > GREATEST(timezone('UTC', due.metered_until), day)
    ON CONFLICT (knowledge_base_id, day, meter, key_id)
        DO UPDATE SET quantity = knowledge_usage.quantity + excluded.quantity
"""
_METER_DUE = sa.text(
    _METER_STORED.format(
        which="metered_until < CAST(:now AS timestamptz) - CAST(:every AS interval) ORDER BY metered_until LIMIT :limit",
        others="SKIP LOCKED",
    )
)
_METER_ONE = sa.text(_METER_STORED.format(which="id = :id", others=""))


def meter_stored(connection: Connection, now: datetime, every_seconds: int, limit: int) -> int:
    """Meter what is stored since it was metered last, at most every so many seconds; return rows written."""
    parameters = {"now": now, "every": f"{every_seconds} seconds", "limit": limit}
    return connection.execute(_METER_DUE, parameters).rowcount


def settle_stored(connection: Connection, base_id: str, now: datetime) -> None:
    """Meter what is stored up to now; call it in the transaction that changes what is stored, before the change."""
    connection.execute(_METER_ONE, {"now": now, "id": base_id})


def usage(connection: Connection, base_id: str, start: date, end: date) -> list[Row]:
    """Return quantities by day and meter in ``[start, end)``, whoever asked."""
    quantity = sa.cast(sa.func.sum(knowledge_usage.c.quantity), sa.BigInteger).label("quantity")
    query = (
        sa.select(knowledge_usage.c.day, knowledge_usage.c.meter, quantity)
        .where(
            knowledge_usage.c.knowledge_base_id == base_id,
            knowledge_usage.c.day >= start,
            knowledge_usage.c.day < end,
        )
        .group_by(knowledge_usage.c.day, knowledge_usage.c.meter)
        .order_by(knowledge_usage.c.day, knowledge_usage.c.meter)
    )
    return every(connection.execute(query))
