"""What the step *reserve* says of time and ends: when an order ends, what is given up, the event of either."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.catalog.base import Compiled
from penstock.domain.service import Reason, ServiceState
from penstock.store import policy as policy_store
from penstock.store.event import NewEvent
from penstock.store.rows import Row


def timed(row: Row, order: Compiled, now: datetime) -> Compiled:
    """Return an order whose asks know when it ends and in which reservation it is."""
    ends_at = row["ends_at"]
    if ends_at is None and row["duration_s"] is not None:
        ends_at = now + timedelta(seconds=row["duration_s"])
    if ends_at is None and row["reservation_id"] is None:
        return order
    asks = (replace(ask, ends_at=ends_at, reservation_id=row["reservation_id"]) for ask in order.asks)
    return replace(order, asks=tuple(asks))


def event_of(row: Row, move: Mapping[str, Any], now: datetime) -> NewEvent:
    """Return the event of a planned service: it moved, or it waits."""
    kind = "service.state" if move["state"] != row["state"] else "service.waits"
    data = {
        "name": row["name"],
        "kind": row["kind"],
        "from": row["state"],
        "to": move["state"],
        "reason": move["reason"],
    }
    return NewEvent(now, kind, row["id"], row["tenant_id"], row["project_id"], data)


def starting(row: Row, now: datetime, *, simulated: bool, holds: Mapping[str, int] | None) -> dict[str, Any]:
    """Return the move of a service that has got its place."""
    deadline = now + limits.START_DEADLINE
    return {
        "id": row["id"],
        "state": ServiceState.STARTING,
        "reason": Reason.NONE,
        "message": "",
        "due_at": deadline,
        "deadline_at": deadline,
        "attempts": 0,
        "simulated": simulated,
        "holds": holds,
        "placed_at": now,
    }


def ending_of(row: Row, reason: Reason, sentence: str, now: datetime) -> dict[str, Any]:
    """Return the move of a service that is given up for ``reason``."""
    return {
        "id": row["id"],
        "state": ServiceState.RELEASING,
        "reason": reason,
        "message": sentence,
        "ends_as": ServiceState.FAILED,
        "due_at": now,
        "deadline_at": now + limits.RELEASE_DEADLINE,
        "attempts": 0,
    }


def waking_words(connection: Connection, nodes: Iterable[Row]) -> str:
    """Say which of the nodes that work was placed on must wake first, and how long that takes; empty if none must."""
    names = sorted(
        {str(row["name"]) for row in nodes if row["power_wanted"] == "off" or row["power_state"] != "on"}
    )
    if not names:
        return ""
    what = f"node {names[0]}" if len(names) == 1 else f"{len(names)} nodes"
    return f"waking {what}, about {policy_store.read(connection).wake_s} s"
