"""Power budgets: rows, what they hold, and the gate's view of those above the nodes of a batch.

What a budget holds is kept by triggers on nodes and devices, in the transaction that changes them. They take
``_COUNTING`` shared; who begins to count takes it alone, after all that came before are done, so that nothing is
missed. A claimant locks the budgets above its nodes, in id order and after nodes and devices, judges and writes:
whoever comes second waits and then sees the first one's power. Without budgets nobody waits for anybody.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.claim import NodeState
from penstock.domain.power_budget import (
    MW_PER_WATT,
    Added,
    PowerBudget,
    PowerLevel,
    PowerShortage,
    Subject,
    shortages,
    subjects,
)
from penstock.store.rows import Row, every, one
from penstock.store.schema import power_budget, site

_COUNTING = 5261141  # as in migration 0023
_SHARED = sa.text(f"SELECT pg_advisory_xact_lock_shared({_COUNTING})")
_ALONE = sa.text(f"SELECT pg_advisory_xact_lock({_COUNTING})")
_COLUMNS = "id, level, subject_id, name, limit_watts, held_mw"
_CHANGED = sa.text(
    f"SELECT {_COLUMNS} FROM power_budget WHERE changed_xid >= CAST(CAST(:mark AS text) AS xid8)"  # noqa: S608 - constants
)
_LOCK = sa.text(
    f"SELECT {_COLUMNS} FROM power_budget WHERE limit_watts IS NOT NULL "  # noqa: S608 - constants
    "AND (level, subject_id) IN (SELECT * FROM unnest(CAST(:levels AS text[]), CAST(:subjects AS text[]))) "
    "ORDER BY id FOR NO KEY UPDATE"
)
_DRAWS = sa.text(
    "SELECT d.id, class_load_mw(c.data) - class_idle_mw(c.data) AS mw FROM device d "
    "JOIN device_class c ON c.name = d.device_class WHERE d.id = ANY(CAST(:ids AS text[]))"
)


def changed_since(connection: Connection, mark: int) -> list[PowerBudget]:
    """Return budgets changed by transactions from ``mark`` on, removed ones too; 0 returns all."""
    return [_budget(row) for row in every(connection.execute(_CHANGED, {"mark": mark}))]


def _budget(row: Row) -> PowerBudget:
    limit = row["limit_watts"]
    return PowerBudget(
        budget_id=row["id"],
        level=PowerLevel(row["level"]),
        subject_id=row["subject_id"],
        name=row["name"],
        limit_mw=None if limit is None else limit * MW_PER_WATT,
        held_mw=row["held_mw"],
    )


class Above:
    """The budgets above the nodes and devices of a batch, locked, moved along as grants are accepted."""

    def __init__(
        self, connection: Connection, nodes: Iterable[NodeState], device_ids: Collection[str]
    ) -> None:
        connection.execute(_SHARED)
        keys = {
            key for one in nodes for key in subjects(one.node_id, one.rack_id, one.row, one.site_id).items()
        }
        keys |= {(PowerLevel.DEVICE, device_id) for device_id in device_ids}
        values = {"levels": [level for level, _ in keys], "subjects": [subject for _, subject in keys]}
        found = [_budget(row) for row in every(connection.execute(_LOCK, values))]
        self._budgets: dict[Subject, PowerBudget] = {(one.level, one.subject_id): one for one in found}
        rows = every(connection.execute(_DRAWS, {"ids": list(device_ids)})) if found else []
        self._draws: dict[str, int] = {row["id"]: row["mw"] for row in rows}

    def draw_mw(self, device_id: str | None) -> int:
        """Return what a device draws more under load than idle; 0 where no budget is above it."""
        return self._draws.get(device_id or "", 0)

    def short(self, added: Added) -> tuple[PowerShortage, ...]:
        """Return which budgets would be overdrawn."""
        return shortages(added.at(self._budgets))

    def take(self, added: Added) -> None:
        """Count what was let through, for those that come after it in this batch; the triggers write it."""
        for budget, mw in added.at(self._budgets):
            self._budgets[budget.level, budget.subject_id] = replace(budget, held_mw=budget.held_mw + mw)


# What a node holds now, what it would hold at rest and with everything under load; retired nodes hold nothing.
_NODE_POWER = """
    SELECT n.id, n.name, n.site_id, n.rack_id, r.row_name, n.power_wanted, n.power_state,
        n.host_mw + COALESCE(p.idle_mw, 0) AS idle_mw, n.host_mw + COALESCE(p.load_mw, 0) AS load_mw,
        CASE WHEN n.power_held THEN n.host_mw + COALESCE(p.idle_mw, 0) ELSE 0 END + COALESCE(p.busy_mw, 0) AS held_mw
    FROM node n LEFT JOIN rack r ON r.id = n.rack_id LEFT JOIN LATERAL (
        SELECT sum(class_idle_mw(c.data)) AS idle_mw, sum(class_load_mw(c.data)) AS load_mw,
            sum(class_load_mw(c.data) - class_idle_mw(c.data)) FILTER (WHERE d.used_mask <> 0 OR d.power_booked) AS busy_mw
        FROM device d JOIN device_class c ON c.name = d.device_class WHERE d.node_id = n.id) AS p ON true
    WHERE n.state <> 'retired'
