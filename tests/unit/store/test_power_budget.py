"""What budgets hold follows every change in its own transaction, and the gate never lets a claim go beyond one."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random

import pytest
import sqlalchemy as sa

from penstock.actions import device_class as device_class_actions
from penstock.actions.context import Context
from penstock.control_plane import ControlPlane
from penstock.domain.claim import Ask, Grant, Refusal
from penstock.domain.power_budget import MW_PER_WATT, watts
from penstock.store import claim as gate
from penstock.store import power_budget as power_budget_store
from penstock.store import reservation as reservation_store
from penstock.store.claim import Piece, Reservation
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from tests.support.infrastructure import add_service, change, enroll, query

IDLE_WATTS, LOAD_WATTS = 180, 1_200  # a GB200; idle is the assumed 15 %
DRAW_WATTS = LOAD_WATTS - IDLE_WATTS
SERVICES = [f"svc_{number}" for number in range(8)]


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    device_class_actions.seed(control_plane.context)
    enroll(control_plane.context)
    for service_id in SERVICES:
        add_service(control_plane.context, service_id)
    return control_plane.context


def subjects(context: Context) -> dict[str, str]:
    """Return one subject a level, all above the first device."""
    (row,) = query(
        context,
        "SELECT d.id AS device, n.id AS node, n.rack_id AS rack, n.site_id AS site FROM device d "
        "JOIN node n ON n.id = d.node_id ORDER BY d.unit_base LIMIT 1",
    )
    change(context, "UPDATE rack SET row_name = 'a'")
    return {**row, "row": f"{row['site']}/a"}


def budget(context: Context, level: str, subject_id: str, limit_watts: int) -> str:
    """Set one."""
    (site,) = query(context, "SELECT id FROM site")
    values = {"level": level, "subject_id": subject_id, "name": level, "limit_watts": limit_watts}
    with context.db.transaction(SYSTEM) as connection:
        return power_budget_store.put(
            connection,
            {**values, "id": context.new_id("power_budget"), "site_id": site["id"]},
            context.clock.now(),
        )


def held(context: Context) -> dict[str, int]:
    """Return what each budget holds, in milliwatts; counting anew must find the same."""
    rows = query(context, "SELECT level || ' ' || subject_id AS key, held_mw FROM power_budget ORDER BY id")
    with context.db.transaction(SYSTEM) as connection:
        power_budget_store.count_alone(connection)
        power_budget_store.recount(connection)
    again = query(context, "SELECT level || ' ' || subject_id AS key, held_mw FROM power_budget ORDER BY id")
    assert rows == again, "counted as it changed, and counted anew"
    return {row["key"]: row["held_mw"] for row in rows}


def devices(context: Context) -> list[Row]:
    return query(context, "SELECT * FROM device ORDER BY unit_base")


def whole(device: Row) -> Grant:
    return Grant(device["node_id"], device["id"], (1 << device["slices"]) - 1, 0, 0)


def reserve(
    context: Context, service_id: str, grants: Sequence[Grant], ask: Ask | None = None
) -> Refusal | None:
    (row,) = query(context, "SELECT * FROM service WHERE id = :id", id=service_id)
    ask = ask or Ask(len(grants))

    def draft(nodes: object, found: object) -> list[Piece]:
        del nodes, found
        return [Piece(context.new_id("allocation"), g.node_id, "simulated", {}, ((ask, g),)) for g in grants]

    def work(connection: sa.Connection) -> gate.Reserved:
        plan = Reservation(row, ((ask, tuple(grants)),), draft)
        return gate.reserve(connection, [plan], context.clock.now(), context.new_id)

    return context.db.retrying(SYSTEM, work).refused.get(service_id)


def give_back(context: Context, service_id: str) -> None:
    context.db.retrying(SYSTEM, lambda c: gate.unreserve(c, [service_id], context.clock.now()))


def test_every_level_holds_its_own_part(context: Context) -> None:
    at = subjects(context)
    for level, subject in at.items():
        budget(context, level, subject, 1_000_000)
    first, *_ = devices(context)
    idle = {key.split()[0]: value for key, value in held(context).items()}
    node = 735_840 + 4 * IDLE_WATTS * MW_PER_WATT
    assert idle == {
        "device": IDLE_WATTS * MW_PER_WATT,
        "node": node,
        "rack": 2 * node,
        "row": 2 * node,
        "site": 2 * node,
    }
    assert reserve(context, "svc_0", [whole(first)]) is None
    busy = {key.split()[0]: value for key, value in held(context).items()}
    assert {level: busy[level] - idle[level] for level in idle} == dict.fromkeys(
        idle, DRAW_WATTS * MW_PER_WATT
    )
    give_back(context, "svc_0")
    assert {key.split()[0]: value for key, value in held(context).items()} == idle


@pytest.mark.parametrize("level", ["device", "node", "rack", "row", "site"])
def test_the_gate_refuses_what_would_go_beyond_a_budget_of_any_level(context: Context, level: str) -> None:
    at = subjects(context)
    budget_id = budget(context, level, at[level], 0)
    (row,) = query(context, "SELECT held_mw FROM power_budget")
    budget(context, level, at[level], watts(row["held_mw"]) + DRAW_WATTS)  # one more and no second
    first, second, *_ = devices(context)
    if level == "device":
        assert reserve(context, "svc_0", [whole(first)]) is None
        assert budget(context, level, at[level], LOAD_WATTS - 1) == budget_id
        give_back(context, "svc_0")
        assert reserve(context, "svc_1", [whole(first)]) is Refusal.POWER_BUDGET
        return
    assert reserve(context, "svc_0", [whole(first), whole(second)]) is Refusal.POWER_BUDGET
    assert reserve(context, "svc_0", [whole(first)]) is None
    assert reserve(context, "svc_1", [whole(second)]) is Refusal.POWER_BUDGET
    assert query(context, "SELECT id FROM claim WHERE service_id = 'svc_1'") == []
    held(context)


def test_of_many_claimants_at_once_only_those_that_fit_the_budget_come_through(context: Context) -> None:
    at = subjects(context)
    budget(context, "site", at["site"], 0)
    (row,) = query(context, "SELECT held_mw FROM power_budget")
    limit_watts = watts(row["held_mw"]) + 3 * DRAW_WATTS
    budget(context, "site", at["site"], limit_watts)
    found = devices(context)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: reserve(context, SERVICES[n], [whole(found[n])]), range(8)))
    assert sorted(map(str, answers)) == ["None"] * 3 + ["power_budget"] * 5
    assert held(context)[f"site {at['site']}"] <= limit_watts * MW_PER_WATT


def test_a_budget_set_while_claims_are_made_counts_all_of_them(context: Context) -> None:
    at, found = subjects(context), devices(context)
    with ThreadPoolExecutor(5) as pool:
        claims = [pool.submit(reserve, context, SERVICES[n], [whole(found[n])]) for n in range(4)]
        sets = [
            pool.submit(budget, context, level, at[level], 1_000_000) for level in ("rack", "node", "site")
        ]
        for one in [*claims, *sets]:
            one.result()
    assert len(held(context)) == 3


def test_random_changes_keep_what_is_held_exact_and_below_the_limits(context: Context) -> None:
    source, at = Random(7), subjects(context)  # noqa: S311 - a test that repeats
    limits = {
        f"{level} {at[level]}": limit
        for level, limit in (("site", 7_000), ("rack", 6_500), ("node", 4_000), ("device", 1_200))
    }
    for key, limit in limits.items():
        budget(context, *key.split(), limit)
    running: set[str] = set()
    refused = 0
    for _ in range(60):
        service_id = source.choice(SERVICES)
        if service_id in running:
            give_back(context, service_id)
            running.discard(service_id)
        else:
            free = [one for one in devices(context) if one["used_mask"] == 0]
            chosen = source.sample(free, min(len(free), source.randint(1, 3)))
            if chosen and reserve(context, service_id, [whole(one) for one in chosen]) is None:
                running.add(service_id)
            else:
                refused += 1
        for key, value in held(context).items():
            assert value <= limits[key] * MW_PER_WATT
    assert refused > 3, "the limits were met"


def test_nodes_that_come_move_and_go_are_counted(context: Context) -> None:
    at = subjects(context)
    budget(context, "site", at["site"], 100_000)
    budget(context, "rack", at["rack"], 100_000)
    before = held(context)
    enroll(context, ["n3"])
    assert held(context)[f"rack {at['rack']}"] == before[f"rack {at['rack']}"] * 3 // 2
    change(context, "UPDATE node SET rack_id = NULL WHERE name = 'n3'")
    assert held(context)[f"rack {at['rack']}"] == before[f"rack {at['rack']}"]
    change(context, "UPDATE node SET power_held = false WHERE name = 'n3'")
    assert held(context) == before
    change(context, "UPDATE node SET state = 'retired' WHERE name <> 'n3'")
    assert set(held(context).values()) == {0}


def test_a_booking_keeps_its_power_and_maintenance_keeps_none(context: Context) -> None:
    at, now = subjects(context), context.clock.now()
    budget(context, "site", at["site"], 0)
    (row,) = query(context, "SELECT held_mw FROM power_budget")
    idle_mw = row["held_mw"]
    budget(context, "site", at["site"], watts(idle_mw) + DRAW_WATTS)
    first, second, third, *_ = devices(context)
    ask = Ask(1, starts_at=now + timedelta(hours=1), ends_at=now + timedelta(hours=2))

    def book(device: Row, number: int) -> Refusal | None:
        booked = _booked(context, f"rsv_{number}")
        with context.db.transaction(SYSTEM) as connection:
            return reservation_store.book(connection, booked, ask, [whole(device)], now, context.new_id)

    assert book(first, 1) is None
    assert book(second, 2) is Refusal.POWER_BUDGET
    assert reserve(context, "svc_0", [whole(second)]) is Refusal.POWER_BUDGET
    with context.db.transaction(SYSTEM) as connection:
        reservation_store.hold_for_maintenance(
            connection, _booked(context, "rsv_3"), [whole(third)], now, context.new_id
        )
    assert held(context)[f"site {at['site']}"] == idle_mw + DRAW_WATTS * MW_PER_WATT
    with context.db.transaction(SYSTEM) as connection:
        reservation_store.unbook(connection, "rsv_1", now)
    assert held(context)[f"site {at['site']}"] == idle_mw


def _booked(context: Context, reservation_id: str) -> Row:
    """Insert a reservation; return its row."""
    now = context.clock.now()
    change(
        context,
        "INSERT INTO reservation (id, tenant_id, project_id, name, purpose, state, start_at, end_at, spec, holds, "
        "device_count, simulated, created_by, created_at) VALUES (:id, 'ten_1', 'prj_1', :id, 'reserved', 'booked', "
        ":start, :end, '{}', '{}', 1, true, 'usr_1', :start)",
        id=reservation_id,
        start=now + timedelta(hours=1),
        end=now + timedelta(hours=2),
    )
    (row,) = query(context, "SELECT * FROM reservation WHERE id = :id", id=reservation_id)
    return row
