"""What machines cost: processors, memory and disk by the hour, from readiness to the end, on every view the same."""

from datetime import timedelta
from typing import Any

import pytest

from penstock.actions import spend as spend_actions
from penstock.actions.context import Actor
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.price import PRICED, Price
from penstock.domain.role import Binding, Role
from penstock.store import price_book as price_book_store
from penstock.store.database import SYSTEM
from tests.support.infrastructure import query
from tests.support.machine_host import Host
from tests.support.machine_objects import made, make_vm
from tests.support.tenancy import Caller, Tenant

# 2 x 20,000 + 1 x 5,000 + 10 x 100 micro-euro: two processors, 1 GiB, 10 GiB of disk.
HOURLY_MICROEUR = 46_000
OPERATOR = Actor(
    "prn_op", "op", None, None, None, (Binding(Role.OPERATOR, None, None),), ("*",), "::1", "test", "req_1"
)


@pytest.fixture
def host(control_plane: ControlPlane) -> Host:
    return Host(control_plane)


def usage(tenant: Tenant) -> dict[str, Any]:
    return made(tenant.admin.get("/v1/usage"))


def by_meter(tenant: Tenant) -> dict[str, tuple[int, int]]:
    return {row["meter"]: (row["quantity"], row["amount_microeur"]) for row in usage(tenant)["items"]}


def tick(plane: ControlPlane, clock: ManualClock, **time: int) -> None:
    """Let time pass, then let the engine look."""
    clock.advance(timedelta(**time))
    plane.vms.meter()


def test_it_costs_from_readiness_to_its_end_stopped_or_not(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, host: Host
) -> None:
    vm_id = make_vm(control_plane, acme, "web-1", vcpus=2, memory_mib=1_024)
    path = f"/v1/vms/{vm_id}"
    tick(control_plane, clock, hours=5)
    assert by_meter(acme) == {}, "nothing is charged before it runs"
    host.say()
    tick(control_plane, clock, seconds=0)
    tick(control_plane, clock, hours=1)
    hour = 3_600_000_000
    assert by_meter(acme) == {
        "vcpu_hours": (2 * hour, 40_000),
        "memory_gib_hours": (1_024 * hour, 5_000),
        "disk_gib_hours": (10 * hour, 1_000),
    }
    made(acme.member.post(f"{path}/power", action="stop"))
    host.say("off")
    tick(control_plane, clock, hours=1)
    assert usage(acme)["total_microeur"] == 2 * HOURLY_MICROEUR
    made(acme.member.delete(path))
    control_plane.services.tick()
    host.say()
    clock.advance(timedelta(hours=7))  # whoever looks late charges no later
    tick(control_plane, clock, hours=7)
    assert usage(acme)["total_microeur"] == 2 * HOURLY_MICROEUR


def test_a_new_shape_is_a_new_price_and_all_adds_up(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, host: Host
) -> None:
    path = f"/v1/vms/{make_vm(control_plane, acme, 'web-1', vcpus=1, memory_mib=1_024)}"
    host.say()
    tick(control_plane, clock, seconds=0)
    tick(control_plane, clock, hours=1)
    made(acme.member.post(f"{path}/shape", vcpus=3))
    tick(control_plane, clock, seconds=0)
    tick(control_plane, clock, hours=2)
    assert by_meter(acme)["vcpu_hours"] == ((1 + 6) * 3_600_000_000, 140_000)
    shapes = query(control_plane.context, "SELECT vcpus, end_at FROM vm_time ORDER BY start_at")
    assert [(row["vcpus"], row["end_at"] is None) for row in shapes] == [(1, False), (3, True)]
    assert control_plane.vms.meter() == 0, "nothing changed"


def test_invoice_quota_and_view_say_the_same(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, operator: Caller, host: Host
) -> None:
    make_vm(control_plane, acme, "web-1", vcpus=2, memory_mib=1_024)
    host.say()
    tick(control_plane, clock, seconds=0)
    tick(control_plane, clock, hours=3)
    made(
        operator.put("/v1/quotas", tenant_id=acme.id, dimension="microeur_per_month", limit=10_000_000),
    )
    quotas = operator.get("/v1/quotas", tenant_id=acme.id).json()["items"]
    assert [row["used"] for row in quotas if row["dimension"] == "microeur_per_month"] == [
        3 * HOURLY_MICROEUR
    ]
    drafted = made(operator.post("/v1/invoices", tenant_id=acme.id, period="2026-11"))
    lines = operator.get(f"/v1/invoices/{drafted['id']}/lines").json()["items"]
    assert sum(line["amount_microeur"] for line in lines) == 3 * HOURLY_MICROEUR
    assert "x86_64: 6.000 vCPU-hours" in {line["description"] for line in lines}
    assert usage(acme)["total_microeur"] == 3 * HOURLY_MICROEUR
    spent = spend_actions.show(control_plane.context, OPERATOR)
    assert (spent.microeur_per_hour, spent.month_microeur) == (HOURLY_MICROEUR, 3 * HOURLY_MICROEUR)


def test_a_dry_run_says_the_price_of_an_hour(control_plane: ControlPlane, acme: Tenant, host: Host) -> None:
    del host
    make_vm(control_plane, acme, "web-1")
    offer = next(row for row in acme.member.get("/v1/offers").json()["items"] if row["kind"] == "vm")
    spec = {"image": "image-web-1", "vcpus": 2, "memory_mib": 1_024, "disk_gib": 10}
    body = {"offer": offer["id"], "project": acme.project_id, "spec": spec}
    planned = made(acme.member.request("POST", "/v1/services?dry_run=true", json=body))
    assert planned["price"]["microeur_per_hour"] == HOURLY_MICROEUR


def test_what_was_ordered_by_a_book_without_prices_of_machines_is_not_charged(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, host: Host
) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        prices = tuple(Price(meter, "*", 1_000) for meter in PRICED)
        book = control_plane.context.new_id("price_book")
        price_book_store.insert(connection, book, prices, "old", "op", clock.now())
    make_vm(control_plane, acme, "web-1")
    host.say()
    tick(control_plane, clock, seconds=0)
    tick(control_plane, clock, hours=1)
    assert (usage(acme)["items"], usage(acme)["unpriced"]) == ([], [])
