"""Power feeds of a site: what they may deliver. A budget of 0 watts means that nobody stated one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import power_feed, site

_INSERT = sa.text(
    "INSERT INTO power_feed (id, site_id, name, level, budget_watts) "
    "SELECT id, :site_id, name, :level, watts FROM unnest("
    "CAST(:ids AS text[]), CAST(:names AS text[]), CAST(:watts AS bigint[])) AS r(id, name, watts) "
    "ON CONFLICT (site_id, name) DO NOTHING"
)
_BY_NAME = sa.text(
    "SELECT name, id FROM power_feed WHERE site_id = :site_id AND name = ANY(CAST(:names AS text[]))"
)


def ensure_many(
    connection: Connection,
    site_id: str,
    names: Sequence[str],
    budget_watts: Mapping[str, int],
    new_id: Callable[[str], str],
) -> dict[str, str]:
    """Return the ids of a site's feeds by name, adding those that are missing, as feeds of a rack.

    A budget is written with a new feed only: afterwards it is the operator's.
    """
    parameters = {"site_id": site_id, "names": list(names)}
    known = _ids(connection, parameters)
    missing = sorted(set(names) - set(known))
    if missing:
        connection.execute(
            _INSERT,
            {
                "site_id": site_id,
                "level": "rack",
                "ids": [new_id("power_feed") for _ in missing],
                "names": missing,
                "watts": [budget_watts.get(name, 0) for name in missing],
            },
        )
        known = _ids(connection, parameters)
    return known


_FEEDS = sa.select(power_feed, site.c.name.label("site"), site.c.simulated).join_from(
    power_feed, site, site.c.id == power_feed.c.site_id
)


def get(connection: Connection, feed_id: str) -> Row | None:
    """Return one feed with its site's name and nature, or None."""
    return one(connection.execute(_FEEDS.where(power_feed.c.id == feed_id)))


def page(connection: Connection, *, site_id: str | None, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` feeds by id; None filters are open."""
    query = _FEEDS.order_by(power_feed.c.id).limit(limit)
    if site_id is not None:
        query = query.where(power_feed.c.site_id == site_id)
    if after is not None:
        query = query.where(power_feed.c.id > after)
    return every(connection.execute(query))


# Board power by class is data of the class; nobody measures it here, so this is what could be drawn at most.
_NOMINAL = sa.text(
    """
    SELECT n.power_feed_id, CAST(sum((c.data ->> 'power_watts')::bigint) AS bigint) AS nominal_watts,
        CAST(COALESCE(sum((c.data ->> 'power_watts')::bigint) FILTER (WHERE d.used_mask <> 0), 0) AS bigint)
            AS sold_watts,
        count(*) AS devices
    FROM device d JOIN node n ON n.id = d.node_id JOIN device_class c ON c.name = d.device_class
    WHERE n.power_feed_id IS NOT NULL AND n.state <> 'retired' GROUP BY n.power_feed_id
    """
)


def nominal(connection: Connection) -> dict[str, Row]:
    """Return by feed the board power of its devices, of those sold, and how many devices there are."""
    return {row["power_feed_id"]: row for row in every(connection.execute(_NOMINAL))}


def set_budget(connection: Connection, feed_id: str, budget_watts: int) -> bool:
    """Write what a feed may deliver; False if there is no such feed."""
    result = connection.execute(
        sa.update(power_feed).where(power_feed.c.id == feed_id).values(budget_watts=budget_watts)
    )
    return result.rowcount == 1


def _ids(connection: Connection, parameters: Mapping[str, Any]) -> dict[str, str]:
    return {row["name"]: row["id"] for row in every(connection.execute(_BY_NAME, parameters))}
