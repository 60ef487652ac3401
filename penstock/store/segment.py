"""The ledger's segments: opened with a device, cut when something changes, never removed.

Whoever changes states locks the device rows first (``cut_many`` does), in id order: two changes of one
device are serialised there, so each sees the open segments the other left. All functions need the system
scope, because free capacity belongs to no tenant.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.segment import FREE, Holding, Segment, SegmentState, cut
from penstock.store.rows import Row, batches, every

Change = tuple[str, int, int, Holding]  # device id, first slice, slice after the last, what it becomes

_COLUMNS = (
    "id, device_id, slice_low, slice_high, start_at, end_at, state, cause, "
    "tenant_id, project_id, service_id, offer_id, price_book_id"
)
# NO KEY: a lock that inserting a claim or a segment of the device does not wait for.
_LOCK_DEVICES = sa.text(
    "SELECT id, device_class, slices, simulated FROM device WHERE id = ANY(CAST(:ids AS text[])) "
    "ORDER BY id FOR NO KEY UPDATE"
)
_OPEN = sa.text(
    f"SELECT {_COLUMNS} FROM segment WHERE end_at IS NULL AND device_id = ANY(CAST(:ids AS text[])) "  # noqa: S608 - a constant
    "ORDER BY device_id, slice_low"
)
_CLOSE = sa.text(
    "UPDATE segment SET end_at = u.end_at "
    "FROM unnest(CAST(:ids AS bigint[]), CAST(:ends AS timestamptz[])) AS u(id, end_at) "
    "WHERE segment.id = u.id AND segment.end_at IS NULL"
)
_INSERT = sa.text(
    "INSERT INTO segment (device_id, device_class, device_slices, simulated, slice_low, slice_high, start_at, "
    "end_at, state, cause, tenant_id, project_id, service_id, offer_id, price_book_id) "
    "SELECT * FROM unnest("
    "CAST(:device_id AS text[]), CAST(:device_class AS text[]), CAST(:device_slices AS smallint[]), "
    "CAST(:simulated AS boolean[]), CAST(:slice_low AS smallint[]), CAST(:slice_high AS smallint[]), "
    "CAST(:start_at AS timestamptz[]), CAST(:end_at AS timestamptz[]), CAST(:state AS text[]), CAST(:cause AS text[]), "
    "CAST(:tenant_id AS text[]), CAST(:project_id AS text[]), CAST(:service_id AS text[]), "
    "CAST(:offer_id AS text[]), CAST(:price_book_id AS text[]))"
)


@dataclass(frozen=True, slots=True)
class SegmentDevice:
    """What a segment row repeats of its device, so that the ledger can be read without it."""

    device_class: str
    slices: int
    simulated: bool


@dataclass(slots=True)
class _Written:
    """An open segment and the row it is in; ``row_id`` None: not written yet."""

    segment: Segment
    row_id: int | None


@dataclass(slots=True)
class _Ended:
    """What the changes so far ended: written rows with their end, and segments that were never written."""

    written: dict[int, datetime]
    unwritten: list[Segment]


def open_for_new_devices(
    connection: Connection, devices: Mapping[str, SegmentDevice], at: datetime, holding: Holding = FREE
) -> None:
    """Open the first segment of each new device over all its slices, thousands a statement.

    Raises an integrity error if a device has an open segment already.
    """
    segments = [Segment(id_, 0, device.slices, at, None, holding) for id_, device in sorted(devices.items())]
    for part in batches(segments):
        _insert(connection, part, devices)


def open_segments(connection: Connection, device_ids: Iterable[str]) -> dict[str, list[Segment]]:
    """Return the open segments of each device, by first slice."""
    found: dict[str, list[Segment]] = {id_: [] for id_ in device_ids}
    for row in every(connection.execute(_OPEN, {"ids": list(found)})):
        found[row["device_id"]].append(to_segment(row))
    return found


def cut_many(connection: Connection, changes: Sequence[Change], at: datetime) -> int:
    """Put slices of devices into new states from ``at`` on; return how many segments began.

    Changes of one device are applied in the order given. Four statements whatever the number of changes:
    lock the devices, read their open segments, close, open. A change to the state that is there already
    writes nothing. Raises ValueError if a device is unknown or its open segments do not cover the slices.
    """
    if not changes:
        return 0
    devices = lock_devices(connection, {change[0] for change in changes})
    current: dict[str, list[_Written]] = {id_: [] for id_ in devices}
    for row in every(connection.execute(_OPEN, {"ids": list(devices)})):
        current[row["device_id"]].append(_Written(to_segment(row), row["id"]))
    ended = _Ended({}, [])
    for device_id, slice_low, slice_high, holding in changes:
        if device_id not in devices:
            raise ValueError(f"no device '{device_id}' to cut segments of")
        current[device_id] = _apply(current[device_id], (slice_low, slice_high), at, holding, ended)
    _close(connection, ended.written)
    opened = [w.segment for written in current.values() for w in written if w.row_id is None]
    _insert(connection, ended.unwritten + opened, devices)
    return len(opened)


def lock_devices(connection: Connection, device_ids: Iterable[str]) -> dict[str, SegmentDevice]:
    """Lock the device rows in id order until the transaction ends and return what segments repeat of them."""
    rows = connection.execute(_LOCK_DEVICES, {"ids": sorted(set(device_ids))})
    return {id_: SegmentDevice(class_, slices, simulated) for id_, class_, slices, simulated in rows}


def _apply(
    current: list[_Written],
    slices: tuple[int, int],
    at: datetime,
    holding: Holding,
    ended: _Ended,
) -> list[_Written]:
    """Return the open segments after one change; note in ``ended`` what it ends.

    A segment that this call opened and ends again is written only if it has a length: it has one where the
    clock went back and a later cut touches slices that began in the future.
    """
    change = cut([w.segment for w in current], *slices, at, holding)
    if all(segment.holding == holding for segment in change.closed):
        return current
    ends = {segment.slice_low: segment for segment in change.closed}
    kept: list[_Written] = []
    for written in current:
        closed = ends.get(written.segment.slice_low)
        if closed is None or closed.end is None:
            kept.append(written)
        elif written.row_id is not None:
            ended.written[written.row_id] = closed.end
        elif closed.end > closed.start:
            ended.unwritten.append(closed)
    return kept + [_Written(segment, None) for segment in change.opened]


def replace_width(connection: Connection, device_ids: Iterable[str], at: datetime) -> None:
    """Close all open segments of devices whose number of slices changed and open one over the new width.

    Only for devices that nobody holds. The new segment keeps the state of the first old one.
    """
    devices = lock_devices(connection, device_ids)
    rows = every(connection.execute(_OPEN, {"ids": list(devices)}))
    closed: dict[int, datetime] = {}
    first: dict[str, Segment] = {}
    for row in rows:
        segment = to_segment(row)
        end = max(at, segment.start)
        closed[row["id"]] = end
        known = first.setdefault(row["device_id"], segment)
        first[row["device_id"]] = replace(
            known, slice_low=0, slice_high=devices[row["device_id"]].slices, start=max(end, known.start)
        )
    _close(connection, closed)
    _insert(connection, list(first.values()), devices)


# What capacity that nobody holds must be, by its node and its own health. Changed only if it is something else.
_RESTING = """
    FROM device d JOIN node n ON n.id = d.node_id
    JOIN segment s ON s.device_id = d.id AND s.end_at IS NULL
    CROSS JOIN LATERAL (SELECT
        CASE WHEN n.state <> 'ready' THEN 'dark' WHEN d.health <> 'ok' THEN 'repair'
             WHEN n.maintenance THEN 'repair' WHEN n.cordoned OR n.kept_for IS NOT NULL THEN 'stranded'
             ELSE 'free' END AS state,
        CASE WHEN n.state = 'retired' THEN 'node_retired' WHEN n.state <> 'ready' THEN 'node_unreachable'
             WHEN d.health <> 'ok' THEN 'device_' || d.health
             WHEN n.maintenance THEN 'maintenance' WHEN n.cordoned THEN 'cordoned'
             WHEN n.kept_for IS NOT NULL THEN 'fabric_kept' END AS cause) AS rest
    WHERE (s.state IN ('free', 'dark', 'repair') OR (s.state = 'stranded' AND s.cause IN ('cordoned', 'fabric_kept')))
    AND (s.state, s.cause) IS DISTINCT FROM (rest.state, rest.cause)
