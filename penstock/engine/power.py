"""The power engine: what budgets hold, as metrics; nodes that are put to sleep by policy and woken in time.

One ``tick`` takes no input and may be killed at any instant. Who needs a node wakes it at the gate; this wakes
those that a booking needs soon, and puts idle ones to sleep where the policy is ``automatic``.
"""

from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.catalog.sleep import proposals
from penstock.domain.policy import Sleeping
from penstock.domain.power_budget import PowerLevel, watts
from penstock.store import event as event_store
from penstock.store import policy as policy_store
from penstock.store import power_budget as power_budget_store
from penstock.store import reading as reading_store
from penstock.store import sleep as sleep_store
from penstock.store.database import SYSTEM, Database
from penstock.store.event import NewEvent

log = structlog.get_logger(__name__)
BUDGET = Gauge("penstock_power_budget_watts", "Sum of the power budgets of a level.", ("level",))
HELD = Gauge("penstock_power_held_watts", "What the budgets of a level hold, planned.", ("level",))
OVERCOMMITTED = Gauge(
    "penstock_power_budgets_overcommitted", "Budgets of a level that hold more than they may.", ("level",)
)
DRAWN = Gauge(
    "penstock_devices_measured_watts",
    "What the devices of a class measure that they draw.",
    ("device_class", "simulated"),
)
HOTTEST = Gauge(
    "penstock_devices_hottest_celsius",
    "The highest temperature that a device of a class measures.",
    ("device_class", "simulated"),
)
ASKED = Counter(
    "penstock_node_power_asked_total", "Nodes that the engine asked to sleep or to wake.", ("to",)
)


class PowerEngine:
    """Looks after power."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._look_at = clock.now()
        self._sense_at = clock.now()

    def tick(self) -> int:
        """Measure the budgets, wake what is needed soon, put to sleep what may; return how many nodes were asked."""
        self._measure()
        return self._db.retrying(SYSTEM, self._wake) + self._db.retrying(SYSTEM, self._sleep)

    def _measure(self) -> None:
        with self._db.transaction(SYSTEM) as connection:
            rows = {row["level"]: row for row in power_budget_store.by_level(connection)}
        for level in PowerLevel:
            row = rows.get(level, {})
            BUDGET.labels(level).set(row.get("limit_watts", 0))
            HELD.labels(level).set(watts(row.get("held_mw", 0)))
            OVERCOMMITTED.labels(level).set(row.get("overcommitted", 0))

        if self._clock.now() >= self._sense_at:
            self._sense_at = self._clock.now() + timedelta(seconds=limits.SENSOR_REPORT_SECONDS)
            self._sense()

    def _sense(self) -> None:
        """Sum up by class what devices measured lately; classes of which none did have no figure."""
        with self._db.transaction(SYSTEM) as connection:
            rows = reading_store.by_class(connection, self._clock.now() - limits.READING_FRESH)
        DRAWN.clear()
        HOTTEST.clear()
        for row in rows:
            labels = (row["device_class"], str(row["simulated"]).lower())
            if row["watts"] is not None:
                DRAWN.labels(*labels).set(row["watts"])
            if row["celsius"] is not None:
                HOTTEST.labels(*labels).set(row["celsius"])

    def _wake(self, connection: Connection) -> int:
        """Wake what a booking needs before it begins, twice the time that waking takes ahead; its power was kept."""
        now = self._clock.now()
        ahead = timedelta(seconds=2 * policy_store.read(connection).wake_s)
        due = sleep_store.due(connection, now + ahead, limits.SLEEP_BATCH)
        if due:
            sleep_store.lock(connection, due)
            power_budget_store.wake(connection, due, now)
            _note(connection, due, "node.wake", now)
            ASKED.labels("wake").inc(len(due))
        sleep_store.unkeep(connection)
        return len(due)

    def _sleep(self, connection: Connection) -> int:
        now = self._clock.now()
        if now < self._look_at:
            return 0
        policy = policy_store.read(connection)
        self._look_at = now + limits.SLEEP_LOOK
        if policy.sleep is not Sleeping.AUTOMATIC:
            return 0
        chosen = [row["id"] for row in proposals(connection, policy, now)[: limits.SLEEP_BATCH]]
        if not chosen:
            return 0
        sleep_store.lock(connection, chosen)
        still = {
            row["id"] for row in sleep_store.resting(connection, chosen) if row["idle_since"] is not None
        }
        asked = sleep_store.sleep(connection, sorted(still), now)
        _note(connection, asked, "node.sleep", now)
        ASKED.labels("sleep").inc(len(asked))
        return len(asked)


def _note(connection: Connection, node_ids: list[str], kind: str, now: datetime) -> None:
    event_store.emit_many(
        connection, [NewEvent(now, kind, node_id, None, None, {"by": "policy"}) for node_id in node_ids]
    )
    log.info("nodes_asked", kind=kind, nodes=len(node_ids))
