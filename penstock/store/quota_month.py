"""What tenants consumed since the first of the month, or since midnight: sums over the ledger, for quotas.

Growth: reads the tenant's segments and token rows of the month, so it costs O(rows of that tenant this
month); only tenants with a monthly quota pay it.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.price import BATCH_PERMILLE
from penstock.domain.quota import Measure
from penstock.store.held_time import HELD_TIME


class Spender(NamedTuple):
    """Who consumed."""

    tenant_id: str
    project_id: str


# Time of a segment inside [:start, :now), in slice-microseconds: exact, numeric has no rounding here.
_SLICE_US = """
    sum(
        extract(epoch FROM LEAST(coalesce(end_at, :now), :now) - GREATEST(start_at, :start)) * 1000000
        * (slice_high - slice_low)
    )
"""
_SOLD = """
    tenant_id = ANY(:tenant_ids) AND state IN ('sold_busy', 'sold_idle')
    AND start_at < :now AND (end_at IS NULL OR end_at > :start)
"""
_UNUSED = "state = 'reserved_unused' AND cause = 'booked'"
_CHARGED = _SOLD.replace(
    "state IN ('sold_busy', 'sold_idle')", f"(state IN ('sold_busy', 'sold_idle') OR ({_UNUSED}))"
)
# Device-microseconds: a slice counts as its share of the device.
_GPU_US = f"""
    SELECT tenant_id, project_id, CAST(round(sum(slice_us / device_slices)) AS bigint) AS amount
    FROM (
        SELECT tenant_id, project_id, device_slices, {_SLICE_US} AS slice_us
        FROM segment WHERE {_SOLD} GROUP BY 1, 2, 3
    ) AS sums GROUP BY 1, 2
"""  # noqa: S608 - the parts are constants of this file; values travel as parameters
_TOKENS = """
    SELECT tenant_id, project_id, CAST(sum(prompt_tokens + completion_tokens) AS bigint) AS amount
    FROM token_usage WHERE tenant_id = ANY(:tenant_ids) AND ended_at >= :start AND ended_at <= :now
    GROUP BY 1, 2
"""
# One rounding per group, half to even: the same groups and the same rounding as the lines of an invoice, so the
# sum is the invoice's to the micro-euro. Nothing is left out: every published price book prices every item of
# every meter, see actions/price_book.py.
_MICROEUR = f"""
    WITH metered AS (
        SELECT tenant_id, project_id, service_id, '' AS key_id, price_book_id,
            CASE WHEN {_UNUSED} THEN 'reserved_gpu_hours' ELSE 'gpu_hours' END AS meter, device_class AS item, {_SLICE_US} AS quantity, device_slices * 3600000000 AS per_unit, simulated
        FROM segment WHERE {_CHARGED} GROUP BY 1, 2, 3, 5, 6, 7, device_slices, simulated
        UNION ALL
        SELECT tenant_id, project_id, service_id, key_id, price_book_id,
            CASE WHEN batch_id IS NULL THEN meter ELSE 'batch_' || meter END, model,
            CAST(sum(tokens) AS numeric), 1000000, false
        FROM token_usage CROSS JOIN LATERAL (
            VALUES ('input_tokens', prompt_tokens), ('output_tokens', completion_tokens)
        ) AS counted (meter, tokens)
        WHERE tenant_id = ANY(:tenant_ids) AND ended_at >= :start AND ended_at <= :now
        GROUP BY 1, 2, 3, 4, 5, 6, 7
        UNION ALL
        SELECT tenant_id, project_id, service_id, '', price_book_id, meter, item,
            sum(amount * extract(
                epoch FROM LEAST(COALESCE(end_at, :now), :now) - GREATEST(start_at, :start)) * 1000000),
            per_unit, simulated
        FROM {HELD_TIME} AS held
        WHERE tenant_id = ANY(:tenant_ids) AND start_at < :now AND (end_at IS NULL OR end_at > :start)
        GROUP BY 1, 2, 3, 5, 6, 7, 9, 10
        UNION ALL
        SELECT tenant_id, project_id, service_id, key_id, price_book_id,
            CASE WHEN meter = 'chunk_seconds' THEN 'chunk_days' ELSE meter END, item,
            CAST(sum(quantity) AS numeric), CASE WHEN meter = 'chunk_seconds' THEN 86400000 ELSE 1000 END, false
        FROM knowledge_usage
        WHERE tenant_id = ANY(:tenant_ids) AND meter IN ('queries', 'documents_indexed', 'chunk_seconds')
            AND day >= CAST(timezone('UTC', CAST(:start AS timestamptz)) AS date)
            AND day <= CAST(timezone('UTC', CAST(:now AS timestamptz)) AS date)
        GROUP BY 1, 2, 3, 4, 5, 6, 7, meter
    )
    SELECT tenant_id, project_id, CAST(sum(
        whole + CASE WHEN 2 * rest > per_unit OR (2 * rest = per_unit AND mod(whole, 2) = 1) THEN 1 ELSE 0 END
    ) AS bigint) AS amount
    FROM metered CROSS JOIN LATERAL (
        SELECT CASE WHEN price.meter = metered.meter OR metered.meter = 'reserved_gpu_hours' THEN microeur_per_unit
            ELSE microeur_per_unit * {BATCH_PERMILLE} / 1000 END AS microeur_per_unit FROM price
        WHERE price.price_book_id = metered.price_book_id AND price.item IN (metered.item, '*')
            AND price.meter IN (
                metered.meter, replace(metered.meter, 'batch_', ''), replace(metered.meter, 'reserved_', ''))
        ORDER BY price.meter <> metered.meter, price.item = '*' LIMIT 1
    ) AS priced CROSS JOIN LATERAL (
        SELECT div(quantity * microeur_per_unit, per_unit) AS whole, mod(quantity * microeur_per_unit, per_unit) AS rest
    ) AS divided
    GROUP BY 1, 2
"""  # noqa: S608 - the parts are constants of this file; values travel as parameters
_QUERIES = """
    SELECT tenant_id, project_id, CAST(sum(quantity) AS bigint) AS amount FROM knowledge_usage
    WHERE tenant_id = ANY(:tenant_ids) AND meter = 'queries'
        AND day = CAST(timezone('UTC', CAST(:now AS timestamptz)) AS date)
    GROUP BY 1, 2
"""
_STATEMENTS: Mapping[Measure, sa.TextClause] = {
    Measure.GPU_SECONDS_PER_MONTH: sa.text(_GPU_US),
    Measure.TOKENS_PER_MONTH: sa.text(_TOKENS),
    Measure.MICROEUR_PER_MONTH: sa.text(_MICROEUR),
    Measure.QUERIES_PER_DAY: sa.text(_QUERIES),
}


def consumed(
    connection: Connection,
    measures: Collection[Measure],
    tenant_ids: list[str],
    start: datetime,
    now: datetime,
) -> dict[Measure, dict[Spender, int]]:
    """Return what each project of ``tenant_ids`` consumed during [start, now), for each of ``measures``.

    GPU time comes in device-**micro**seconds, so that a tenant's total is rounded once and not per project.
    """
    parameters = {"tenant_ids": tenant_ids, "start": start, "now": now}
    return {
        measure: {
            Spender(row.tenant_id, row.project_id): row.amount
            for row in connection.execute(_STATEMENTS[measure], parameters)
        }
        for measure in sorted(measures)
    }