"""
# One statement a level: a subject, its name, and the subject above it.
_PLACES = {
    PowerLevel.SITE: ("p.site_id", "min(site.name)", "NULL"),
    PowerLevel.ROW: ("p.site_id || '/' || p.row_name", "min(p.row_name)", "min(p.site_id)"),
    PowerLevel.RACK: (
        "p.rack_id",
        "min(rack.name)",
        "min(COALESCE(p.site_id || '/' || p.row_name, p.site_id))",
    ),
    PowerLevel.NODE: ("p.id", "min(p.name)", "min(COALESCE(p.rack_id, p.site_id))"),
}
_OF_LEVEL = {
    level: sa.text(
        f"""
        SELECT t.*, b.id AS budget_id, b.limit_watts FROM (
            SELECT {subject} AS subject_id, {name} AS name, {parent} AS parent_id, min(p.site_id) AS site_id,
                min(site.name) AS site, bool_or(site.simulated) AS simulated, count(*)::bigint AS nodes,
                (count(*) FILTER (WHERE p.power_wanted = 'off'))::bigint AS asleep,
                sum(p.idle_mw)::bigint AS idle_mw, sum(p.load_mw)::bigint AS load_mw, sum(p.held_mw)::bigint AS held_mw
            FROM ({_NODE_POWER}) AS p JOIN site ON site.id = p.site_id LEFT JOIN rack ON rack.id = p.rack_id
            WHERE {subject} IS NOT NULL AND (CAST(:site_id AS text) IS NULL OR p.site_id = :site_id)
                AND (CAST(:after AS text) IS NULL OR {subject} > :after)
            GROUP BY {subject} ORDER BY {subject} LIMIT :limit) AS t
        LEFT JOIN power_budget b ON b.level = :level AND b.subject_id = t.subject_id AND b.limit_watts IS NOT NULL
        ORDER BY t.subject_id
        """  # noqa: S608 - constants
    )
    for level, (subject, name, parent) in _PLACES.items()
}
_RECOUNT = sa.text(
    f"""
    UPDATE power_budget b SET held_mw = COALESCE((
        CASE WHEN b.level = 'device' THEN (
            SELECT CASE WHEN n.state = 'retired' THEN 0 ELSE CASE WHEN n.power_held THEN class_idle_mw(c.data) ELSE 0 END
                + CASE WHEN d.used_mask <> 0 OR d.power_booked THEN class_load_mw(c.data) - class_idle_mw(c.data) ELSE 0 END END
            FROM device d JOIN node n ON n.id = d.node_id JOIN device_class c ON c.name = d.device_class WHERE d.id = b.subject_id)
        ELSE (SELECT sum(p.held_mw) FROM ({_NODE_POWER}) AS p WHERE b.subject_id = CASE b.level WHEN 'node' THEN p.id
            WHEN 'rack' THEN p.rack_id WHEN 'row' THEN p.site_id || '/' || p.row_name ELSE p.site_id END)
        END), 0)::bigint, generation = b.generation + 1
    WHERE b.limit_watts IS NOT NULL AND (CAST(:id AS text) IS NULL OR b.id = :id)
    """  # noqa: S608 - constants
)


def count_alone(connection: Connection) -> None:
    """Wait until nobody changes what is held, and keep it so; before anything else that is locked."""
    connection.execute(_ALONE)


def recount(connection: Connection, budget_id: str | None = None) -> None:
    """Count anew what a budget holds, or all; after ``count_alone``."""
    connection.execute(_RECOUNT, {"id": budget_id})


_PUT = sa.text(
    "INSERT INTO power_budget (id, site_id, level, subject_id, name, limit_watts, created_at) "
    "VALUES (:id, :site_id, :level, :subject_id, :name, :limit_watts, :at) "
    "ON CONFLICT (level, subject_id) DO UPDATE SET limit_watts = excluded.limit_watts, name = excluded.name, "
    "generation = power_budget.generation + 1 RETURNING id"
)


def put(connection: Connection, row: Mapping[str, Any], at: datetime) -> str:
    """Set a budget and count what it holds; ``row`` has id, site_id, level, subject_id, name and limit_watts.

    Setting the same subject again changes its limit and keeps its id, which is returned.
    """
    count_alone(connection)
    budget_id = str(connection.execute(_PUT, {**row, "at": at}).scalar_one())
    recount(connection, budget_id)
    return budget_id


def remove(connection: Connection, budget_id: str) -> None:
    """Take a limit away; the row stays, without one, so that every picture of the fleet hears of it."""
    count_alone(connection)
    connection.execute(
        sa.update(power_budget)
        .where(power_budget.c.id == budget_id)
        .values(limit_watts=None, held_mw=0, generation=power_budget.c.generation + 1)
    )


_BUDGETS = (
    sa.select(power_budget, site.c.name.label("site"), site.c.simulated)
    .join_from(power_budget, site, site.c.id == power_budget.c.site_id)
    .where(power_budget.c.limit_watts.is_not(None))
)


def get(connection: Connection, budget_id: str) -> Row | None:
    """Return one budget with its site's name and nature, or None."""
    return one(connection.execute(_BUDGETS.where(power_budget.c.id == budget_id)))


