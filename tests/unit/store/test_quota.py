"""Quotas on a real PostgreSQL: never exceeded by one, counted right whatever comes first, cheap when unset."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.control_plane import ControlPlane
from penstock.domain.quota import Breach
from penstock.store import quota as quota_store
from penstock.store.database import SYSTEM, tenant_scope
from penstock.store.schema import (
    offer,
    price,
    price_book,
    project,
    quota,
    quota_use,
    service,
    tenant,
    token_usage,
)

TENANT, OTHER = "ten_a", "ten_b"
P1, P2, PB = "prj_1", "prj_2", "prj_b"


@pytest.fixture
def plane(control_plane: ControlPlane) -> ControlPlane:
    at = control_plane.clock.now()
    with control_plane.db.transaction(SYSTEM) as connection:
        for tenant_id in (TENANT, OTHER):
            connection.execute(
                sa.insert(tenant).values(id=tenant_id, name=tenant_id, state="active", created_at=at)
            )
        for project_id, tenant_id in ((P1, TENANT), (P2, TENANT), (PB, OTHER)):
            connection.execute(
                sa.insert(project).values(
                    id=project_id, tenant_id=tenant_id, name=project_id, state="active", created_at=at
                )
            )
        connection.execute(
            sa.insert(price_book).values(id="pbk_1", version=1, note="", created_by="t", created_at=at)
        )
        connection.execute(
            sa.insert(offer).values(
                id="off_1",
                name="o",
                kind="gpu",
                title="",
                description="",
                form={},
                fixed={},
                state="active",
                created_at=at,
            )
        )
    return control_plane


def insert_service(
    connection: Connection,
    plane: ControlPlane,
    project_id: str,
    holds: dict[str, int],
    state: str = "queued",
) -> str:
    service_id = plane.context.new_id("service")
    at = plane.clock.now()
    connection.execute(
        sa.insert(service).values(
            id=service_id,
            tenant_id=OTHER if project_id == PB else TENANT,
            project_id=project_id,
            offer_id="off_1",
            kind="gpu",
            name=service_id,
            spec={},
            holds=holds,
            ordered_by="t",
            price_book_id="pbk_1",
            wanted="running",
            state=state,
            ordered_at=at,
            queued_at=at,
            request_sha256="",
        )
    )
    return service_id


def set_limit(plane: ControlPlane, dimension: str, limit: int, project_id: str | None = None) -> str:
    with plane.db.transaction(SYSTEM) as connection:
        return quota_store.put(
            connection,
            quota_id=plane.context.new_id("quota"),
            tenant_id=TENANT,
            project_id=project_id,
            dimension=dimension,
            limit=limit,
            at=plane.clock.now(),
        )


def order(plane: ControlPlane, project_id: str, holds: dict[str, int]) -> Breach | None:
    with plane.db.transaction(tenant_scope(TENANT)) as connection:
        breach = quota_store.check_and_take(connection, TENANT, project_id, holds, plane.clock.now())
        if breach is None:
            insert_service(connection, plane, project_id, holds)
    return breach


def release(plane: ControlPlane, project_id: str, holds: dict[str, int]) -> None:
    with plane.db.transaction(SYSTEM) as connection:
        found = connection.execute(
            sa.select(service.c.id)
            .where(service.c.project_id == project_id, service.c.state == "queued")
            .limit(1)
            .with_for_update(skip_locked=True)
        ).scalar_one()
        connection.execute(sa.update(service).where(service.c.id == found).values(state="released"))
        quota_store.give_back_many(connection, [(TENANT, project_id, holds)])


def used(plane: ControlPlane) -> dict[tuple[str, str], int]:
    with plane.db.transaction(SYSTEM) as connection:
        rows = connection.execute(sa.select(quota_use)).all()
    return {(row.project_id, row.dimension): row.used for row in rows}


def in_parallel(work: Callable[[int], object], count: int) -> list[object]:
    barrier = threading.Barrier(min(count, 16))

    def start(number: int) -> object:
        if number < barrier.parties:
            barrier.wait(timeout=20)
        return work(number)

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(start, range(count)))


def test_64_concurrent_orders_never_exceed_a_quota_by_one(plane: ControlPlane) -> None:
    set_limit(plane, "devices", 40)
    set_limit(plane, "devices:GB200", 30)
    set_limit(plane, "devices", 21, P2)

    def one_order(number: int) -> Breach | None:
        return order(plane, (P1, P2)[number % 2], {"devices": 1, "devices:GB200": 1, "services": 1})

    breaches = in_parallel(one_order, 64)
    assert sum(breach is None for breach in breaches) == 30
    assert used(plane)["", "devices:GB200"] == 30
    assert used(plane)["", "devices"] == 30
    assert used(plane)[P2, "devices"] <= 21


def test_orders_and_releases_at_once_neither_deadlock_nor_lose_a_count(plane: ControlPlane) -> None:
    for dimension in ("devices", "services", "devices:GB200"):
        set_limit(plane, dimension, 1_000)
        set_limit(plane, dimension, 1_000, P1)
        set_limit(plane, dimension, 1_000, P2)
    # The dimensions come in opposite orders: only the store's own order of locks prevents a deadlock.
    forth = {"devices": 2, "services": 1, "devices:GB200": 2}
    back = dict(reversed(list(forth.items())))
    for project_id in (P1, P2):
        for _ in range(16):
            assert order(plane, project_id, forth) is None

    def work(number: int) -> None:
        project_id = (P1, P2)[(number >> 1) % 2]
        if number % 2:
            release(plane, project_id, back)
        else:
            assert order(plane, project_id, forth if number % 4 else back) is None

    in_parallel(work, 64)
    expected = {}
    for owner, services in (("", 32), (P1, 16), (P2, 16)):
        expected |= {
            (owner, "devices"): 2 * services,
            (owner, "services"): services,
            (owner, "devices:GB200"): 2 * services,
        }
    assert used(plane) == expected


def test_a_limit_set_while_orders_run_counts_every_one_of_them(plane: ControlPlane) -> None:
    holds = {"services": 1}

    def work(number: int) -> None:
        if number == 20:
            set_limit(plane, "services", 1_000)
        elif number % 5 == 4:
            order(plane, P1, holds)
            release(plane, P1, holds)
        else:
            order(plane, P1, holds)

    in_parallel(work, 48)
    with plane.db.transaction(SYSTEM) as connection:
        live = connection.execute(
            sa.select(sa.func.count()).where(service.c.state == "queued").select_from(service)
        ).scalar_one()
    assert live > 0
    assert used(plane) == {("", "services"): live}


def test_a_breach_says_which_quota_and_takes_nothing(plane: ControlPlane) -> None:
    set_limit(plane, "services", 5)
    set_limit(plane, "devices", 2, P1)
    breach = order(plane, P1, {"services": 1, "devices": 3})
    assert breach is not None
    assert (breach.line.dimension, breach.line.project_id, breach.line.limit, breach.asked) == (
        "devices",
        P1,
        2,
        3,
    )
    assert set(used(plane).values()) == {0}
    assert order(plane, P2, {"services": 1, "devices": 3}) is None, "another project's limit does not count"


def test_without_a_quota_an_order_costs_two_statements_and_leaves_no_row(plane: ControlPlane) -> None:
    statements: list[str] = []
    engine = plane.db._tenants
    sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with plane.db.transaction(tenant_scope(TENANT)) as connection:
        statements.clear()
        assert quota_store.check_and_take(connection, TENANT, P1, {"services": 1}, plane.clock.now()) is None
        assert len(statements) == 2
    assert used(plane) == {}


def test_the_limit_of_another_tenant_does_not_count(plane: ControlPlane) -> None:
    set_limit(plane, "services", 0)
    with plane.db.transaction(SYSTEM) as connection:
        now = plane.clock.now()
        assert quota_store.check_and_take(connection, OTHER, PB, {"services": 1}, now) is None
        assert quota_store.check_and_take(connection, TENANT, P1, {"services": 1}, now) is not None


def test_giving_back_for_many_services_is_summed_per_owner(plane: ControlPlane) -> None:
    set_limit(plane, "services", 10)
    set_limit(plane, "services", 10, P1)
    for _ in range(3):
        assert order(plane, P1, {"services": 1, "devices": 4}) is None
    with plane.db.transaction(SYSTEM) as connection:
        quota_store.give_back_many(connection, [])
        quota_store.give_back_many(
            connection,
            [
                (TENANT, P1, {"services": 1, "devices": 4}),
                (TENANT, P1, {"services": 1}),
                (OTHER, PB, {"services": 1}),
            ],
        )
    assert used(plane) == {("", "services"): 1, (P1, "services"): 1}


def test_removing_a_limit_removes_its_count_and_setting_it_again_counts_anew(plane: ControlPlane) -> None:
    first = set_limit(plane, "devices", 10)
    assert order(plane, P1, {"devices": 3}) is None
    assert set_limit(plane, "devices", 12) == first
    with plane.db.transaction(SYSTEM) as connection:
        row = quota_store.get(connection, first, plane.clock.now())
        assert row is not None
        assert (row["limit_amount"], row["used"]) == (12, 3)
        quota_store.remove(connection, row)
        assert connection.execute(sa.select(quota)).all() == []
    assert order(plane, P1, {"devices": 3}) is None
    set_limit(plane, "devices", 10)
    assert used(plane) == {("", "devices"): 6}


def test_monthly_tokens_and_money_are_summed_since_the_first_of_the_month(plane: ControlPlane) -> None:
    now = plane.clock.now()  # the first of November, noon
    with plane.db.transaction(SYSTEM) as connection:
        for meter, item, amount in (
            ("input_tokens", "tiny", 3_000_000),
            ("output_tokens", "*", 7_000_000),
            ("output_tokens", "other", 9),
        ):
            connection.execute(
                sa.insert(price).values(
                    price_book_id="pbk_1", meter=meter, item=item, microeur_per_unit=amount
                )
            )
        for number, (ended_at, project_id) in enumerate(
            [(now, P1), (now - timedelta(hours=12), P2), (now - timedelta(hours=12, microseconds=1), P1)]
        ):
            connection.execute(
                sa.insert(token_usage).values(
                    id=f"use_{number}",
                    tenant_id=TENANT,
                    project_id=project_id,
                    principal_id="p",
                    service_id="svc",
                    key_id="key",
                    allocation_id="a",
                    endpoint="e",
                    model="tiny",
                    price_book_id="pbk_1",
                    prompt_tokens=100,
                    completion_tokens=11,
                    ending="stop",
                    streamed=True,
                    estimated=False,
                    started_at=ended_at,
                    ended_at=ended_at,
                    received_at=ended_at,
                )
            )
    set_limit(plane, "tokens_per_month", 223)
    set_limit(plane, "microeur_per_month", 377, P1)
    with plane.db.transaction(tenant_scope(TENANT)) as connection:
        lines = quota_store.lines_for_order(connection, TENANT, P1, ["services"], now)
    assert [(line.dimension, line.used) for line in lines] == [
        ("tokens_per_month", 222),
        ("microeur_per_month", 100 * 3 + 11 * 7),
    ]
    breach = order(plane, P1, {"services": 1})
    assert breach is not None
    assert breach.line.dimension == "microeur_per_month"
    assert order(plane, P2, {"services": 1}) is None, "one token is left"