"""
_UNSETTLED = sa.text(
    "SELECT s.device_id, s.slice_low, s.slice_high, rest.state, rest.cause "
    + _RESTING
    + "AND n.id = ANY(CAST(:node_ids AS text[])) ORDER BY s.device_id, s.slice_low"
)
_UNSETTLED_NODES = sa.text(
    "SELECT DISTINCT n.id "
    + _RESTING
    + "AND (n.state <> 'ready' OR n.cordoned OR n.maintenance OR n.kept_for IS NOT NULL OR d.health <> 'ok') ORDER BY n.id"
)
_LOCK_DEVICES_OF = sa.text(
    "SELECT id FROM device WHERE node_id = ANY(CAST(:node_ids AS text[])) ORDER BY id FOR NO KEY UPDATE"
)


def settle(connection: Connection, node_ids: Sequence[str], at: datetime) -> int:
    """Put what nobody holds on these nodes into the state it must be in; return how many segments began.

    ``dark`` on a node that is not ready, ``repair`` on a device that is not well or on a node in maintenance,
    ``stranded`` on a cordoned node and on one that is kept for a project's partition of the fabric, else ``free``. Sold, reserved and cleaning segments are the service engine's. Repeatable.
    """
    connection.execute(_LOCK_DEVICES_OF, {"node_ids": list(node_ids)})
    rows = connection.execute(_UNSETTLED, {"node_ids": list(node_ids)})
    changes: list[Change] = [
        (device_id, low, high, Holding(SegmentState(state), cause))
        for device_id, low, high, state, cause in rows
    ]
    return cut_many(connection, changes, at)


def unsettled_nodes(connection: Connection) -> list[str]:
    """Return nodes that are lost, cordoned, kept for a partition or have ailing devices and whose idle segments do not say so yet.

    What a service gave back just after such a change is found here; the cost goes with the nodes in such a
    state, not with the fleet.
    """
    return list(connection.execute(_UNSETTLED_NODES).scalars())


def to_segment(row: Row) -> Segment:
    """Return the domain's segment of a row."""
    return Segment(
        device_id=row["device_id"],
        slice_low=row["slice_low"],
        slice_high=row["slice_high"],
        start=row["start_at"],
        end=row["end_at"],
        holding=Holding(
            state=SegmentState(row["state"]),
            cause=row["cause"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            service_id=row["service_id"],
            offer_id=row["offer_id"],
            price_book_id=row["price_book_id"],
        ),
    )


def history(
    connection: Connection,
    *,
    device_id: str | None = None,
    service_id: str | None = None,
    before: int | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` segments of a device or a service with the names on them, newest first.

    ``before`` is the id of the last segment of the page before.
    """
    wanted = "g.device_id = :id" if device_id is not None else "g.service_id = :id"
    older = "" if before is None else "AND g.id < :before"
    query = sa.text(
        "SELECT g.id, g.device_id, g.device_class, g.device_slices, g.slice_low, g.slice_high, g.start_at, g.end_at, "  # noqa: S608 - constants of this function
        "g.state, g.cause, g.tenant_id, g.project_id, g.service_id, g.simulated, d.position, n.id AS node_id, "
        "n.name AS node, s.name AS service, t.name AS tenant, b.version AS price_book_version FROM segment g "
        "JOIN device d ON d.id = g.device_id JOIN node n ON n.id = d.node_id "
        "LEFT JOIN service s ON s.id = g.service_id LEFT JOIN tenant t ON t.id = g.tenant_id "
        f"LEFT JOIN price_book b ON b.id = g.price_book_id WHERE {wanted} {older} ORDER BY g.id DESC LIMIT :limit"
    )
    values = {"id": device_id or service_id, "limit": limit}
    return every(connection.execute(query, values if before is None else {**values, "before": before}))


def _close(connection: Connection, ends: Mapping[int, datetime]) -> None:
    if ends:
        connection.execute(_CLOSE, {"ids": list(ends), "ends": list(ends.values())})


def _insert(
    connection: Connection, segments: Sequence[Segment], devices: Mapping[str, SegmentDevice]
) -> None:
    if not segments:
        return
    about = [devices[s.device_id] for s in segments]
    connection.execute(
        _INSERT,
        {
            "device_id": [s.device_id for s in segments],
            "device_class": [d.device_class for d in about],
            "device_slices": [d.slices for d in about],
            "simulated": [d.simulated for d in about],
            "slice_low": [s.slice_low for s in segments],
            "slice_high": [s.slice_high for s in segments],
            "start_at": [s.start for s in segments],
            "end_at": [s.end for s in segments],
            "state": [s.holding.state.value for s in segments],
            "cause": [s.holding.cause for s in segments],
            "tenant_id": [s.holding.tenant_id for s in segments],
            "project_id": [s.holding.project_id for s in segments],
            "service_id": [s.holding.service_id for s in segments],
            "offer_id": [s.holding.offer_id for s in segments],
            "price_book_id": [s.holding.price_book_id for s in segments],
        },
    )
