"""The gate: what fits is given once, what no longer fits is refused whole, and every step may be done twice."""

from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.actions.context import Context
from penstock.control_plane import ControlPlane
from penstock.domain.claim import Ask, Grant, Refusal
from penstock.domain.segment import SegmentState
from penstock.store import allocation as allocation_store
from penstock.store import claim as gate
from penstock.store.claim import Piece, Reservation, Reserved, mask_range
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from tests.support.infrastructure import add_service, change, enroll, query

WHOLE = Ask(1)


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    enroll(control_plane.context)
    for service_id in ("svc_1", "svc_2"):
        add_service(control_plane.context, service_id)
    return control_plane.context


def devices(context: Context) -> list[Row]:
    return query(context, "SELECT * FROM device ORDER BY unit_base")


def whole(device: Row) -> Grant:
    return Grant(device["node_id"], device["id"], (1 << device["slices"]) - 1, 0, 0)


def reservation(context: Context, service_id: str, grants: Sequence[Grant], ask: Ask = WHOLE) -> Reservation:
    (row,) = query(context, "SELECT * FROM service WHERE id = :id", id=service_id)

    def draft(nodes: object, found: object) -> list[Piece]:
        del nodes, found
        return [Piece(context.new_id("allocation"), g.node_id, "simulated", {}, ((ask, g),)) for g in grants]

    return Reservation(row, ((ask, tuple(grants)),), draft)


def reserve(context: Context, *reservations: Reservation) -> Reserved:
    with context.db.transaction(SYSTEM) as connection:
        return gate.reserve(connection, reservations, context.clock.now(), context.new_id)


def state(context: Context) -> tuple[list[Row], ...]:
    """Return everything the gate writes."""
    return tuple(
        query(context, sql)
        for sql in (
            "SELECT id, used_mask, generation FROM device ORDER BY id",
            "SELECT id, memory_used_bytes, cpu_used_millis, generation FROM node ORDER BY id",
            "SELECT id, released_at FROM claim ORDER BY id",
            "SELECT id, wanted, generation FROM allocation ORDER BY id",
            "SELECT device_id, start_at, end_at, state, service_id FROM segment ORDER BY device_id, start_at",
        )
    )


def ledger(context: Context, device_id: str) -> set[tuple[str, str | None]]:
    rows = query(
        context,
        "SELECT state, service_id FROM segment WHERE device_id = :id AND end_at IS NULL",
        id=device_id,
    )
    return {(row["state"], row["service_id"]) for row in rows}


def test_a_reservation_takes_the_device_claims_it_and_says_so_in_the_ledger(context: Context) -> None:
    first, *_ = devices(context)
    done = reserve(context, reservation(context, "svc_1", [whole(first)]))
    assert done.refused == {}
    assert devices(context)[0]["used_mask"] == whole(first).mask
    assert ledger(context, first["id"]) == {("reserved_unused", "svc_1")}
    (asked,) = query(context, "SELECT * FROM allocation")
    assert (asked["service_id"], asked["wanted"], asked["phase"]) == ("svc_1", "present", "pending")


def test_what_is_taken_is_refused_to_the_next_also_within_one_batch(context: Context) -> None:
    first, *_ = devices(context)
    batch = [reservation(context, name, [whole(first)]) for name in ("svc_1", "svc_2")]
    done = reserve(context, *batch)
    assert set(done.pieces) == {"svc_1"}
    assert done.refused == {"svc_2": Refusal.DEVICE_USED}
    before = state(context)
    assert reserve(context, batch[1]).refused == {"svc_2": Refusal.DEVICE_USED}
    assert state(context) == before


def test_all_or_none_one_grant_that_does_not_fit_takes_nothing(context: Context) -> None:
    first, second, *_ = devices(context)
    reserve(context, reservation(context, "svc_1", [whole(second)]))
    before = state(context)
    done = reserve(context, reservation(context, "svc_2", [whole(first), whole(second)], Ask(2)))
    assert done.refused == {"svc_2": Refusal.DEVICE_USED}
    assert state(context) == before


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("UPDATE node SET cordoned = true", Refusal.NODE_NOT_SCHEDULABLE),
        ("UPDATE node SET state = 'unreachable'", Refusal.NODE_NOT_SCHEDULABLE),
        ("UPDATE node SET drivers = '{}'", Refusal.DRIVER_MISSING),
        ("UPDATE device SET health = 'failed'", Refusal.DEVICE_UNHEALTHY),
    ],
)
def test_a_plan_overtaken_by_events_is_refused(context: Context, sql: str, refusal: Refusal) -> None:
    planned = reservation(context, "svc_1", [whole(devices(context)[0])])
    change(context, sql)
    assert reserve(context, planned).refused == {"svc_1": refusal}
    assert query(context, "SELECT id FROM claim") == []


