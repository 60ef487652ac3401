"""The power engine: what budgets may hold and do hold, as metrics; nodes that sleep and wake.

One ``tick`` takes no input and may be killed at any instant.
"""

from prometheus_client import Gauge

from penstock.base.clock import Clock
from penstock.domain.power_budget import PowerLevel, watts
from penstock.store import power_budget as power_budget_store
from penstock.store.database import SYSTEM, Database

BUDGET = Gauge("penstock_power_budget_watts", "Sum of the power budgets of a level.", ("level",))
HELD = Gauge("penstock_power_held_watts", "What the budgets of a level hold, planned.", ("level",))
OVERCOMMITTED = Gauge(
    "penstock_power_budgets_overcommitted", "Budgets of a level that hold more than they may.", ("level",)
)


class PowerEngine:
    """Looks after power."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def tick(self) -> int:
        """Measure the budgets; return how many nodes were moved."""
        with self._db.transaction(SYSTEM) as connection:
            rows = {row["level"]: row for row in power_budget_store.by_level(connection)}
        for level in PowerLevel:
            row = rows.get(level, {})
            BUDGET.labels(level).set(row.get("limit_watts", 0))
            HELD.labels(level).set(watts(row.get("held_mw", 0)))
            OVERCOMMITTED.labels(level).set(row.get("overcommitted", 0))
        return 0
