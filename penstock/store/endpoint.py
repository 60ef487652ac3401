"""Endpoints as those see them who call engines directly: ready replicas of a service, and the books of a call."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.gateway import record_usage
from penstock.store.rows import Row, every, one

_MODEL = sa.text(
    """
    SELECT s.id AS service_id, s.name, s.tenant_id, s.project_id, s.wanted, s.state, s.price_book_id,
        m.name AS model, m.kind, m.dimensions, m.context_tokens
    FROM service s JOIN model m ON m.name = s.spec ->> 'model'
    WHERE s.kind IN ('llm', 'rag') AND s.project_id = :project AND (s.id = :service OR s.name = :service)
    ORDER BY s.wanted = 'running' DESC, s.id DESC LIMIT 1
    """
)
_REPLICAS = sa.text(
    """
    SELECT a.id AS allocation_id, a.endpoint AS url, a.config ->> 'served_model_name' AS model, s.id AS service_id,
        s.price_book_id, m.name AS catalogue_model, m.context_tokens
    FROM service s JOIN allocation a ON a.service_id = s.id
        AND (s.kind <> 'rag' OR (a.config ->> 'served_model_name' = s.name) <> :embeds)
    JOIN model m ON m.name = s.spec ->> CASE WHEN s.kind = 'rag' AND :embeds THEN 'embedding_model' ELSE 'model' END
    WHERE s.id = :service AND s.wanted = 'running' AND a.wanted = 'present' AND a.phase = 'ready'
        AND a.phase_generation = a.generation AND a.endpoint IS NOT NULL
    ORDER BY a.id
    """
)

# Whom a request of a batch is billed to: the endpoint that its model is the name of, or begins with.
_OF_MODEL = sa.text(
    """
    SELECT s.id AS service_id, :model AS model, COALESCE((
        SELECT a.id FROM allocation a WHERE a.service_id = s.id AND a.wanted = 'present' ORDER BY a.phase = 'ready' DESC, a.id LIMIT 1
    ), '') AS allocation_id
    FROM service s
    WHERE s.project_id = :project AND s.kind IN ('llm', 'llm_external', 'rag') AND starts_with(:model, s.name)
    ORDER BY length(s.name) DESC, s.wanted = 'running' DESC, s.id DESC LIMIT 1
    """
)


# One replica of an endpoint that may rank texts; url is null while none is ready.
_RERANKER = sa.text(
    """
    SELECT s.id AS service_id, s.kind, s.price_book_id, s.spec ->> 'model' AS catalogue_model, a.id AS allocation_id,
        a.endpoint AS url, COALESCE(a.config ->> 'served_model_name', s.name) AS model, x.id AS secret_id, x.sealed
    FROM service s
    LEFT JOIN allocation a ON a.service_id = s.id AND a.wanted = 'present' AND a.phase = 'ready'
        AND a.phase_generation = a.generation AND a.endpoint IS NOT NULL
    LEFT JOIN secret x ON x.project_id = s.project_id AND x.name = a.config ->> 'secret'
    WHERE s.kind IN ('llm', 'llm_external') AND s.project_id = :project AND (s.id = :service OR s.name = :service)
        AND s.wanted = 'running'
    ORDER BY s.id DESC, random() LIMIT 1
    """
)


def reranker(connection: Connection, project_id: str, service: str) -> Row | None:
    """Return an endpoint of a project with one of its replicas (``url`` None: none is ready), or None."""
    return one(connection.execute(_RERANKER, {"project": project_id, "service": service}))


def of_model(connection: Connection, project_id: str, model: str) -> Row | None:
    """Return the endpoint of a project that answers to a model name, as ``record_call`` takes it; or None."""
    return one(connection.execute(_OF_MODEL, {"project": project_id, "model": model}))


def find(connection: Connection, project_id: str, service: str) -> Row | None:
    """Return the LLM service of that id or name in a project with its model; the running one before others."""
    return one(connection.execute(_MODEL, {"project": project_id, "service": service}))


def replicas(connection: Connection, service_id: str, *, embeds: bool = False) -> list[Row]:
    """Return the ready replicas of a service: url, model (the name to call), ids, price book, model of the catalogue, context_tokens.

    Of a service of kind ``rag`` those that answer, or with ``embeds`` those that make its vectors.
    """
    return every(connection.execute(_REPLICAS, {"service": service_id, "embeds": embeds}))


def record_call(
    connection: Connection,
    replica: Mapping[str, Any],
    *,
    what: str,
    tenant_id: str,
    principal_id: str,
    key: str,
    prompt_tokens: int,
    completion_tokens: int,
    started_at: datetime,
    ended_at: datetime,
    batch: str | None = None,
    estimated: bool = False,
) -> str:
    """Write the usage record of a call into the books, once for each ``what``; return the record's id.

    ``key`` is the API key that asked, or the knowledge base that the engine indexes for.
    """
    record_id = "use_" + hashlib.sha256(what.encode()).hexdigest()[:32]
    record = {
        "id": record_id,
        "key": key,
        "tenant": tenant_id,
        "principal": principal_id,
        "service": replica["service_id"],
        "allocation": replica["allocation_id"],
        "model": replica["model"],
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "ending": "stop",
        "streamed": False,
        "estimated": estimated,
        "started_at": started_at,
        "first_token_at": None,
        "ended_at": ended_at,
        "batch": batch,
    }
    record_usage(connection, [record], ended_at)
    return record_id
