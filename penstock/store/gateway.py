"""What the token gateway may serve, read in three statements, and the usage it delivers, written in one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every

# Keys that could call an endpoint at all; what their roles and scopes allow is judged by domain.role.
_KEYS = sa.text(
    """
    SELECT k.id, k.secret_sha256, k.scopes, k.project_id, k.expires_at, k.requests_per_minute,
        k.tokens_per_minute, p.id AS principal_id, p.tenant_id,
        COALESCE((SELECT jsonb_agg(jsonb_build_array(b.role, b.tenant_id, b.project_id))
            FROM role_binding b WHERE b.principal_id = p.id), '[]'::jsonb) AS bindings
    FROM api_key k JOIN principal p ON p.id = k.principal_id JOIN tenant t ON t.id = p.tenant_id
    WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > :now)
        AND (k.idle_until IS NULL OR k.idle_until > :now)
        AND p.disabled_at IS NULL AND t.state = 'active' AND k.scopes && ARRAY['llm', '*']
    ORDER BY k.id
    """
)
# An endpoint whose replicas follow the load is shown also without one: who asks then is what starts it.
_ENDPOINTS = sa.text(
    """
    SELECT s.id, s.kind, s.name, s.tenant_id, s.project_id, s.spec, s.price_book_id, COALESCE(a.model, s.name) AS model,
        COALESCE(a.upstreams, '[]'::jsonb) AS upstreams
    FROM service s JOIN tenant t ON t.id = s.tenant_id AND t.state = 'active'
    LEFT JOIN LATERAL (
        SELECT min(a.config ->> 'served_model_name') AS model,
            jsonb_agg(jsonb_build_object('id', a.id, 'url', a.endpoint, 'cancel', a.driver = 'ctranslate2',
                'continues', a.driver IN ('ctranslate2', 'vllm'),
                'agent', CASE WHEN g.transport = 'https' AND a.endpoint LIKE 'https:%' THEN g.id END,
                'adapters', a.config -> 'adapters', 'external', a.driver = 'openai_compatible',
                'slots', COALESCE(a.config -> 'slots', a.detail -> 'slots'), 'secret', x.id, 'sealed', x.sealed)
                ORDER BY a.id) AS upstreams
        FROM allocation a JOIN agent g ON g.id = a.agent_id
        LEFT JOIN secret x ON x.project_id = a.project_id AND x.name = a.config ->> 'secret'
        WHERE a.service_id = s.id AND (s.kind <> 'rag' OR a.config ->> 'served_model_name' = s.name)
            AND a.wanted = 'present' AND a.draining_at IS NULL AND a.phase = 'ready'
            AND a.phase_generation = a.generation AND a.endpoint IS NOT NULL
    ) a ON true
    WHERE s.kind IN ('llm', 'llm_external', 'rag') AND s.wanted = 'running' AND s.state NOT IN ('released', 'failed', 'releasing')
        AND (a.upstreams IS NOT NULL AND s.state IN ('running', 'degraded')
            OR s.running_at IS NOT NULL AND jsonb_exists_any(s.spec, ARRAY['replicas_min', 'replicas_max']))
    ORDER BY s.id
    """
)
# What the workers of batches show to the gateway: as good as the key that a batch is billed to, and no longer.
_PASSES = sa.text(
    """
    SELECT k.id, b.pass_sha256 AS secret_sha256, ARRAY['llm'] AS scopes, b.project_id, b.expires_at,
        k.requests_per_minute, k.tokens_per_minute, p.id AS principal_id, b.tenant_id
    FROM batch b JOIN api_key k ON k.id = b.key_id JOIN principal p ON p.id = k.principal_id
    JOIN tenant t ON t.id = b.tenant_id
    WHERE b.state = 'in_progress' AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > :now)
        AND p.disabled_at IS NULL AND t.state = 'active'
    ORDER BY b.id
    """
)
_PROJECTS = sa.text("SELECT tenant_id, id FROM project WHERE state = 'active' ORDER BY tenant_id, id")
_TOKEN_QUOTAS = sa.text(
    "SELECT tenant_id, project_id, limit_amount FROM quota "
    "WHERE dimension = 'tokens_per_month' ORDER BY tenant_id, project_id"
)


def keys(connection: Connection, now: datetime) -> list[Row]:
    """Return live keys of live principals of active tenants, with the principal's role bindings."""
    return every(connection.execute(_KEYS, {"now": now}))


