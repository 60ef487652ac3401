"""Leases: a due service is one engine's at a time, and a change from outside takes it away."""

from datetime import timedelta
from typing import Any

import pytest

from penstock.actions.context import Context
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.store import service as service_store
from penstock.store.database import SYSTEM
from tests.support.infrastructure import add_service, change, query

LEASE = timedelta(seconds=30)


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    for name in ("svc_1", "svc_2"):
        add_service(control_plane.context, name, state="queued")
    change(control_plane.context, "UPDATE service SET due_at = :at", at=control_plane.clock.now())
    return control_plane.context


def lease(context: Context, token: str, limit: int = 10) -> set[str]:
    with context.db.transaction(SYSTEM) as connection:
        rows = service_store.lease(connection, context.clock.now(), token, limit, LEASE)
    return {row["id"] for row in rows}


def move(context: Context, **over: Any) -> dict[str, Any]:
    due = context.clock.now() + timedelta(minutes=1)
    return {
        "id": "svc_1",
        "state": "starting",
        "reason": "none",
        "message": "m",
        "due_at": due,
        "deadline_at": due,
        "attempts": 1,
    } | over


def record(context: Context, token: str, **over: Any) -> set[str]:
    with context.db.transaction(SYSTEM) as connection:
        return service_store.record(connection, [move(context, **over)], token)


def row_of(context: Context, service_id: str = "svc_1") -> dict[str, Any]:
    (row,) = query(context, "SELECT * FROM service WHERE id = :id", id=service_id)
    return dict(row)


def test_what_one_has_leased_no_other_gets_until_the_lease_is_over(
    context: Context, clock: ManualClock
) -> None:
    assert lease(context, "a") == {"svc_1", "svc_2"}
    assert lease(context, "b") == set()
    clock.advance(LEASE - timedelta(microseconds=1))
    assert lease(context, "b") == set()
    clock.advance(timedelta(microseconds=1))
    assert lease(context, "b") == {"svc_1", "svc_2"}
    assert record(context, "a") == set()
    assert row_of(context)["state"] == "queued"
    assert record(context, "b") == {"svc_1"}


def test_two_who_look_at_the_same_moment_share_what_is_due(context: Context) -> None:
    with context.db.transaction(SYSTEM) as connection:
        first = service_store.lease(connection, context.clock.now(), "a", 1, LEASE)
        second = lease(context, "b")  # skips the row that is locked, and does not wait for it
    assert {first[0]["id"]} | second == {"svc_1", "svc_2"}
    assert len(second) == 1


def test_recording_ends_the_lease_and_keeps_what_is_not_given(context: Context) -> None:
    lease(context, "a")
    assert record(context, "a", placed_at=context.clock.now(), holds={"services": 1}) == {"svc_1"}
    before = row_of(context)
    assert before["lease_token"] is None
    assert record(context, "a") == set()
    change(context, "UPDATE service SET lease_token = 'c'")
    assert record(context, "c", state="running") == {"svc_1"}
    after = row_of(context)
    assert (after["state"], after["placed_at"], after["holds"]) == (
        "running",
        before["placed_at"],
        {"services": 1},
    )
    assert after["generation"] == before["generation"] + 1


def test_a_release_takes_the_row_from_the_engine_and_counts_once(context: Context) -> None:
    lease(context, "a")
    with context.db.transaction(SYSTEM) as connection:
        assert service_store.want_released(connection, "svc_1", context.clock.now())
        assert not service_store.want_released(connection, "svc_1", context.clock.now())
        assert service_store.lock_leased(connection, ["svc_1", "svc_2"], "a") == {"svc_2"}
    assert record(context, "a") == set()
    assert lease(context, "b") == {"svc_1"}


def test_what_has_ended_is_not_released_again(context: Context) -> None:
    change(context, "UPDATE service SET state = 'failed' WHERE id = 'svc_1'")
    with context.db.transaction(SYSTEM) as connection:
        assert not service_store.want_released(connection, "svc_1", context.clock.now())


def test_capacity_that_came_free_wakes_the_longest_waiting_and_no_leased_one(
    context: Context, clock: ManualClock
) -> None:
    now = clock.now()
    later = now + timedelta(hours=1)
    change(context, "UPDATE service SET due_at = :later", later=later)
    change(context, "UPDATE service SET queued_at = :at WHERE id = 'svc_2'", at=now - timedelta(hours=1))
    with context.db.transaction(SYSTEM) as connection:
        assert service_store.wake_queued(connection, now, 1) == 1
        assert service_store.next_due(connection) == now
    assert (row_of(context, "svc_1")["due_at"], row_of(context, "svc_2")["due_at"]) == (later, now)
    change(context, "UPDATE service SET lease_token = 'a' WHERE id = 'svc_1'")
    with context.db.transaction(SYSTEM) as connection:
        assert service_store.wake_queued(connection, now, 10) == 0


def test_the_leases_of_a_killed_engine_end_when_the_next_says_it_is_alone(context: Context) -> None:
    lease(context, "a")
    with context.db.transaction(SYSTEM) as connection:
        service_store.end_leases(connection, context.clock.now())
    assert lease(context, "b") == {"svc_1", "svc_2"}
