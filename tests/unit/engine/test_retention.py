"""What is kept for a time goes after it and not before; the books and the last 30 days of the trail stay."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from sqlalchemy.exc import ProgrammingError

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.engine.retention import RetentionEngine
from penstock.store import audit as audit_store
from penstock.store import join_token as join_token_store
from penstock.store.database import SYSTEM
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory

SECOND = timedelta(seconds=1)


def count(plane: ControlPlane, table: str) -> int:
    (row,) = query(plane.context, f"SELECT count(*) AS total FROM {table}")  # noqa: S608 - names in this file
    return int(row["total"])


def order(tenant: TestClient, simulated: SimulatedFactory) -> str:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": 1}}
    answer = tenant.post("/v1/services", json=body)
    assert answer.status_code == 202, answer.text
    simulated.turn(3)
    return str(answer.json()["id"])


def drain(engine: RetentionEngine) -> int:
    total = 0
    while removed := engine.tick():
        total += removed
    return total


def test_events_and_audit_go_after_400_days_oldest_first_and_the_ledger_stays(
    control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    order(tenant, simulated)
    segments, usage = count(control_plane, "segment"), count(control_plane, "claim")
    old_events, old_audit = count(control_plane, "event"), count(control_plane, "audit")
    assert old_events > 3
    assert old_audit > 0
    engine = RetentionEngine(control_plane.db, clock, batch=2)
    clock.advance(limits.EVENT_KEPT - SECOND)
    order(tenant, simulated)
    new_events = count(control_plane, "event") - old_events
    new_audit = count(control_plane, "audit") - old_audit
    assert drain(engine) == 0
    clock.advance(2 * SECOND)
    assert 0 < engine.tick() <= 4  # two events and two rows of the trail at most
    drain(engine)
    assert count(control_plane, "event") == new_events
    assert count(control_plane, "audit") == new_audit
    assert count(control_plane, "segment") >= segments
    assert count(control_plane, "claim") == usage + 1


def test_decisions_go_90_days_after_the_end_of_their_service_and_no_sooner(
    control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    lives, ends = order(tenant, simulated), order(tenant, simulated)
    clock.advance(limits.DECISION_KEPT * 2)
    engine = RetentionEngine(
        control_plane.db, clock, batch=1
    )  # windows of one: the living one stands in the way
    assert drain(engine) == 0
    assert tenant.delete(f"/v1/services/{ends}").status_code == 202
    simulated.turn(3)
    clock.advance(limits.DECISION_KEPT - SECOND)
    assert drain(engine) == 0
    clock.advance(2 * SECOND)
    drain(engine)
    left = {row["service_id"] for row in query(control_plane.context, "SELECT service_id FROM decision")}
    assert left == {lives}


def test_ended_sessions_and_unused_tokens_go_and_living_keys_stay(
    control_plane: ControlPlane, tenant: TestClient, clock: ManualClock
) -> None:
    assert tenant.get("/v1/whoami").status_code == 200  # somebody has a key
    now = clock.now()
    with control_plane.db.transaction(SYSTEM) as connection:
        join_token_store.insert(
            connection, token_id="jtk_old", secret_sha256="x", created_by="prn_x", at=now, expires_at=now
        )
        connection.execute(
            sa.text(
                "INSERT INTO api_key (id, principal_id, tenant_id, name, prefix, secret_sha256, scopes, session, "
                "created_at, expires_at) SELECT 'key_ended', principal_id, tenant_id, 'session', 'psk_x', 'x', scopes, "
                "true, :at, :at FROM api_key LIMIT 1"
            ),
            {"at": now},
        )
    keys = count(control_plane, "api_key")
    engine = RetentionEngine(control_plane.db, clock)
    clock.advance(limits.SESSION_KEPT - SECOND)
    assert drain(engine) == 0
    clock.advance(2 * SECOND)
    assert drain(engine) == 1
    assert count(control_plane, "api_key") == keys - 1
    clock.advance(limits.JOIN_TOKEN_KEPT)
    assert drain(engine) == 1
    assert count(control_plane, "join_token") == 0


@pytest.mark.parametrize(
    "statement", ["DELETE FROM audit", "DELETE FROM event", "UPDATE audit SET action = 'x'"]
)
def test_the_application_still_cannot_touch_the_trail(control_plane: ControlPlane, statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        control_plane.db.transaction(SYSTEM) as c,
    ):
        c.execute(sa.text(statement))


def test_the_database_keeps_the_last_30_days_and_every_other_table(
    control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    order(tenant, simulated)
    before = count(control_plane, "audit")
    asked: list[Any] = [clock.now(), clock.now() - timedelta(days=29)]
    for moment in asked:
        with pytest.raises(ProgrammingError, match="last 30 days"), control_plane.db.transaction(SYSTEM) as c:
            audit_store.remove_old(c, moment, 10)
    with (
        pytest.raises(ProgrammingError, match="not removed by age"),
        control_plane.db.transaction(SYSTEM) as c,
    ):
        c.execute(sa.text("SELECT remove_old_records('segment', now() - interval '10 years', 10)"))
    assert count(control_plane, "audit") == before
