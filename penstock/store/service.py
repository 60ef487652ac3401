"""Services: insert, read, lease in batches, record in batches guarded by the lease token."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.service import ServiceState
from penstock.store.rows import Row, every, one
from penstock.store.schema import decision, service

# Everything an order is checked against, in one round trip. Row-level security applies to the project, which
# cannot be deleted until the order is in it.
_ORDER_INPUTS = sa.text(
    """
    SELECT
        (SELECT row_to_json(p) FROM (SELECT * FROM project WHERE id = :project FOR KEY SHARE) p) AS project,
        (SELECT row_to_json(o) FROM offer o WHERE (o.name = :offer OR o.id = :offer) AND o.state = 'active') AS offer,
        (SELECT id FROM price_book ORDER BY version DESC LIMIT 1) AS price_book_id,
        (SELECT jsonb_agg(to_jsonb(m) - 'licence_text') FROM model m WHERE m.state = 'active') AS models
    """
)


def order_inputs(connection: Connection, project: str, offer: str) -> Row:
    """Return ``project`` and ``offer`` rows (None if absent), the newest ``price_book_id`` and active ``models``."""
    row = one(connection.execute(_ORDER_INPUTS, {"project": project, "offer": offer}))
    return row or {}


# The order, who gave it and the event of it, in one round trip and one statement.
_INSERT_ORDERED = sa.text(
    """
    WITH ordered AS (
        INSERT INTO service (id, tenant_id, project_id, offer_id, kind, name, spec, holds, ordered_by, price_book_id,
            wanted, state, due_at, ordered_at, queued_at, idempotency_key, request_sha256, reservation_id, ends_at,
            duration_s)
        VALUES (:id, :tenant_id, :project_id, :offer_id, :kind, :name, CAST(:spec AS jsonb), CAST(:holds AS jsonb),
            :ordered_by, :price_book_id, :wanted, :state, :due_at, :at, :at, :idempotency_key, :request_sha256,
            :reservation_id, :ends_at, :duration_s)
    ), audited AS (
        INSERT INTO audit (at, tenant_id, principal_id, key_id, action, subject_id, outcome, source_address,
            user_agent, request_id, detail)
        VALUES (:at, :tenant_id, :ordered_by, :key_id, 'service.order', :id, 'done', :source_address, :user_agent,
            :request_id, CAST(:detail AS jsonb))
    )
    INSERT INTO event (at, tenant_id, project_id, kind, subject_id, data)
    VALUES (:at, :tenant_id, :project_id, 'service.ordered', :id, CAST(:data AS jsonb))
    """
)


def insert_ordered(
    connection: Connection,
    row: Mapping[str, Any],
    *,
    audit: Mapping[str, Any],
    detail: Mapping[str, Any],
    data: Mapping[str, Any],
) -> None:
    """Add an ordered service with its audit row and event.

    ``audit`` has key_id, source_address, user_agent and request_id. IntegrityError if the live name or the
    idempotency key is taken in the project.
    """
    documents = {"spec": row["spec"], "holds": row["holds"], "detail": detail, "data": data}
    values = {name: orjson.dumps(document).decode() for name, document in documents.items()}
    connection.execute(_INSERT_ORDERED, {**row, **audit, **values, "at": row["ordered_at"]})


_GET = sa.select(service).where(service.c.id == sa.bindparam("id"))


def get(connection: Connection, service_id: str) -> Row | None:
    """Return one service, or None."""
    return one(connection.execute(_GET, {"id": service_id}))


_BY_KEY = sa.select(service).where(
    service.c.project_id == sa.bindparam("project_id"), service.c.idempotency_key == sa.bindparam("key")
)


def find_by_idempotency_key(connection: Connection, project_id: str, key: str) -> Row | None:
    """Return the service that was ordered with this key in this project."""
    return one(connection.execute(_BY_KEY, {"project_id": project_id, "key": key}))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    states: Sequence[str],
    kind: str | None,
    name: str | None,
    after: str | None,
    limit: int,
    newest_first: bool = False,
) -> list[Row]:
    """Return up to ``limit`` services by id; None filters are open."""
    query = sa.select(service).order_by(service.c.id.desc() if newest_first else service.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(service.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(service.c.project_id.in_(sorted(project_ids)))
    if states:
        query = query.where(service.c.state.in_(states))
    if kind is not None:
        query = query.where(service.c.kind == kind)
    if name is not None:
        query = query.where(service.c.name == name)
    if after is not None:
        query = query.where(service.c.id < after if newest_first else service.c.id > after)
    return every(connection.execute(query))


_ORDERED_SINCE = sa.text(
    "SELECT count(*) AS orders, max(id) AS last FROM (SELECT id FROM service WHERE id > :after ORDER BY id LIMIT :limit) s"
)


def ordered_since(connection: Connection, after: str, limit: int) -> tuple[int, str]:
    """Return how many services, at most ``limit``, were ordered after the one with id ``after``, and the last of them."""
    row = connection.execute(_ORDERED_SINCE, {"after": after, "limit": limit}).one()
    return int(row.orders), str(row.last or after)


_LATEST_ORDERS = sa.text(
    """
    SELECT kind, spec, count(*) AS orders, max(id) AS last
    FROM (SELECT id, kind, spec FROM service ORDER BY id DESC LIMIT :limit) s
    GROUP BY kind, spec ORDER BY max(id) DESC LIMIT :shapes
    """
)


def latest_orders(connection: Connection, limit: int, shapes: int) -> list[Row]:
    """Return the distinct orders (kind, spec) among the latest ``limit``, how often each came, and its last id."""
    return every(connection.execute(_LATEST_ORDERS, {"limit": limit, "shapes": shapes}))


_LEASE = sa.text(
    """
    WITH due AS (
        SELECT id FROM service WHERE due_at <= :now
        ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE service s SET lease_token = :token, due_at = :until
    FROM due WHERE s.id = due.id
    RETURNING s.*
    """
)


def lease(connection: Connection, now: datetime, token: str, limit: int, lease_time: timedelta) -> list[Row]:
    """Take up to ``limit`` due services; until ``now + lease_time`` nobody else will."""
    return every(
        connection.execute(_LEASE, {"now": now, "limit": limit, "token": token, "until": now + lease_time})
    )


_END_LEASES = sa.text("UPDATE service SET due_at = :now, lease_token = NULL WHERE lease_token IS NOT NULL")


def end_leases(connection: Connection, now: datetime) -> None:
    """Make every leased service due again: the caller knows that no engine holds one."""
    connection.execute(_END_LEASES, {"now": now})


_LOCK = sa.text(
    "SELECT id FROM service WHERE id = ANY(:ids) AND lease_token = :token ORDER BY id FOR NO KEY UPDATE"
)


def lock_leased(connection: Connection, ids: Sequence[str], token: str) -> set[str]:
    """Lock those of ``ids`` that are still leased under ``token``; the others changed meanwhile."""
    return set(connection.execute(_LOCK, {"ids": sorted(ids), "token": token}).scalars())


_RECORD = sa.text(
    """
    UPDATE service s SET
        state = u.state, reason = u.reason, message = u.message, ends_as = COALESCE(u.ends_as, s.ends_as),
        due_at = u.due_at, lease_token = NULL, deadline_at = u.deadline_at, attempts = u.attempts,
        simulated = COALESCE(u.simulated, s.simulated), holds = COALESCE(u.holds, s.holds),
        avoid_nodes = COALESCE(u.avoid_nodes, s.avoid_nodes),
        yields_to = CASE WHEN u.state = 'queued' THEN NULL ELSE s.yields_to END,
        ends_at = CASE WHEN u.state = 'queued' AND s.duration_s IS NOT NULL AND s.reservation_id IS NULL THEN NULL
            ELSE COALESCE(u.ends_at, s.ends_at) END,
        generation = s.generation + 1,
        placed_at = COALESCE(u.placed_at, s.placed_at), started_at = COALESCE(u.started_at, s.started_at),
        loaded_at = COALESCE(u.loaded_at, s.loaded_at), running_at = COALESCE(s.running_at, u.running_at),
        released_at = COALESCE(u.released_at, s.released_at)
    FROM jsonb_to_recordset(CAST(:moves AS jsonb)) AS u(
        id text, state text, reason text, message text, ends_as text, due_at timestamptz, deadline_at timestamptz,
        attempts int, simulated boolean, holds jsonb, avoid_nodes text[], placed_at timestamptz, started_at timestamptz,
        loaded_at timestamptz, running_at timestamptz, released_at timestamptz, ends_at timestamptz)
    WHERE s.id = u.id AND s.lease_token = :token
    RETURNING s.id
    """
)


def record(connection: Connection, moves: Sequence[Mapping[str, Any]], token: str) -> set[str]:
    """Write what was decided about leased services and end their lease; return the ids that still were ours.

    Each move has ``id``, ``state``, ``reason``, ``message``, ``due_at``, ``deadline_at``, ``attempts`` and
    optionally ``ends_as``, ``simulated``, ``holds``, ``avoid_nodes``, ``ends_at`` and time stamps, which are kept where
    not given. What was ordered for a duration and is queued again has all of it before it.
    """
    if not moves:
        return set()
    document = orjson.dumps(list(moves)).decode()
    return set(connection.execute(_RECORD, {"moves": document, "token": token}).scalars())


_SET_HOLDS = sa.text(
    "UPDATE service s SET holds = u.holds FROM jsonb_each(CAST(:holds AS jsonb)) AS u(id, holds) WHERE s.id = u.id"
)


def set_holds(connection: Connection, holds: Mapping[str, Mapping[str, int]]) -> None:
    """Write what services hold of quotas, by id; the caller holds their leases."""
    if holds:
        connection.execute(_SET_HOLDS, {"holds": orjson.dumps(dict(holds)).decode()})


_WANT_RELEASED = sa.text(
    """
    UPDATE service SET wanted = 'released', due_at = :now, lease_token = NULL, generation = generation + 1
    WHERE id = :id AND wanted <> 'released' AND state NOT IN ('released', 'failed')
    """
)


def want_released(connection: Connection, service_id: str, now: datetime) -> bool:
    """Ask for a release and take the row from whoever leases it; False if it was asked for before."""
    return connection.execute(_WANT_RELEASED, {"id": service_id, "now": now}).rowcount == 1


_RELEASE_LATER = sa.text(
    """
    UPDATE service SET release_at = :at
    WHERE id = :id AND wanted <> 'released' AND release_at IS NULL AND state NOT IN ('released', 'failed')
    """
)
_KEEP = sa.text(
    "UPDATE service SET release_at = NULL WHERE id = :id AND wanted <> 'released' AND release_at IS NOT NULL"
)


def release_later(connection: Connection, service_id: str, at: datetime) -> bool:
    """Ask for a release at a moment to come; nothing else changes until then. False if one was asked for before."""
    return connection.execute(_RELEASE_LATER, {"id": service_id, "at": at}).rowcount == 1


def keep(connection: Connection, service_id: str) -> bool:
    """Take back a release whose moment has not come; False if there is none to take back."""
    return connection.execute(_KEEP, {"id": service_id}).rowcount == 1


_REQUEUE = sa.text(
    """
    UPDATE service SET due_at = :now WHERE id IN (
        SELECT id FROM service WHERE state = 'queued' AND lease_token IS NULL AND due_at > :now
        ORDER BY queued_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    """
)


def wake_queued(connection: Connection, now: datetime, limit: int) -> int:
    """Make the longest-waiting queued services due, because capacity came free; return how many."""
    return connection.execute(_REQUEUE, {"now": now, "limit": limit}).rowcount


def next_due(connection: Connection) -> datetime | None:
    """Return when the next service falls due, or None."""
    return connection.execute(
        sa.select(sa.func.min(service.c.due_at)).where(service.c.due_at.is_not(None))
    ).scalar_one()


def count_by_state(connection: Connection) -> dict[str, int]:
    """Return the number of services in each state that is not terminal."""
    query = (
        sa.select(service.c.state, sa.func.count().label("total"))
        .where(service.c.due_at.is_not(None) | service.c.state.in_(["running", "queued", "starting"]))
        .group_by(service.c.state)
    )
    return {str(row.state): int(row.total) for row in connection.execute(query)}


def allocations_of(connection: Connection, service_ids: Sequence[str]) -> dict[str, list[Row]]:
    """Return the allocations of each service, with the state of their node."""
    rows = every(connection.execute(_ALLOCATIONS, {"ids": list(service_ids)}))
    found: dict[str, list[Row]] = {service_id: [] for service_id in service_ids}
    for row in rows:
        found[row["service_id"]].append(row)
    return found


_ALLOCATIONS = sa.text(
    """
    SELECT a.*, n.state AS node_state, n.name AS node_name, n.simulated AS node_simulated
    FROM allocation a JOIN node n ON n.id = a.node_id
    WHERE a.service_id = ANY(:ids) ORDER BY a.id
    """
)


def decisions_of(connection: Connection, service_id: str, limit: int) -> list[Row]:
    """Return the latest decisions about a service, newest first."""
    query = sa.select(decision).where(decision.c.service_id == service_id)
    return every(connection.execute(query.order_by(decision.c.at.desc(), decision.c.id.desc()).limit(limit)))


def insert_decisions(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store decision records."""
    if rows:
        connection.execute(sa.insert(decision), list(rows))


_REMOVE_DECISIONS = sa.text(
    """
    WITH seen AS (
        SELECT id, at, service_id FROM decision WHERE id > :after ORDER BY id LIMIT :batch
    ), gone AS (
        DELETE FROM decision d USING seen, service s
        WHERE d.id = seen.id AND s.id = seen.service_id AND s.state = ANY(:terminal)
            AND GREATEST(seen.at, s.released_at) < :before
        RETURNING d.id
    )
    SELECT (SELECT count(*) FROM gone) AS removed, max(id) AS last_id,
        count(*) = :batch AND max(at) < :before AS more FROM seen
    """
)


def remove_old_decisions(
    connection: Connection, before: datetime, after: str, batch: int
) -> tuple[int, str | None]:
    """Remove decisions from before ``before`` about services that ended before it, looking at ``batch`` of them.

    Return how many were removed and the id to go on ``after``, None where there is nothing older to look at.
    """
    values = {
        "before": before,
        "after": after,
        "batch": batch,
        "terminal": [ServiceState.RELEASED, ServiceState.FAILED],
    }
    row = connection.execute(_REMOVE_DECISIONS, values).one()
    return int(row.removed), row.last_id if row.more else None
