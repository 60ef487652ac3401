"""Quotas per device class for orders that left the class open: they count once the class is known.

Before planning, classes whose quota is used up are left out; at the commit the class's amounts are checked
and taken in the transaction of the gate, so that such an order exceeds a quota as little as any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.engine import Connection

from penstock.catalog.base import Compiled, Known
from penstock.catalog.kinds import kind_named
from penstock.domain.quota import QuotaLine, check
from penstock.scheduler import NoPlan, Plan
from penstock.store import quota as quota_store
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class Taken:
    """What a service holds by class: ``holds`` is its whole new record, ``extra`` the part just taken."""

    holds: Mapping[str, int]
    extra: Mapping[str, int]


class ClassQuotas:
    """The class quotas of one batch; each owner's lines are read once."""

    def __init__(self, connection: Connection, known: Known, now: datetime) -> None:
        self._connection = connection
        self._known = known
        self._now = now
        self._lines: dict[tuple[str, str], list[QuotaLine]] = {}

    def narrowed(self, row: Row, order: Compiled) -> Compiled:
        """Return ``order`` with the classes left out that its owner may not have more of."""
        by_class = {name: self._holds(row, name) for name in self._known.device_classes}
        if not any(by_class.values()):
            return order
        lines = self._owner_lines(row, by_class)
        avoid = frozenset(
            name for name, holds in by_class.items() if holds and check(lines, holds) is not None
        )
        if not avoid:
            return order
        return replace(order, asks=tuple(replace(ask, avoid_classes=avoid) for ask in order.asks))

    def take(self, row: Row, order: Compiled, plans: Sequence[Plan | NoPlan]) -> Taken | None:
        """Take what the plan's class holds, after giving back what an earlier place held; None: over quota."""
        if row["reservation_id"] is not None:
            return Taken(row["holds"], {})
        earlier = {key: amount for key, amount in row["holds"].items() if key not in order.holds}
        name = next((plan.device_class for plan in plans if isinstance(plan, Plan)), None)
        extra: Mapping[str, int] = {} if name is None else self._holds(row, name)
        if earlier:
            quota_store.give_back_many(self._connection, [(row["tenant_id"], row["project_id"], earlier)])
        if extra:
            breach = quota_store.check_and_take(
                self._connection, row["tenant_id"], row["project_id"], extra, self._now
            )
            if breach is not None:
                return None
        return Taken({**order.holds, **extra}, extra)

    def put_back(self, row: Row, taken: Taken) -> None:
        """Undo ``take`` for a service that the gate refused."""
        if taken.extra:
            quota_store.give_back_many(self._connection, [(row["tenant_id"], row["project_id"], taken.extra)])

    def _holds(self, row: Row, device_class: str) -> Mapping[str, int]:
        if row["reservation_id"] is not None:
            return {}  # its reservation holds them, by class, since it was booked
        return kind_named(row["kind"]).class_holds(row["spec"], device_class, self._known)

    def _owner_lines(self, row: Row, by_class: Mapping[str, Mapping[str, int]]) -> list[QuotaLine]:
        owner = (row["tenant_id"], row["project_id"])
        if owner not in self._lines:
            dimensions = {dimension for holds in by_class.values() for dimension in holds}
            self._lines[owner] = quota_store.lines_for_order(self._connection, *owner, dimensions, self._now)
        return self._lines[owner]