def test_a_share_of_a_node_is_refused_when_the_memory_is_gone(context: Context) -> None:
    (node, _) = query(context, "SELECT * FROM node ORDER BY id")
    ask = Ask(0, node_memory_bytes=node["memory_bytes"], node_cpu_millis=1)
    share = Grant(node["id"], None, 0, node["memory_bytes"], 1)
    batch = [reservation(context, name, [share], ask) for name in ("svc_1", "svc_2")]
    assert reserve(context, *batch).refused == {"svc_2": Refusal.NODE_MEMORY}


def test_the_database_itself_refuses_one_slice_to_two(context: Context) -> None:
    first, *_ = devices(context)
    reserve(context, reservation(context, "svc_1", [whole(first)]))
    change(context, "UPDATE device SET used_mask = 0")  # a planner and a gate that are both wrong
    with pytest.raises(sa.exc.IntegrityError, match="ex_claim_units"):
        reserve(context, reservation(context, "svc_2", [whole(first)]))


def test_giving_back_undoes_reserving_and_twice_is_once(context: Context) -> None:
    free = state(context)
    grants = [whole(device) for device in devices(context)[:3]]
    reserve(context, reservation(context, "svc_1", grants, Ask(3)))

    def give_back(connection: Connection) -> int:
        return gate.unreserve(connection, ["svc_1"], context.clock.now())

    assert context.db.retrying(SYSTEM, give_back) == 3
    after = state(context)
    assert context.db.retrying(SYSTEM, give_back) == 0
    assert state(context) == after
    assert [row["used_mask"] for row in after[0]] == [row["used_mask"] for row in free[0]]
    assert ledger(context, grants[0].device_id or "") == {("free", None)}
    assert reserve(context, reservation(context, "svc_2", grants, Ask(3))).refused == {}


def test_what_is_given_back_on_a_lost_node_is_dark_and_not_free(context: Context) -> None:
    first, *_ = devices(context)
    reserve(context, reservation(context, "svc_1", [whole(first)]))
    change(context, "UPDATE node SET state = 'unreachable'")
    with context.db.transaction(SYSTEM) as connection:
        gate.unreserve(connection, ["svc_1"], context.clock.now())
    assert ledger(context, first["id"]) == {("dark", None)}


def test_metering_and_stopping_twice_change_nothing_more(context: Context) -> None:
    first, *_ = devices(context)
    reserve(context, reservation(context, "svc_1", [whole(first)]))
    states: list[tuple[list[Row], ...]] = []
    for _ in range(2):
        with context.db.transaction(SYSTEM) as connection:
            gate.meter(connection, {"svc_1": SegmentState.SOLD_BUSY}, context.clock.now())
            allocation_store.stop(connection, ["svc_1"])
        states.append(state(context))
    assert ledger(context, first["id"]) == {("sold_busy", "svc_1")}
    assert states[0] == states[1]
    assert [(row["wanted"], row["generation"]) for row in states[1][3]] == [("absent", 2)]


def test_an_allocation_is_forgotten_only_once_the_agent_confirmed_this_very_removal(context: Context) -> None:
    reserve(context, reservation(context, "svc_1", [whole(devices(context)[0])]))

    def left() -> int:
        with context.db.transaction(SYSTEM) as connection:
            allocation_store.forget(connection, ["svc_1"])
        return len(query(context, "SELECT id FROM allocation"))

    assert left() == 1
    change(
        context,
        "UPDATE allocation SET wanted = 'absent', generation = 2, phase = 'absent', phase_generation = 1",
    )
    assert left() == 1  # it is the answer to an earlier wish
    change(context, "UPDATE allocation SET phase_generation = 2")
    assert [left(), left()] == [0, 0]


@pytest.mark.parametrize(("mask", "expected"), [(0b1, (0, 1)), (0b1100, (2, 4)), (1 << 61, (61, 62))])
def test_a_mask_is_a_half_open_range(mask: int, expected: tuple[int, int]) -> None:
    assert mask_range(mask) == expected


def test_a_plan_that_has_lost_its_shape_is_refused_by_the_gate(context: Context) -> None:
    first, second = devices(context)[:2]
    change(context, "UPDATE device SET nvlink_domain = id")
    ask = Ask(2, same_nvlink_domain=True)
    reserved = reserve(context, reservation(context, "svc_1", [whole(first), whole(second)], ask))
    assert reserved.refused == {"svc_1": Refusal.SHAPE}
    assert not query(context, "SELECT id FROM claim")
    apart = Ask(2, domains_max=2)
    again = reserve(context, reservation(context, "svc_1", [whole(first), whole(second)], apart))
    assert not again.refused
