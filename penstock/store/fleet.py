"""Nodes and devices as the scheduler reads them: everything, or what changed since."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.claim import DeviceState, NodeState
from penstock.domain.device import Attach
from penstock.domain.power_budget import PowerBudget
from penstock.domain.reservation import Booking, Leaving
from penstock.store import power_budget as power_budget_store
from penstock.store.calendar import bookings_of
from penstock.store.rows import Row, every


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows changed since the mark that was given, and the mark for the next time."""

    nodes: list[Row]
    devices: list[Row]
    bookings: dict[str, tuple[Booking, ...]]  # by device id
    budgets: list[PowerBudget]
    read_to: int


# The mark is read before the rows: what commits in between is read now and once more later, never missed.
_MARK = sa.text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
# What waking a node adds to the power that is held, the row its rack stands in, whether it carries networks.
BESIDE_NODE = """(SELECT row_name FROM rack WHERE rack.id = n.rack_id) AS row_name,
    EXISTS (SELECT FROM network_host h WHERE h.node_id = n.id) AS carries_networks,
    CASE WHEN n.power_held THEN 0 ELSE n.host_mw + COALESCE((SELECT sum(class_idle_mw(c.data)) FROM device d
        JOIN device_class c ON c.name = d.device_class WHERE d.node_id = n.id), 0)::bigint END AS wake_mw"""
_NODES = sa.text(
    "SELECT id, site_id, rack_id, simulated, state, cordoned, memory_bytes, memory_used_bytes, cpu_millis, cpu_used_millis, "  # noqa: S608 - constants
    "drivers, architecture, leaf, spine, maintenance, maintenance_from, power_wanted, power_state, kept_for, "
    + BESIDE_NODE
    + " FROM node n WHERE changed_xid >= CAST(CAST(:mark AS text) AS xid8)"
)
_DEVICES = sa.text(
    "SELECT id, node_id, device_class, slices, memory_bytes, slice_memory_bytes, used_mask, yielding_mask, booked_mask, health, "
    "power_booked, nvlink_domain, attach, numa_node "
    "FROM device WHERE changed_xid >= CAST(CAST(:mark AS text) AS xid8)"
)


def changes_since(connection: Connection, mark: int) -> Changes:
    """Return nodes and devices changed by transactions from ``mark`` on; 0 returns all."""
    read_to = int(connection.execute(_MARK).scalar_one())
    nodes = every(connection.execute(_NODES, {"mark": mark}))
    devices = every(connection.execute(_DEVICES, {"mark": mark}))
    budgets = power_budget_store.changed_since(connection, mark)
    return Changes(nodes, devices, bookings_of(connection, devices), budgets, read_to)


_NODE = sa.text(f"SELECT n.*, {BESIDE_NODE} FROM node n WHERE n.id = :id")  # noqa: S608 - constants


def node_of(connection: Connection, node_id: str) -> NodeState:
    """Return one node as it is; raises IndexError for an unknown one."""
    return node_state(every(connection.execute(_NODE, {"id": node_id}))[0])


def node_names(connection: Connection, node_ids: list[str]) -> dict[str, str]:
    """Return the names of nodes by id."""
    rows = connection.execute(sa.text("SELECT id, name FROM node WHERE id = ANY(:ids)"), {"ids": node_ids})
    return {str(row.id): str(row.name) for row in rows}


def node_state(row: Mapping[str, Any]) -> NodeState:
    """Return what ``fits`` needs of a node row."""
    return NodeState(
        node_id=row["id"],
        schedulable=row["state"] == "ready" and not row["cordoned"] and not row["maintenance"],
        memory_bytes=row["memory_bytes"],
        memory_used_bytes=row["memory_used_bytes"],
        cpu_millis=row["cpu_millis"],
        cpu_used_millis=row["cpu_used_millis"],
        drivers=frozenset(row["drivers"]),
        architecture=row["architecture"],
        site_id=row["site_id"],
        rack_id=row["rack_id"],
        simulated=row["simulated"],
        leaf=row["leaf"],
        pod=row["spine"],
        maintenance_from=row["maintenance_from"],
        row=row["row_name"],
        asleep=row["power_wanted"] == "off",
        wake_mw=row["wake_mw"],
        networks=row["carries_networks"],
        kept_for=row["kept_for"],
    )


def device_state(
    row: Mapping[str, Any], bookings: tuple[Booking, ...] = (), leaving: tuple[Leaving, ...] = ()
) -> DeviceState:
    """Return what ``fits`` needs of a device row, with what is on the calendar for it."""
    return DeviceState(
        device_id=row["id"],
        node_id=row["node_id"],
        device_class=row["device_class"],
        slices=row["slices"],
        memory_bytes=row["memory_bytes"],
        slice_memory_bytes=row["slice_memory_bytes"],
        used_mask=row["used_mask"],
        healthy=row["health"] == "ok",
        nvlink_domain=row["nvlink_domain"],
        yielding_mask=row["yielding_mask"],
        bookings=bookings,
        leaving=leaving,
        attach=Attach(row["attach"]),
        numa_node=row["numa_node"],
        power_booked=row["power_booked"],
    )
