"""What gateways say of endpoints whose replicas follow the load, and what the autoscaler remembers of each.

Growth: a row for each such endpoint, and one for each gateway process that serves it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.store.rows import Row, every, one

_SEEN = sa.text(
    "INSERT INTO gateway_seen (gateway, seen_at) VALUES (:gateway, :now) "
    "ON CONFLICT (gateway) DO UPDATE SET seen_at = EXCLUDED.seen_at"
)
# A signal about a service that is not the stated tenant's matches nothing. Requests add up until they are looked at.
_SIGNALS = sa.text(
    """
    WITH said AS (
        SELECT * FROM jsonb_to_recordset(CAST(:signals AS jsonb)) AS r(service text, tenant text, waiting int,
            in_flight int, tokens bigint, requests bigint, ttft_us bigint, upstreams text[])
    ), known AS (
        SELECT r.* FROM said r JOIN service s ON s.id = r.service AND s.tenant_id = r.tenant AND s.kind IN ('llm', 'rag')
    ), written AS (
        INSERT INTO gateway_signal AS g (service_id, gateway, tenant_id, waiting, in_flight, tokens, requests, ttft_us,
            upstreams, at)
        SELECT service, :gateway, tenant, waiting, in_flight, tokens, requests, ttft_us, upstreams, :now
        FROM known ORDER BY service
        ON CONFLICT (service_id, gateway) DO UPDATE SET waiting = EXCLUDED.waiting, in_flight = EXCLUDED.in_flight,
            tokens = EXCLUDED.tokens, requests = g.requests + EXCLUDED.requests, ttft_us = EXCLUDED.ttft_us,
            upstreams = EXCLUDED.upstreams, at = EXCLUDED.at
        RETURNING service_id
    )
    UPDATE autoscale a SET due_at = :now FROM (SELECT service_id FROM written) w WHERE a.service_id = w.service_id
    RETURNING a.service_id
    """
)
# Services that drain are looked at again when a gateway spoke: it may have named the replica for the last time.
_WAKE_DRAINING = sa.text(
    """
    UPDATE service s SET due_at = :now WHERE s.id = ANY(:ids) AND s.lease_token IS NULL AND EXISTS (
        SELECT FROM allocation a WHERE a.service_id = s.id AND a.draining_at IS NOT NULL AND a.wanted = 'present')
    """
)


def take_signals(
    connection: Connection, gateway: str, signals: Sequence[Mapping[str, Any]], now: datetime
) -> tuple[int, bool]:
    """Write what a gateway says; return of how many endpoints, and whether one of them drains. System scope."""
    connection.execute(_SEEN, {"gateway": gateway, "now": now})
    if not signals:
        return 0, False
    document = orjson.dumps(list(signals)).decode()
    values = {"signals": document, "gateway": gateway, "now": now}
    ids = list(connection.execute(_SIGNALS, values).scalars())
    drains = connection.execute(_WAKE_DRAINING, {"ids": sorted(ids), "now": now}).rowcount
    return len(ids), drains > 0


_BEGIN = sa.text(
    """
    INSERT INTO autoscale (service_id, tenant_id, busy_at, needed_at, due_at)
    SELECT id, tenant_id, :now, :now, :now FROM service WHERE id = ANY(:ids) ORDER BY id
    ON CONFLICT (service_id) DO UPDATE SET due_at = EXCLUDED.due_at
    """
)


def begin(connection: Connection, service_ids: Sequence[str], now: datetime) -> None:
    """Let the autoscaler look at these endpoints now, and remember them from now on."""
    connection.execute(_BEGIN, {"ids": list(service_ids), "now": now})


_DEMAND = sa.text(
    """
    INSERT INTO autoscale (service_id, tenant_id, busy_at, needed_at, demanded_until, due_at)
    SELECT id, tenant_id, :now, :now, :until, :now FROM service
    WHERE id = :id AND wanted = 'running' AND jsonb_exists_any(spec, ARRAY['replicas_min', 'replicas_max'])
    ON CONFLICT (service_id) DO UPDATE SET due_at = EXCLUDED.due_at, demanded_until = EXCLUDED.demanded_until
    WHERE autoscale.demanded_until IS NULL OR autoscale.demanded_until < :soon
    """
)


def demand(connection: Connection, service_id: str, now: datetime) -> bool:
    """Say that a part of the factory itself uses an endpoint, so that it wakes and stays awake for ``DEMAND_TIME``.

    Tells whether that was news; nothing happens where the number of replicas does not follow the load.
    """
    until = now + limits.DEMAND_TIME
    values = {"id": service_id, "now": now, "until": until, "soon": until - limits.DEMAND_TIME / 3}
    return connection.execute(_DEMAND, values).rowcount == 1


# What another engine is at just now is left to it, or to the next tick.
_DUE = sa.text(
    """
    WITH due AS (SELECT service_id FROM autoscale WHERE due_at <= :now ORDER BY due_at, service_id LIMIT :limit),
    locked AS MATERIALIZED (
        SELECT * FROM service WHERE id IN (SELECT service_id FROM due) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT s.id, s.tenant_id, s.project_id, s.name, s.kind, s.spec, s.wanted, s.state, s.running_at, s.replicas_wanted,
        a.busy_at, a.needed_at, a.up_at, a.demanded_until,
        (SELECT count(*) FROM allocation r WHERE r.service_id = s.id AND r.wanted = 'present' AND r.phase = 'ready'
            AND r.phase_generation = r.generation AND r.draining_at IS NULL) AS ready,
        g.waiting, g.in_flight, g.tokens, g.requests, g.ttft_us
    FROM locked s JOIN autoscale a ON a.service_id = s.id AND a.due_at <= :now
    CROSS JOIN LATERAL (
        SELECT COALESCE(sum(g.waiting), 0)::int AS waiting, COALESCE(sum(g.in_flight), 0)::int AS in_flight,
            COALESCE(sum(g.tokens), 0)::bigint AS tokens, COALESCE(sum(g.requests), 0)::bigint AS requests,
            max(g.ttft_us) AS ttft_us
        FROM gateway_signal g JOIN gateway_seen w ON w.gateway = g.gateway
        WHERE g.service_id = s.id AND w.seen_at > :alive
    ) g
    ORDER BY s.id
    """
)
_SEEN_REQUESTS = sa.text(
    "UPDATE gateway_signal SET requests = 0 WHERE service_id = ANY(:ids) AND requests > 0"
)


def due(connection: Connection, now: datetime, limit: int, gateways_alive_since: datetime) -> list[Row]:
    """Return endpoints that are to be looked at, locked, with what is remembered and what live gateways say."""
    values = {"now": now, "limit": limit, "alive": gateways_alive_since}
    rows = every(connection.execute(_DUE, values))
    connection.execute(_SEEN_REQUESTS, {"ids": [row["id"] for row in rows]})
    return rows


_REMEMBER = sa.text(
    """
    UPDATE autoscale a SET busy_at = u.busy_at, needed_at = u.needed_at, up_at = u.up_at, due_at = u.due_at,
        step = COALESCE(u.step, a.step), stepped_at = COALESCE(u.stepped_at, a.stepped_at)
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS u(service_id text, busy_at timestamptz, needed_at timestamptz,
        up_at timestamptz, due_at timestamptz, step jsonb, stepped_at timestamptz)
    WHERE a.service_id = u.service_id
    """
)
_WANT = sa.text(
    """
    UPDATE service s SET replicas_wanted = u.replicas, due_at = :now, lease_token = NULL
    FROM unnest(CAST(:ids AS text[]), CAST(:replicas AS int[])) AS u(id, replicas) WHERE s.id = u.id
    """
)


def remember(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what the autoscaler remembers; a row has service_id, busy_at, needed_at, up_at, due_at, step, stepped_at."""
    connection.execute(_REMEMBER, {"rows": orjson.dumps(list(rows)).decode()})


def want(connection: Connection, replicas: Mapping[str, int], now: datetime) -> None:
    """Set how many replicas services should have and take the rows from whoever leases them."""
    ids = sorted(replicas)
    if ids:
        connection.execute(_WANT, {"ids": ids, "replicas": [replicas[id_] for id_ in ids], "now": now})


_FORGET = sa.text("DELETE FROM autoscale WHERE service_id = ANY(:ids)")
_FORGET_SIGNALS = sa.text("DELETE FROM gateway_signal WHERE service_id = ANY(:ids)")
_FORGET_GATEWAYS = sa.text(
    """
    WITH gone AS (DELETE FROM gateway_seen WHERE seen_at < :before RETURNING gateway)
    DELETE FROM gateway_signal WHERE gateway IN (SELECT gateway FROM gone)
    """
)


def forget(connection: Connection, service_ids: Sequence[str]) -> None:
    """Forget endpoints that are over."""
    if service_ids:
        connection.execute(_FORGET, {"ids": list(service_ids)})
        connection.execute(_FORGET_SIGNALS, {"ids": list(service_ids)})


def forget_gateways(connection: Connection, before: datetime) -> None:
    """Forget gateways that were not heard of since ``before``, and what they said."""
    connection.execute(_FORGET_GATEWAYS, {"before": before})


_SHOW = sa.text(
    """
    SELECT a.step, a.stepped_at, a.busy_at, g.* FROM (SELECT CAST(:id AS text) AS id) s
    LEFT JOIN autoscale a ON a.service_id = s.id
    CROSS JOIN LATERAL (
        SELECT COALESCE(sum(g.waiting), 0)::int AS waiting, COALESCE(sum(g.in_flight), 0)::int AS in_flight,
            COALESCE(sum(g.tokens), 0)::bigint AS tokens, max(g.ttft_us) AS ttft_us, count(*)::int AS gateways
        FROM gateway_signal g JOIN gateway_seen w ON w.gateway = g.gateway
        WHERE g.service_id = s.id AND w.seen_at > :alive
    ) g
    """
)
_SET_SPEC = sa.text(
    "UPDATE service SET spec = CAST(:spec AS jsonb), replicas_wanted = COALESCE(replicas_wanted, :replicas), "
    "generation = generation + 1 WHERE id = :id"
)


def show(connection: Connection, service_id: str, gateways_alive_since: datetime) -> Row:
    """Return the last step and what live gateways say of an endpoint."""
    values = {"id": service_id, "alive": gateways_alive_since}
    return one(connection.execute(_SHOW, values)) or {}


def set_spec(connection: Connection, service_id: str, spec: Mapping[str, Any], replicas: int) -> None:
    """Replace what a service was ordered as: its policy was changed. ``replicas`` is what it has without a decision."""
    values = {"id": service_id, "spec": orjson.dumps(dict(spec)).decode(), "replicas": replicas}
    connection.execute(_SET_SPEC, values)
