"""Quotas: limits, what counts against them, and taking it in the order's own transaction.

Held measures have a row in ``quota_use`` beside each limit. An order locks the rows it needs in one fixed
order, checks and adds; whoever comes second waits and then sees the first one's amount. Where no limit is
set there is no row, so tenants without quotas never queue for each other. When a limit is set, what is held
already is counted from the live services under the tenant's exclusive lock; orders and releases hold the
same lock shared, so that none of them can slip between the count and the limit.

Monthly measures are sums over the ledger since the first of the month, UTC. The money is what an invoice of
the month so far would say, to the micro-euro: the same groups, prices and rounding.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.base.units import US_PER_SECOND
from penstock.domain.quota import (
    HELD,
    OF_DAYS,
    OF_DOCUMENTS,
    OF_NETWORKS,
    OF_SNAPSHOTS,
    OF_VOLUMES,
    Breach,
    Measure,
    QuotaLine,
    check,
    month_start,
)
from penstock.domain.reservation import LIVE
from penstock.domain.service import TERMINAL
from penstock.store.quota_month import Spender, consumed
from penstock.store.rows import Row, every, one
from penstock.store.schema import (
    document,
    floating_address,
    load_balancer,
    network,
    port,
    quota,
    quota_use,
    reservation,
    service,
    vm_snapshot,
    volume,
    volume_snapshot,
)

Holds = Mapping[str, int]

_LOCK_CLASS = 0x51554F  # "QUO": keeps these advisory locks apart from others
_SHARE = sa.text(
    "SELECT pg_advisory_xact_lock_shared(:lock_class, hashtext(tenant_id)) "
    "FROM (SELECT DISTINCT unnest(CAST(:tenant_ids AS text[])) AS tenant_id ORDER BY 1) AS tenants"
)
_EXCLUDE = sa.text("SELECT pg_advisory_xact_lock(:lock_class, hashtext(:tenant_id))")
_MONTHLY = [m.value for m in Measure if m not in HELD | OF_DAYS]
_QUERIES_LOCK_CLASS = 0x515259  # "QRY"
_LIMITS = sa.text(
    "SELECT project_id, dimension, limit_amount FROM quota WHERE tenant_id = :tenant_id "
    "AND (project_id IS NULL OR project_id = :project_id) AND dimension = ANY(:dimensions) "
    "ORDER BY project_id NULLS FIRST, dimension"
)
_USED = (
    "SELECT project_id, dimension, used FROM quota_use WHERE tenant_id = :tenant_id "
    "AND project_id IN ('', :project_id) AND dimension = ANY(:dimensions) "
    "ORDER BY tenant_id, project_id, dimension"
)
_READ_USED = sa.text(_USED)
_LOCK_USED = sa.text(_USED + " FOR UPDATE")
_TAKE = sa.text(
    "UPDATE quota_use SET used = used + asked.amount "
    "FROM unnest(CAST(:dimensions AS text[]), CAST(:amounts AS bigint[])) AS asked (dimension, amount) "
    "WHERE tenant_id = :tenant_id AND project_id IN ('', :project_id) AND quota_use.dimension = asked.dimension"
)
_GIVE_BACK = sa.text(
    """
    WITH batch AS (
        SELECT tenant_id, project_id, dimension, amount
        FROM unnest(
            CAST(:tenant_ids AS text[]), CAST(:project_ids AS text[]),
            CAST(:dimensions AS text[]), CAST(:amounts AS bigint[])
        ) AS given (tenant_id, project_id, dimension, amount)
    ), given AS (
        SELECT tenant_id, owner AS project_id, dimension, sum(amount) AS amount
        FROM batch CROSS JOIN LATERAL (VALUES (project_id), ('')) AS owners (owner) GROUP BY 1, 2, 3
    ), locked AS (
        SELECT tenant_id, project_id, dimension, given.amount
        FROM quota_use JOIN given USING (tenant_id, project_id, dimension)
        ORDER BY tenant_id, project_id, dimension FOR UPDATE OF quota_use
    )
    UPDATE quota_use SET used = quota_use.used - locked.amount FROM locked
    WHERE (quota_use.tenant_id, quota_use.project_id, quota_use.dimension)
        = (locked.tenant_id, locked.project_id, locked.dimension)
    """
)


def check_and_take(
    connection: Connection, tenant_id: str, project_id: str, amounts: Holds, now: datetime
) -> Breach | None:
    """Take ``amounts`` (by dimension, see ``domain.quota.dimensions_of``) or return the first quota they break.

    Call it in the transaction that inserts the service with ``holds=amounts``, before the insert; on a breach
    nothing was taken. Two statements where no quota is set. Rows stay locked until the transaction ends.
    """
    _share(connection, [tenant_id])
    limits = _limits(connection, tenant_id, project_id, amounts)
    if not limits:
        return None
    lines = _lines(connection, tenant_id, project_id, limits, now, used_statement=_LOCK_USED)
    breach = check(lines, amounts)
    if breach is None and any(line.dimension in amounts for line in lines):
        take(connection, tenant_id, project_id, amounts)
    return breach


def lines_for_order(
    connection: Connection,
    tenant_id: str,
    project_id: str,
    asked_dimensions: Collection[str],
    now: datetime,
) -> list[QuotaLine]:
    """Return the limits an order of ``asked_dimensions`` meets, with what counts against them; locks nothing."""
    limits = _limits(connection, tenant_id, project_id, asked_dimensions)
    return _lines(connection, tenant_id, project_id, limits, now, used_statement=_READ_USED) if limits else []


def check_query(connection: Connection, tenant_id: str, project_id: str, now: datetime) -> Breach | None:
    """Return the quota of questions a day that one more would break, or None.

    Call it in the transaction that counts the question, before: whoever comes second waits, where there is such a
    quota, and then sees the first one's question.
    """
    asked = Measure.QUERIES_PER_DAY.value
    limits = [row for row in _limits(connection, tenant_id, project_id, [asked]) if row["dimension"] == asked]
    if not limits:
        return None
    connection.execute(_EXCLUDE, {"lock_class": _QUERIES_LOCK_CLASS, "tenant_id": tenant_id})
    return check(_lines(connection, tenant_id, project_id, limits, now, used_statement=_READ_USED), {})


def take(connection: Connection, tenant_id: str, project_id: str, amounts: Holds) -> None:
    """Add ``amounts`` to what is held, unchecked; ``check_and_take`` is what orders call."""
    connection.execute(
        _TAKE,
        {
            "tenant_id": tenant_id,
            "project_id": project_id,
            "dimensions": list(amounts),
            "amounts": list(amounts.values()),
        },
    )


def give_back_many(connection: Connection, rows: Sequence[tuple[str, str, Holds]]) -> None:
    """Give back what ended services held: ``rows`` are (tenant id, project id, holds).

    Call it in the transaction that moves these services to a terminal state, once for all of them: two
    statements however many. Rows are locked in the same order as ``check_and_take`` locks them.
    """
    flat = [(t, p, d, amount) for t, p, holds in rows for d, amount in holds.items()]
    if not flat:
        return
    _share(connection, sorted({row[0] for row in flat}))
    tenant_ids, project_ids, dimensions, amounts = (list(column) for column in zip(*flat, strict=True))
    connection.execute(
        _GIVE_BACK,
        {
            "tenant_ids": tenant_ids,
            "project_ids": project_ids,
            "dimensions": dimensions,
            "amounts": amounts,
        },
    )


def _share(connection: Connection, tenant_ids: list[str]) -> None:
    connection.execute(_SHARE, {"lock_class": _LOCK_CLASS, "tenant_ids": tenant_ids})


def _limits(
    connection: Connection, tenant_id: str, project_id: str, asked_dimensions: Collection[str]
) -> list[Row]:
    dimensions = [*asked_dimensions, *_MONTHLY]
    parameters = {"tenant_id": tenant_id, "project_id": project_id, "dimensions": dimensions}
    return every(connection.execute(_LIMITS, parameters))


def _lines(
    connection: Connection,
    tenant_id: str,
    project_id: str,
    limits: list[Row],
    now: datetime,
    *,
    used_statement: sa.TextClause,
) -> list[QuotaLine]:
    held = sorted({row["dimension"] for row in limits if _measure(row["dimension"]) in HELD})
    used: dict[tuple[str, str], int] = {}
    if held:
        parameters = {"tenant_id": tenant_id, "project_id": project_id, "dimensions": held}
        for row in connection.execute(used_statement, parameters):
            used[row.project_id, row.dimension] = row.used
    monthly = {_measure(row["dimension"]) for row in limits} - HELD
    spent = consumed(connection, monthly, [tenant_id], month_start(now), now)
    return [
        QuotaLine(
            row["dimension"],
            row["project_id"],
            row["limit_amount"],
            _amount(row["dimension"], tenant_id, row["project_id"], used, spent),
        )
        for row in limits
    ]


def _amount(
    dimension: str,
    tenant_id: str,
    project_id: str | None,
    used: Mapping[tuple[str, str], int],
    spent: Mapping[Measure, Mapping[Spender, int]],
) -> int:
    measure = _measure(dimension)
    if measure in HELD:
        return used.get((project_id or "", dimension), 0)
    amount = sum(
        amount
        for spender, amount in spent[measure].items()
        if spender.tenant_id == tenant_id and project_id in (None, spender.project_id)
    )
    return amount // US_PER_SECOND if measure is Measure.GPU_SECONDS_PER_MONTH else amount


def _measure(dimension: str) -> Measure:
    return Measure(dimension.partition(":")[0])


# ---- the limits themselves ---------------------------------------------------------------------------------


def put(
    connection: Connection,
    *,
    quota_id: str,
    tenant_id: str,
    project_id: str | None,
    dimension: str,
    limit: int,
    guaranteed: int | None = None,
    at: datetime,
    keep_guaranteed: bool = False,
) -> str:
    """Set a limit and what is guaranteed (None: nothing); return the quota's id (the old one where it existed).

    Waits for running orders of the tenant, then counts what is held from live services and reservations.
    """
    connection.execute(_EXCLUDE, {"lock_class": _LOCK_CLASS, "tenant_id": tenant_id})
    insert = upsert(quota).values(
        id=quota_id,
        tenant_id=tenant_id,
        project_id=project_id,
        dimension=dimension,
        limit_amount=limit,
        guaranteed_amount=guaranteed,
        created_at=at,
    )
    kept: str = connection.execute(
        insert.on_conflict_do_update(
            index_elements=["tenant_id", "project_id", "dimension"],
            set_={
                "limit_amount": insert.excluded.limit_amount,
                "guaranteed_amount": quota.c.guaranteed_amount
                if keep_guaranteed
                else insert.excluded.guaranteed_amount,
            },
        ).returning(quota.c.id)
    ).scalar_one()
    if _measure(dimension) in HELD:
        _count_held(connection, tenant_id, project_id, dimension)
    return kept


def _snapshots(tenant_id: str) -> sa.Subquery:
    """Return a tenant's snapshots of machines, and of volumes that are not being deleted."""
    of_volumes = sa.select(volume_snapshot.c.project_id, volume_snapshot.c.size_gib).join(
        volume, volume.c.id == volume_snapshot.c.volume_id
    )
    of_machines = sa.select(vm_snapshot.c.project_id, vm_snapshot.c.size_gib)
    return sa.union_all(
        of_volumes.where(volume_snapshot.c.tenant_id == tenant_id, volume.c.wanted == "present"),
        of_machines.where(vm_snapshot.c.tenant_id == tenant_id),
    ).subquery()


