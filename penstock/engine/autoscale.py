"""The autoscaler: how many replicas each elastic endpoint should have, from what gateways say; takes no input.

It decides only. The service engine makes it so (``engine/replica.py``), because a number that is wanted and a
number that is are two fields. What nobody speaks of any more costs nothing: only rows that are due are read.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.domain.autoscale import WHY_SENTENCES, Load, Memory, Policy, Scaling, replicas_wanted, scale
from penstock.domain.service import TERMINAL, ServiceState
from penstock.store import autoscale as autoscale_store
from penstock.store import event as event_store
from penstock.store.database import SYSTEM, Database
from penstock.store.event import NewEvent
from penstock.store.rows import Row
from penstock.store.wakeups import Wakeups

STEPS = Counter(
    "penstock_autoscale_steps_total", "Changes of the number of replicas.", ("direction", "reason")
)


class Autoscaler:
    """Decides for every endpoint that is due."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups

    def tick(self) -> int:
        """Look at one batch of due endpoints; return how many."""
        looked, steps = self._db.retrying(SYSTEM, self._look)
        if steps:
            self._wakeups.signal("service")
            self._wakeups.signal("event")
        return looked

    def _look(self, connection: Connection) -> tuple[int, int]:
        now = self._clock.now()
        alive = now - limits.GATEWAY_SILENT_AFTER
        rows = autoscale_store.due(connection, now, limits.ENGINE_BATCH, alive)
        if not rows:
            return 0, 0
        autoscale_store.forget_gateways(connection, now - limits.GATEWAY_FORGOTTEN_AFTER)
        over = [row["id"] for row in rows if row["state"] in TERMINAL]
        autoscale_store.forget(connection, over)
        judged = [(row, _judge(row, now)) for row in rows if row["id"] not in over]
        remembered: list[dict[str, Any]] = []
        wanted: dict[str, int] = {}
        events: list[NewEvent] = []
        for row, found in judged:
            step = None
            if found is not None and found.replicas != replicas_wanted(row):
                step = _step(row, found)
                wanted[row["id"]] = found.replicas
                events.append(
                    NewEvent(now, "service.scaled", row["id"], row["tenant_id"], row["project_id"], step)
                )
                up = found.replicas > replicas_wanted(row)
                STEPS.labels("up" if up else "down", found.why).inc()
            remembered.append(_memory(row, found, step, now))
        autoscale_store.remember(connection, remembered)
        autoscale_store.want(connection, wanted, now)
        event_store.emit_many(connection, events)
        return len(rows), len(wanted)


def _judge(row: Row, now: datetime) -> Scaling | None:
    """Return the decision about an endpoint; None while there is nothing to decide."""
    policy = Policy.of(row["spec"])
    leaves = row["wanted"] != "running" or row["state"] == ServiceState.RELEASING
    if policy is None or leaves or row["running_at"] is None:
        return None
    until: datetime | None = row["demanded_until"]
    load = Load(
        waiting=row["waiting"],
        in_flight=row["in_flight"],
        tokens=row["tokens"],
        ttft_us=row["ttft_us"],
        requests=row["requests"],
        demanded=until is not None and until > now,
    )
    memory = Memory(row["busy_at"], row["needed_at"], row["up_at"])
    return scale(policy, load, memory, wanted=replicas_wanted(row), ready=row["ready"], now=now)


def _step(row: Row, found: Scaling) -> dict[str, Any]:
    heard = {name: row[name] for name in ("waiting", "in_flight", "tokens", "ttft_us", "ready")}
    return {
        "name": row["name"],
        "from": replicas_wanted(row),
        "to": found.replicas,
        "reason": found.why,
        "sentence": WHY_SENTENCES[found.why],
        "heard": heard,
    }


def _memory(row: Row, found: Scaling | None, step: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    """Return what is remembered of an endpoint after a look; one on its way out is looked at until it is gone."""
    if found is None:
        leaves = row["wanted"] != "running"
        memory = Memory(row["busy_at"], row["needed_at"], row["up_at"])
        due = now + limits.RETRY_MAX if leaves else None
    else:
        memory, due = found.memory, found.due_at
    return {
        "service_id": row["id"],
        "busy_at": memory.busy_at,
        "needed_at": memory.needed_at,
        "up_at": memory.up_at,
        "due_at": due,
        "step": step,
        "stepped_at": now if step is not None else None,
    }
