"""Bookings over the public API, and a simulated factory whose calendar the test turns too."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.store.database import SYSTEM
from tests.support.simulated_factory import SimulatedFactory

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class Calendar:
    """The tenant's client, and time that moves with everything the factory does by itself."""

    def __init__(self, tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock) -> None:
        self.tenant, self.simulated, self.clock = tenant, simulated, clock
        self.start = clock.now()

    def at(self, offset: timedelta) -> str:
        """Return the instant so long after the test began, as JSON has it."""
        return (self.start + offset).isoformat()

    def move_to(self, offset: timedelta, rounds: int = 3) -> None:
        """Move the clock to so long after the test began, then let the factory act."""
        self.clock.advance(self.start + offset - self.clock.now())
        self.turn(rounds)

    def turn(self, rounds: int = 3) -> None:
        """Let the calendar's engine and everything else act."""
        for _ in range(rounds):
            while self.simulated.plane.reservations.tick():
                pass
            self.simulated.turn(2)
            self.clock.advance(timedelta(seconds=3))

    def body(self, **more: Any) -> dict[str, Any]:
        """Return the body of an order or booking of the demonstration project."""
        return {"offer": "gpu", "project": self.simulated.keys.demo_project_id, **more}

    def book(self, count: int, start: timedelta, length: timedelta = HOUR, **more: Any) -> dict[str, Any]:
        """Book H100s; return the reservation."""
        answer = self.try_book(count, start, length, **more)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def try_book(self, count: int, start: timedelta, length: timedelta = HOUR, **more: Any) -> Any:
        """Ask for a booking; return the response."""
        spec = {"count": count, "device_class": "H100", **more.pop("spec", {})}
        params = more.pop("params", None)
        body = self.body(spec=spec, start_at=self.at(start), duration_s=int(length.total_seconds()), **more)
        return self.tenant.post("/v1/reservations", json=body, params=params)

    def order(self, count: int, **more: Any) -> str:
        """Order H100s; return the service's id."""
        spec = {"count": count, "device_class": "H100", **more.pop("spec", {})}
        answer = self.tenant.post("/v1/services", json=self.body(spec=spec, **more))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def plan(self, count: int, **more: Any) -> dict[str, Any]:
        """Return the dry run of an order."""
        spec = {"count": count, "device_class": "H100", **more.pop("spec", {})}
        answer = self.tenant.post(
            "/v1/services", params={"dry_run": "true"}, json=self.body(spec=spec, **more)
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def service(self, service_id: str) -> tuple[str, str]:
        """Return state and reason of a service."""
        found = self.tenant.get(f"/v1/services/{service_id}").json()
        return found["state"], found["reason"]

    def reservation(self, reservation_id: str) -> dict[str, Any]:
        """Return a reservation."""
        return dict(self.tenant.get(f"/v1/reservations/{reservation_id}").json())

    def ledger(self) -> dict[tuple[str, str | None], int]:
        """Return how many devices are in each state and cause now."""
        query = "SELECT state, cause, count(*) AS devices FROM segment WHERE end_at IS NULL GROUP BY 1, 2"
        with self.simulated.plane.db.transaction(SYSTEM) as connection:
            rows = connection.execute(sa.text(query))
            return {(row.state, row.cause): row.devices for row in rows}

    def masks(self) -> list[tuple[int, int]]:
        """Return what is used and booked of each device."""
        with self.simulated.plane.db.transaction(SYSTEM) as connection:
            rows = connection.execute(sa.text("SELECT used_mask, booked_mask FROM device ORDER BY id"))
            return [(row.used_mask, row.booked_mask) for row in rows]


def instant(text: str) -> datetime:
    """Return an instant of the API."""
    return datetime.fromisoformat(text)