def passes(connection: Connection, now: datetime) -> list[Row]:
    """Return what stands for a key while a batch runs, with the key's id and limits."""
    return every(connection.execute(_PASSES, {"now": now}))


def endpoints(connection: Connection) -> list[Row]:
    """Return LLM services that may be asked, with their ready replicas; ``model`` is what their engines answer to.

    One whose replicas follow the load is among them from its first replica on, whatever it has now.
    ``upstreams`` have ``id``, ``url``, ``cancel``, ``agent``: whose relay it is reached through, or None; and for a
    server elsewhere ``external``, ``slots``, and id and sealed value of its ``secret``.
    """
    return every(connection.execute(_ENDPOINTS))


def projects(connection: Connection) -> list[tuple[str, str]]:
    """Return (tenant id, project id) of every active project."""
    return [(tenant_id, project_id) for tenant_id, project_id in connection.execute(_PROJECTS)]


def token_quotas(connection: Connection) -> dict[tuple[str, str | None], int]:
    """Return the monthly token limit of each tenant (with project None) and project that has one."""
    rows = every(connection.execute(_TOKEN_QUOTAS))
    return {(row["tenant_id"], row["project_id"]): row["limit_amount"] for row in rows}


# The project and the price book are the service's: a key may reach endpoints of several projects, and what
# was ordered at a price is billed at it. A record whose service is not the stated tenant's matches nothing.
_RECORD_USAGE = sa.text(
    """
    WITH said AS (
        SELECT * FROM jsonb_to_recordset(CAST(:records AS jsonb)) AS r(
            id text, key text, tenant text, principal text, service text, allocation text, model text,
            prompt_tokens bigint, completion_tokens bigint, ending text, streamed boolean, estimated boolean,
            started_at timestamptz, first_token_at timestamptz, ended_at timestamptz, batch text)
    ), known AS (
        SELECT r.*, s.project_id, s.price_book_id, CASE WHEN s.kind = 'rag' AND r.model <> s.name
            THEN s.spec ->> 'embedding_model' ELSE COALESCE(s.spec ->> 'model', r.model) END AS served
        FROM said r JOIN service s ON s.id = r.service AND s.tenant_id = r.tenant
    ), written AS (
        INSERT INTO token_usage (id, tenant_id, project_id, principal_id, service_id, key_id, allocation_id,
            endpoint, model, price_book_id, prompt_tokens, completion_tokens, ending, streamed, estimated,
            started_at, first_token_at, ended_at, received_at, batch_id)
        SELECT id, tenant, project_id, principal, service, key, allocation, model, served, price_book_id,
            prompt_tokens, completion_tokens, ending, streamed, estimated, started_at, first_token_at, ended_at, :now, batch
        FROM known ORDER BY id
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    SELECT k.id, w.id IS NOT NULL AS written FROM known k LEFT JOIN written w ON w.id = k.id
    """
)


def record_usage(connection: Connection, records: Sequence[dict[str, Any]], now: datetime) -> dict[str, bool]:
    """Write usage records; return, for each of a known service of its tenant, whether it was new.

    One statement. Instants are ISO 8601 texts; each id appears once. System scope.
    """
    document = orjson.dumps(list(records)).decode()
    rows = every(connection.execute(_RECORD_USAGE, {"records": document, "now": now}))
    return {row["id"]: row["written"] for row in rows}


_FIRST_TOKENS = sa.text(
    """
    WITH first AS (
        SELECT s.id, u.at FROM unnest(CAST(:ids AS text[]), CAST(:ats AS timestamptz[])) AS u(id, at)
        JOIN service s ON s.id = u.id
        WHERE s.first_token_at IS NULL OR s.first_token_at > u.at
        ORDER BY s.id FOR NO KEY UPDATE OF s
    ), before AS (SELECT id, first_token_at FROM service WHERE id IN (SELECT id FROM first))
    UPDATE service s SET first_token_at = LEAST(s.first_token_at, GREATEST(first.at, s.ordered_at))
    FROM first JOIN before ON before.id = first.id WHERE s.id = first.id
    RETURNING s.id, s.tenant_id, s.project_id, s.name, s.ordered_at, s.first_token_at,
        before.first_token_at IS NULL AS is_first
    """
)


def note_first_tokens(connection: Connection, first: dict[str, datetime]) -> list[Row]:
    """Stamp services with their earliest first token; return those changed, ``is_first`` if none was known."""
    if not first:
        return []
    parameters = {"ids": list(first), "ats": list(first.values())}
    return every(connection.execute(_FIRST_TOKENS, parameters))
