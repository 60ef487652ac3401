"""Usage: what the ledger and the token meters add up to, ready to be rated. Sums are made in the database.

Cost: the segments and token rows of the period that the filters leave, found by index for one tenant or one
service; a question about the whole factory reads the whole period.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.knowledge_base import KnowledgeMeter
from penstock.domain.price import Meter
from penstock.domain.report import CountedUsage, DeviceUsage, TokenUsage
from penstock.domain.segment import BOOKED, SOLD, SegmentState
from penstock.store.held_time import HELD_TIME

_SOLD = ", ".join(f"'{state.value}'" for state in sorted(SOLD))
_UNUSED = f"state = '{SegmentState.RESERVED_UNUSED}' AND cause = '{BOOKED}'"
_CHARGED = f"(state IN ({_SOLD}) OR ({_UNUSED}))"


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Whose usage, in ``[start, end)``; None filters are open. Open segments count up to ``now``."""

    start: datetime
    end: datetime
    now: datetime
    tenant_id: str | None = None
    project_ids: Collection[str] | None = None
    service_id: str | None = None
    batch_id: str | None = None  # of tokens only: devices have none


# One row each for what has one price and one owner. A segment's time inside the period in slice-microseconds
# is exact: extract() of an interval is numeric, in microseconds.
_DEVICES = f"""
    SELECT tenant_id, project_id, service_id, offer_id, device_class, price_book_id, device_slices, simulated,
        ({_UNUSED}) AS reserved,
        CAST(sum(
            extract(epoch FROM LEAST(COALESCE(end_at, :upto), :upto) - GREATEST(start_at, :start)) * 1000000
            * (slice_high - slice_low)
        ) AS bigint) AS slice_us
    FROM segment
    WHERE {_CHARGED} AND start_at < :upto AND (end_at IS NULL OR end_at > :start) {{filters}}
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 LIMIT :limit
"""  # noqa: S608 - the parts are constants of this file; values travel as parameters
# Tokens count in the period their request ended in. Whether they are simulated is a fact of the service.
_TOKENS = """
    SELECT t.tenant_id, t.project_id, t.service_id, t.key_id, t.model, t.price_book_id,
        COALESCE(s.simulated, false) AS simulated, t.batch_id IS NOT NULL AS batch,
        CAST(sum(t.prompt_tokens) AS bigint) AS input_tokens,
        CAST(sum(t.completion_tokens) AS bigint) AS output_tokens
    FROM token_usage t LEFT JOIN service s ON s.id = t.service_id
    WHERE t.ended_at >= :start AND t.ended_at < :end {filters}
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 LIMIT :limit
"""

# What is counted of knowledge bases, by days of UTC: a day belongs to the time that its first instant lies in. What was made before it had prices has no price book, and no charge.
_COUNTED = """
    SELECT tenant_id, project_id, service_id, key_id, meter, item, price_book_id,
        CAST(sum(quantity) AS bigint) AS quantity
    FROM knowledge_usage
    WHERE CAST(day AS timestamp) >= timezone('UTC', CAST(:start AS timestamptz))
        AND CAST(day AS timestamp) < timezone('UTC', CAST(:end AS timestamptz))
        AND meter = ANY(:meters) AND price_book_id IS NOT NULL {filters}
    GROUP BY 1, 2, 3, 4, 5, 6, 7 LIMIT :limit
"""
# The day meters of knowledge bases that are charged, as the rows and as invoices call them.
CHARGED_METERS: Mapping[KnowledgeMeter, Meter] = {
    KnowledgeMeter.QUERIES: Meter.QUERIES,
    KnowledgeMeter.DOCUMENTS_INDEXED: Meter.DOCUMENTS_INDEXED,
    KnowledgeMeter.CHUNK_SECONDS: Meter.CHUNK_DAYS,
}