def of_subject(connection: Connection, level: str, subject_id: str) -> Row | None:
    """Return the budget of a subject, or None."""
    which = (power_budget.c.level == level, power_budget.c.subject_id == subject_id)
    return one(connection.execute(_BUDGETS.where(*which)))


def page(
    connection: Connection, *, site_id: str | None, level: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` budgets by id; None filters are open."""
    query = _BUDGETS.order_by(power_budget.c.id).limit(limit)
    if site_id is not None:
        query = query.where(power_budget.c.site_id == site_id)
    if level is not None:
        query = query.where(power_budget.c.level == level)
    if after is not None:
        query = query.where(power_budget.c.id > after)
    return every(connection.execute(query))


def places(
    connection: Connection, *, site_id: str | None, level: PowerLevel, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` sites, rows, racks or nodes by subject, with what they hold and their budget if they have one.

    Amounts are milliwatts: ``idle_mw`` with everything on and nothing running, ``load_mw`` with everything under load,
    ``held_mw`` now. ``parent_id`` is the subject above.
    """
    values = {"site_id": site_id, "level": level, "after": after, "limit": limit}
    return every(connection.execute(_OF_LEVEL[level], values))


_BY_LEVEL = sa.text(
    "SELECT level, count(*) AS budgets, sum(limit_watts)::bigint AS limit_watts, sum(held_mw)::bigint AS held_mw, "
    "count(*) FILTER (WHERE held_mw > limit_watts * 1000) AS overcommitted "
    "FROM power_budget WHERE limit_watts IS NOT NULL GROUP BY level ORDER BY level"
)


def by_level(connection: Connection) -> list[Row]:
    """Return by level how many budgets there are, their sums, and how many hold more than they may."""
    return every(connection.execute(_BY_LEVEL))


_WAKE = sa.text(
    "UPDATE node SET power_held = true, power_wanted = 'on', power_at = :at, generation = generation + 1 "
    "WHERE id = ANY(CAST(:ids AS text[]))"
)
_KEEP_POWER = sa.text(
    "UPDATE node SET power_held = true, generation = generation + 1 WHERE id = ANY(CAST(:ids AS text[]))"
)


def wake(connection: Connection, node_ids: Collection[str], at: datetime) -> None:
    """Ask for nodes that sleep to be woken; from now on they hold their power."""
    if node_ids:
        connection.execute(_WAKE, {"ids": sorted(node_ids), "at": at})


def keep_power(connection: Connection, node_ids: Collection[str]) -> None:
    """Keep the power of nodes that sleep for what is booked there."""
    if node_ids:
        connection.execute(_KEEP_POWER, {"ids": sorted(node_ids)})
