"""What reports read of the ledger: time by state, and the proof that it tiles.

Cost: every segment that overlaps the time asked for, so a year of a large factory is a question for a quiet
hour; a statement that takes longer than 30 s is cut off by the database.
"""

from collections.abc import Sequence
from datetime import datetime
from math import lcm

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.report import LedgerSummary, StateUsage
from penstock.domain.segment import Segment, SegmentState, conservation_error_us
from penstock.store.rows import Row, every
from penstock.store.segment import to_segment

_FIRST_DEVICE = sa.text("SELECT min(created_at) FROM device")
_OVERLAPS = "start_at < :end AND (end_at IS NULL OR end_at > :start)"
_STATES = sa.text(
    f"""
    SELECT state, cause, device_class, device_slices, simulated,
        CAST(sum(
            extract(epoch FROM LEAST(COALESCE(end_at, :end), :end) - GREATEST(start_at, :start)) * 1000000
            * (slice_high - slice_low)
        ) AS bigint) AS slice_us
    FROM segment WHERE {_OVERLAPS} GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    """  # noqa: S608 - a constant of this file; values travel as parameters
)
# The law of domain.segment.conservation_error_us in SQL. Each slice is a lane that is swept on its own; a
# device that was never cut is one lane that weighs all its slices. Devices whose number of slices changed
# inside the time are left out here and swept by the domain's own function.
_ERROR = sa.text(
    f"""
    WITH clipped AS (
        SELECT device_id, device_slices, slice_low, slice_high,
            GREATEST(start_at, :start) AS low, LEAST(COALESCE(end_at, :end), :end) AS high
        FROM segment WHERE {_OVERLAPS} AND end_at IS DISTINCT FROM start_at
    ),
    shape AS (
        SELECT d.id AS device_id, GREATEST(d.created_at, :start) AS present_from,
            COALESCE(min(c.device_slices), d.slices) AS slices,
            COALESCE(bool_and(c.slice_low = 0 AND c.slice_high = c.device_slices), true) AS whole
        FROM device d LEFT JOIN clipped c ON c.device_id = d.id
        WHERE d.created_at < :end OR c.device_id IS NOT NULL
        GROUP BY d.id HAVING count(DISTINCT c.device_slices) <= 1
    ),
    held AS (
        SELECT c.device_id, lane, CASE WHEN s.whole THEN s.slices ELSE 1 END AS weight, s.present_from, low, high,
            max(high) OVER (
                PARTITION BY c.device_id, lane ORDER BY low, high ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS reached
        FROM clipped c JOIN shape s USING (device_id) CROSS JOIN LATERAL generate_series(
            CASE WHEN s.whole THEN 0 ELSE c.slice_low END, CASE WHEN s.whole THEN 0 ELSE c.slice_high - 1 END
        ) AS lane
    ),
    steps AS (
        SELECT weight, CASE WHEN low > before THEN low - before ELSE LEAST(before, high) - low END AS wrong
        FROM (SELECT *, GREATEST(reached, present_from) AS before FROM held) AS swept
    ),
    tails AS (
        SELECT CASE WHEN s.whole THEN s.slices ELSE 1 END AS weight,
            GREATEST(:end - GREATEST(max(h.high), s.present_from), INTERVAL '0') AS wrong
        FROM shape s
        CROSS JOIN LATERAL generate_series(0, CASE WHEN s.whole THEN 0 ELSE s.slices - 1 END) AS expected
        LEFT JOIN held h ON h.device_id = s.device_id AND h.lane = expected
        GROUP BY s.device_id, expected, s.whole, s.slices, s.present_from
    )
    SELECT CAST(COALESCE(sum(extract(epoch FROM wrong) * 1000000 * weight), 0) AS bigint)
    FROM (SELECT * FROM steps UNION ALL SELECT * FROM tails) AS errors
    """  # noqa: S608 - a constant of this file; values travel as parameters
)
_RESHAPED = sa.text(
    f"""
    SELECT s.*, d.created_at, d.slices FROM segment s JOIN device d ON d.id = s.device_id
    WHERE {_OVERLAPS} AND s.device_id IN (
        SELECT device_id FROM segment WHERE {_OVERLAPS} AND end_at IS DISTINCT FROM start_at
        GROUP BY device_id HAVING count(DISTINCT device_slices) > 1
    )
    """  # noqa: S608 - a constant of this file; values travel as parameters
)