def _count_held(connection: Connection, tenant_id: str, project_id: str | None, dimension: str) -> None:
    if _measure(dimension) in OF_DOCUMENTS:
        counted = {
            Measure.DOCUMENTS: sa.func.count(),
            Measure.DOCUMENT_BYTES: sa.func.sum(document.c.size_bytes),
            Measure.CHUNKS: sa.func.sum(document.c.chunks_total),
        }[_measure(dimension)]
        held = sa.select(sa.cast(sa.func.coalesce(counted, 0), sa.BigInteger)).where(
            document.c.tenant_id == tenant_id
        )
        owner = document.c.project_id
    elif _measure(dimension) in OF_VOLUMES:
        counted = sa.func.count() if dimension == Measure.VOLUMES else sa.func.sum(volume.c.size_gib)
        held = sa.select(sa.cast(sa.func.coalesce(counted, 0), sa.BigInteger)).where(
            volume.c.tenant_id == tenant_id, volume.c.wanted == "present"
        )
        owner = volume.c.project_id
    elif _measure(dimension) in OF_SNAPSHOTS:
        kept = _snapshots(tenant_id)
        counted = sa.func.count() if dimension == Measure.SNAPSHOTS else sa.func.sum(kept.c.size_gib)
        held = sa.select(sa.cast(sa.func.coalesce(counted, 0), sa.BigInteger)).select_from(kept)
        owner = kept.c.project_id
    elif _measure(dimension) in OF_NETWORKS:
        table = _COUNTED[_measure(dimension)]
        held = sa.select(sa.func.count()).where(table.c.tenant_id == tenant_id)
        owner = table.c.project_id
    else:
        holders = sa.union_all(
            sa.select(service.c.project_id, service.c.holds).where(
                service.c.tenant_id == tenant_id, service.c.state.not_in(sorted(TERMINAL))
            ),
            sa.select(reservation.c.project_id, reservation.c.holds).where(
                reservation.c.tenant_id == tenant_id, reservation.c.state.in_(sorted(LIVE))
            ),
        ).subquery()
        amount = sa.cast(holders.c.holds[dimension].astext, sa.BigInteger)
        held = sa.select(sa.cast(sa.func.coalesce(sa.func.sum(amount), 0), sa.BigInteger))
        owner = holders.c.project_id
    if project_id is not None:
        held = held.where(owner == project_id)
    insert = upsert(quota_use).values(
        tenant_id=tenant_id,
        project_id=project_id or "",
        dimension=dimension,
        used=connection.execute(held).scalar_one(),
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["tenant_id", "project_id", "dimension"], set_={"used": insert.excluded.used}
        )
    )