def counted(connection: Connection, asked: UsageFilter, limit: int) -> list[CountedUsage]:
    """Return what is counted by owner, key, meter, item and price book, of the days that begin in the time asked."""
    filters, values = _filters(asked, "")
    values |= {"start": asked.start, "end": asked.end, "limit": limit, "meters": list(CHARGED_METERS)}
    rows = connection.execute(sa.text(_COUNTED.format(filters=filters)), values)
    return [
        CountedUsage(
            tenant_id=row.tenant_id,
            project_id=row.project_id,
            service_id=row.service_id,
            key_id=row.key_id or None,
            meter=CHARGED_METERS[KnowledgeMeter(row.meter)],
            item=row.item,
            price_book_id=row.price_book_id,
            quantity=row.quantity,
        )
        for row in rows
    ]


# A machine's time inside the period. What was ordered by a book without prices of machines is not charged for it.
_HELD_FOR = f"""
    SELECT v.tenant_id, v.project_id, v.service_id, v.price_book_id, v.item, v.simulated, v.meter,
        CAST(sum(v.amount * extract(
            epoch FROM LEAST(COALESCE(v.end_at, :upto), :upto) - GREATEST(v.start_at, :start)) * 1000000) AS bigint) AS quantity
    FROM {HELD_TIME} AS v
    WHERE v.start_at < :upto AND (v.end_at IS NULL OR v.end_at > :start) {{filters}} AND EXISTS (
        SELECT FROM price p
        WHERE p.price_book_id = v.price_book_id AND p.meter = v.meter AND p.item IN ('*', v.item))
    GROUP BY 1, 2, 3, 4, 5, 6, 7 LIMIT :limit
"""  # noqa: S608 - the parts are constants; values travel as parameters


def machines(connection: Connection, asked: UsageFilter, limit: int) -> list[CountedUsage]:
    """Return what machines and volumes held by owner, item (architecture, driver) and price book; at most ``limit`` groups."""
    upto = min(asked.end, asked.now)
    if upto <= asked.start:
        return []
    filters, values = _filters(asked, "v.")
    values |= {"start": asked.start, "upto": upto, "limit": limit}
    return [
        CountedUsage(
            tenant_id=row.tenant_id,
            project_id=row.project_id,
            service_id=row.service_id,
            key_id=None,
            meter=Meter(row.meter),
            item=row.item,
            price_book_id=row.price_book_id,
            quantity=row.quantity,
            simulated=row.simulated,
        )
        for row in connection.execute(sa.text(_HELD_FOR.format(filters=filters)), values)
    ]


def devices(connection: Connection, asked: UsageFilter, limit: int) -> list[DeviceUsage]:
    """Return charged device time by owner, offer, class, price book, simulated and reserved; at most ``limit`` groups."""
    upto = min(asked.end, asked.now)
    if upto <= asked.start:
        return []
    filters, values = _filters(asked, "")
    values |= {"start": asked.start, "upto": upto, "limit": limit}
    rows = connection.execute(sa.text(_DEVICES.format(filters=filters)), values)
    return [
        DeviceUsage(
            tenant_id=row.tenant_id,
            project_id=row.project_id,
            service_id=row.service_id,
            offer_id=row.offer_id,
            device_class=row.device_class,
            price_book_id=row.price_book_id,
            slices_of_device=row.device_slices,
            slice_us=row.slice_us,
            simulated=row.simulated,
            reserved=row.reserved,
        )
        for row in rows
    ]


