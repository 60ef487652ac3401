"""Which nodes may sleep now, by the operator's policy: read for those who list, accept or do it."""

from datetime import datetime

from sqlalchemy.engine import Connection

from penstock.domain.policy import Policy, Sleeping
from penstock.scheduler.packing.sleep import Rest, Sleep, SleepRules
from penstock.store import sleep as sleep_store
from penstock.store.rows import Row


def proposals(connection: Connection, policy: Policy, now: datetime) -> list[Row]:
    """Return the nodes that may be powered down now, the longest idle first; none if the policy is never."""
    if policy.sleep is Sleeping.NEVER:
        return []
    rows = sleep_store.resting(connection)
    rests = [
        Rest(
            kind=row["kind"],
            idle_since_s=None if row["idle_since"] is None else row["idle_since"].timestamp(),
            ready_at_s=row["up_since"].timestamp(),
            off=row["power_wanted"] == "off" or row["power_state"] != "on",
        )
        for row in rows
    ]
    rules = SleepRules(policy.sleep_idle_s, policy.sleep_up_s, policy.wake_s, policy.sleep_ready)
    chosen = Sleep.resume(rests, rules).proposals(now.timestamp())
    return [
        {**rows[number], "idle_s": int((now - rows[number]["idle_since"]).total_seconds())}
        for number in chosen
    ]
