"""Racks of a site, each with the feed that powers it."""

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import device, node, power_feed, rack, site

_INSERT = sa.text(
    "INSERT INTO rack (id, site_id, name, power_feed_id) "
    "SELECT id, :site_id, name, feed FROM unnest("
    "CAST(:ids AS text[]), CAST(:names AS text[]), CAST(:feeds AS text[])) AS r(id, name, feed) "
    "ON CONFLICT (site_id, name) DO NOTHING"
)
_SET_FEED = sa.text(
    "UPDATE rack SET power_feed_id = r.feed FROM unnest("
    "CAST(:ids AS text[]), CAST(:feeds AS text[])) AS r(id, feed) WHERE rack.id = r.id"
)
_BY_NAME = sa.text(
    "SELECT name, id, power_feed_id FROM rack WHERE site_id = :site_id AND name = ANY(CAST(:names AS text[]))"
)


def ensure_many(
    connection: Connection, site_id: str, feeds: Mapping[str, str | None], new_id: Callable[[str], str]
) -> dict[str, str]:
    """Return the ids of a site's racks by name, adding those that are missing.

    ``feeds`` names the racks and the id of the power feed of each; a feed that is stated replaces another.
    """
    parameters = {"site_id": site_id, "names": list(feeds)}
    known = {row["name"]: row for row in every(connection.execute(_BY_NAME, parameters))}
    missing = sorted(set(feeds) - set(known))
    if missing:
        connection.execute(
            _INSERT,
            {
                "site_id": site_id,
                "ids": [new_id("rack") for _ in missing],
                "names": missing,
                "feeds": [feeds[name] for name in missing],
            },
        )
        known = {row["name"]: row for row in every(connection.execute(_BY_NAME, parameters))}
    moved = {
        row["id"]: feeds[name]
        for name, row in known.items()
        if feeds[name] not in (None, row["power_feed_id"])
    }
    if moved:
        connection.execute(_SET_FEED, {"ids": list(moved), "feeds": list(moved.values())})
    return {name: row["id"] for name, row in known.items()}


_IN_ROW = sa.text("SELECT EXISTS (SELECT FROM rack WHERE site_id = :site_id AND row_name = :row)")
_SET_ROW = sa.text("UPDATE rack SET row_name = :row WHERE id = :id")
_TOUCH_NODES = sa.text("UPDATE node SET generation = generation + 1 WHERE rack_id = :id")


def in_row(connection: Connection, site_id: str, row: str) -> bool:
    """Tell whether any rack of a site stands in a row."""
    return bool(connection.execute(_IN_ROW, {"site_id": site_id, "row": row}).scalar_one())


def set_row(connection: Connection, rack_id: str, row: str | None) -> None:
    """Say which row a rack stands in; every picture of the fleet reads its nodes again."""
    connection.execute(_SET_ROW, {"id": rack_id, "row": row})
    connection.execute(_TOUCH_NODES, {"id": rack_id})


_COUNTS = (
    sa.select(
        sa.func.count(sa.distinct(node.c.id)).label("nodes"),
        sa.func.count(device.c.id).label("devices"),
        sa.func.count().filter(device.c.used_mask != 0).label("devices_used"),
    )
    .select_from(node.outerjoin(device, device.c.node_id == node.c.id))
    .where(node.c.rack_id == rack.c.id, node.c.state != "retired")
    .lateral("counts")
)
_RACKS = sa.select(
    rack,
    site.c.name.label("site"),
    site.c.simulated,
    power_feed.c.name.label("power_feed"),
    power_feed.c.budget_watts,
    _COUNTS.c.nodes,
    _COUNTS.c.devices,
    _COUNTS.c.devices_used,
).select_from(
    rack.join(site, site.c.id == rack.c.site_id)
    .outerjoin(power_feed, power_feed.c.id == rack.c.power_feed_id)
    .join(_COUNTS, sa.true())
)


def get(connection: Connection, rack_id: str) -> Row | None:
    """Return one rack with its site, feed and counts, or None."""
    return one(connection.execute(_RACKS.where(rack.c.id == rack_id)))


def page(
    connection: Connection, *, site_id: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` racks by id; None filters are open."""
    query = _RACKS.order_by(rack.c.id).limit(limit)
    if site_id is not None:
        query = query.where(rack.c.site_id == site_id)
    if name is not None:
        query = query.where(rack.c.name == name)
    if after is not None:
        query = query.where(rack.c.id > after)
    return every(connection.execute(query))