def first_device_at(connection: Connection) -> datetime | None:
    """Return when the ledger began: when the first device was enrolled."""
    return connection.execute(_FIRST_DEVICE).scalar_one()


def summary(connection: Connection, start: datetime, end: datetime) -> LedgerSummary:
    """Return the time of the whole fleet in ``[start, end)`` by state, with its conservation error.

    Open segments count up to ``end``, which must not lie ahead. The error is found slice by slice against
    the inventory, so gaps and overlaps do not cancel; ``capacity_slice_us`` is what it leaves.
    """
    moment = {"start": start, "end": end}
    states = tuple(
        StateUsage(
            state=SegmentState(row.state),
            cause=row.cause,
            device_class=row.device_class,
            slices_of_device=row.device_slices,
            slice_us=row.slice_us,
            simulated=row.simulated,
        )
        for row in connection.execute(_STATES, moment)
    )
    error = conservation_error(connection, start, end)
    return LedgerSummary(start, end, states, sum(row.slice_us for row in states) - error)


def conservation_error(connection: Connection, start: datetime, end: datetime) -> int:
    """Return slice-microseconds missing from or surplus to a perfect tiling of all devices; 0 is right."""
    moment = {"start": start, "end": end}
    error = int(connection.execute(_ERROR, moment).scalar_one())
    reshaped: dict[str, list[Row]] = {}
    for row in every(connection.execute(_RESHAPED, moment)):
        reshaped.setdefault(row["device_id"], []).append(row)
    return error + sum(_error_of_reshaped(rows, start, end) for rows in reshaped.values())


def _error_of_reshaped(rows: list[Row], start: datetime, end: datetime) -> int:
    """Sweep a device whose number of slices changed, on slices so fine that both old and new ones are made of them."""
    fine = lcm(*(row["device_slices"] for row in rows))
    segments: list[Segment] = []
    for row in rows:
        segment = to_segment(row)
        factor = fine // row["device_slices"]
        segments.append(
            Segment(
                segment.device_id,
                segment.slice_low * factor,
                segment.slice_high * factor,
                segment.start,
                segment.end,
                segment.holding,
            )
        )
    fine_us = conservation_error_us(segments, fine, max(start, rows[0]["created_at"]), end)
    # In slices of the device as it is now; anything wrong stays at least 1.
    return -(-fine_us * rows[0]["slices"] // fine)


_SOLD = sa.text(
    """
    SELECT look.at, s.device_class, s.simulated, sum(s.slice_high - s.slice_low) AS slices
    FROM unnest(CAST(:moments AS timestamptz[])) AS look (at)
    JOIN segment s ON s.start_at <= look.at AND (s.end_at IS NULL OR s.end_at > look.at)
    WHERE s.state IN ('sold_busy', 'sold_idle') GROUP BY 1, 2, 3
    """
)
_WAITING = sa.text(
    """
    SELECT split_part(held.key, ':', 2) AS device_class, simulated, held.key LIKE 'slices:%' AS cut,
        CAST(sum(CAST(held.value AS bigint)) AS bigint) AS amount
    FROM service CROSS JOIN LATERAL jsonb_each_text(holds) AS held
    WHERE state = 'queued' AND wanted = 'running' AND (held.key LIKE 'devices:%' OR held.key LIKE 'slices:%')
    GROUP BY 1, 2, 3
    """
)


def sold_at(
    connection: Connection, moments: Sequence[datetime]
) -> dict[tuple[str, bool], dict[datetime, int]]:
    """Return the slices that were sold at each moment, by class and whether they are simulated; absent means none."""
    found: dict[tuple[str, bool], dict[datetime, int]] = {}
    for row in connection.execute(_SOLD, {"moments": list(moments)}):
        found.setdefault((row.device_class, row.simulated), {})[row.at] = int(row.slices)
    return found


def waiting(connection: Connection) -> list[Row]:
    """Return what queued orders of a named class wait for: ``amount`` devices, or slices if ``cut``."""
    return every(connection.execute(_WAITING))