def remove(connection: Connection, row: Row) -> None:
    """Remove a limit (a row of ``get`` or ``page``) and its count."""
    connection.execute(_EXCLUDE, {"lock_class": _LOCK_CLASS, "tenant_id": row["tenant_id"]})
    connection.execute(sa.delete(quota).where(quota.c.id == row["id"]))
    connection.execute(
        sa.delete(quota_use).where(
            quota_use.c.tenant_id == row["tenant_id"],
            quota_use.c.project_id == (row["project_id"] or ""),
            quota_use.c.dimension == row["dimension"],
        )
    )


def get(connection: Connection, quota_id: str, now: datetime) -> Row | None:
    """Return one limit with ``used``, or None."""
    row = one(connection.execute(_SELECT.where(quota.c.id == quota_id)))
    return None if row is None else _with_used(connection, [row], now)[0]


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    after: str | None,
    limit: int,
    now: datetime,
) -> list[Row]:
    """Return up to ``limit`` limits by id with ``used``; ``project_ids`` keeps those projects' and the tenant's."""
    query = _SELECT.order_by(quota.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(quota.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(sa.or_(quota.c.project_id.is_(None), quota.c.project_id.in_(sorted(project_ids))))
    if after is not None:
        query = query.where(quota.c.id > after)
    return _with_used(connection, every(connection.execute(query)), now)


def of_dimension(connection: Connection, tenant_id: str, dimension: str) -> tuple[int | None, dict[str, int]]:
    """Return the tenant's limit (None: none set) and its projects' limits by project id, for one dimension."""
    own: int | None = None
    divided: dict[str, int] = {}
    query = sa.select(quota.c.project_id, quota.c.limit_amount).where(
        quota.c.tenant_id == tenant_id, quota.c.dimension == dimension
    )
    for project_id, amount in connection.execute(query):
        if project_id is None:
            own = amount
        else:
            divided[project_id] = amount
    return own, divided


_COUNTED = {
    Measure.NETWORKS: network,
    Measure.PORTS: port,
    Measure.FLOATING_ADDRESSES: floating_address,
    Measure.LOAD_BALANCERS: load_balancer,
}


def guarantees(connection: Connection) -> list[Row]:
    """Return every limit with a guaranteed share, of all tenants; ``connection`` is of the system scope."""
    return every(
        connection.execute(
            sa.select(quota)
            .where(quota.c.guaranteed_amount.is_not(None))
            .order_by(quota.c.project_id.is_not(None), quota.c.id)
        )
    )


_CAPACITY = sa.text(
    "SELECT d.device_class, count(*) AS devices FROM device d JOIN node n ON n.id = d.node_id "
    "WHERE n.state <> 'retired' GROUP BY 1"
)


def capacity_by_class(connection: Connection) -> dict[str, int]:
    """Return how many devices of each class the factory has, whatever their state."""
    return {row.device_class: int(row.devices) for row in connection.execute(_CAPACITY)}


_SELECT = sa.select(quota, quota_use.c.used).outerjoin_from(
    quota,
    quota_use,
    sa.and_(
        quota_use.c.tenant_id == quota.c.tenant_id,
        quota_use.c.project_id == sa.func.coalesce(quota.c.project_id, ""),
        quota_use.c.dimension == quota.c.dimension,
    ),
)


def _with_used(connection: Connection, rows: list[Row], now: datetime) -> list[Row]:
    monthly = {_measure(row["dimension"]) for row in rows} - HELD
    tenant_ids = sorted({row["tenant_id"] for row in rows if _measure(row["dimension"]) in monthly})
    spent = consumed(connection, monthly, tenant_ids, month_start(now), now)
    for row in rows:
        if row["used"] is None:
            row["used"] = _amount(row["dimension"], row["tenant_id"], row["project_id"], {}, spent)
    return rows