def tokens(connection: Connection, asked: UsageFilter, limit: int) -> list[TokenUsage]:
    """Return tokens by owner, key, model, price book and simulated; at most ``limit`` groups."""
    filters, values = _filters(asked, "t.")
    values |= {"start": asked.start, "end": asked.end, "limit": limit}
    rows = connection.execute(sa.text(_TOKENS.format(filters=filters)), values)
    return [
        TokenUsage(
            tenant_id=row.tenant_id,
            project_id=row.project_id,
            service_id=row.service_id,
            key_id=row.key_id,
            model=row.model,
            price_book_id=row.price_book_id,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            simulated=row.simulated,
            batch=row.batch,
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class HeldNow:
    """Slices that a service, or an unused reservation, holds and pays for at this moment."""

    service_id: str
    device_class: str
    slices_of_device: int
    price_book_id: str
    reserved: bool
    slices: int


_HELD = f"""
    SELECT service_id, device_class, device_slices, price_book_id, ({_UNUSED}) AS reserved,
        CAST(sum(slice_high - slice_low) AS bigint) AS slices
    FROM segment WHERE end_at IS NULL AND {_CHARGED} {{filters}}
    GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608 - the parts are constants of this file; values travel as parameters


def held_now(
    connection: Connection, tenant_id: str | None, project_ids: Collection[str] | None
) -> list[HeldNow]:
    """Return what is sold now by service, class and price book; a filter of None is open."""
    filters, values = _owner(tenant_id, project_ids)
    rows = connection.execute(sa.text(_HELD.format(filters=filters)), values)
    return [HeldNow(*row) for row in rows]


def _owner(tenant_id: str | None, project_ids: Collection[str] | None) -> tuple[str, dict[str, Any]]:
    filters = ""
    values: dict[str, Any] = {}
    if tenant_id is not None:
        filters = "AND tenant_id = :tenant_id"
        values["tenant_id"] = tenant_id
    if project_ids is not None:
        filters += " AND project_id = ANY(CAST(:project_ids AS text[]))"
        values["project_ids"] = sorted(project_ids)
    return filters, values


@dataclass(frozen=True, slots=True)
class MachineNow:
    """A quantity of a meter that one hour of a machine (``item``: its architecture) or volume (its driver) makes now."""

    service_id: str
    item: str
    price_book_id: str
    meter: Meter
    quantity_per_hour: int


_MACHINES_NOW = f"""
    SELECT v.service_id, v.item, v.price_book_id, v.meter, v.amount * 3600000000 AS quantity
    FROM {HELD_TIME} AS v WHERE v.end_at IS NULL {{filters}}
"""  # noqa: S608 - the parts are constants; values travel as parameters


def machines_now(
    connection: Connection, tenant_id: str | None, project_ids: Collection[str] | None
) -> list[MachineNow]:
    """Return what machines and volumes hold now; a filter of None is open."""
    filters, values = _owner(tenant_id, project_ids)
    rows = connection.execute(sa.text(_MACHINES_NOW.format(filters=filters)), values)
    return [MachineNow(row[0], row[1], row[2], Meter(row[3]), row[4]) for row in rows]


_CONSUMERS = sa.text(
    f"""
    SELECT DISTINCT tenant_id FROM segment
    WHERE {_CHARGED} AND start_at < :end AND (end_at IS NULL OR end_at > :start)
    UNION SELECT DISTINCT tenant_id FROM token_usage WHERE ended_at >= :start AND ended_at < :end
    UNION SELECT DISTINCT tenant_id FROM vm_time WHERE start_at < :end AND (end_at IS NULL OR end_at > :start)
    UNION SELECT DISTINCT tenant_id FROM volume_time WHERE start_at < :end AND (end_at IS NULL OR end_at > :start)
    UNION SELECT DISTINCT tenant_id FROM snapshot_time WHERE start_at < :end AND (end_at IS NULL OR end_at > :start)
    UNION SELECT DISTINCT tenant_id FROM knowledge_usage
        WHERE CAST(day AS timestamp) >= timezone('UTC', CAST(:start AS timestamptz))
            AND CAST(day AS timestamp) < timezone('UTC', CAST(:end AS timestamptz)) AND price_book_id IS NOT NULL
    ORDER BY 1
    """  # noqa: S608 - a constant of this file
)


def consumers(connection: Connection, start: datetime, end: datetime) -> list[str]:
    """Return the tenants that used anything in ``[start, end)``, by id."""
    return list(connection.execute(_CONSUMERS, {"start": start, "end": end}).scalars())


def _filters(asked: UsageFilter, table: str) -> tuple[str, dict[str, Any]]:
    """Return the conditions in SQL, names being constants, and their values."""
    conditions: list[str] = []
    values: dict[str, Any] = {}
    named = {"tenant_id": asked.tenant_id, "service_id": asked.service_id, "batch_id": asked.batch_id}
    for column, value in named.items():
        if value is not None:
            conditions.append(f"AND {table}{column} = :{column}")
            values[column] = value
    if asked.project_ids is not None:
        conditions.append(f"AND {table}project_id = ANY(CAST(:project_ids AS text[]))")
        values["project_ids"] = sorted(asked.project_ids)
    return " ".join(conditions), values
