"""What volumes cost: their size by the hour, from making to deletion, on every view the same to the micro-euro."""

from datetime import timedelta

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from tests.support.command_line import CommandLine
from tests.support.infrastructure import query
from tests.support.machine_objects import made, make_volume
from tests.support.tenancy import Caller, Tenant

HOUR = 3_600_000_000


def quota(operator: Caller, tenant: Tenant) -> dict[str, int]:
    """Return limit and use of the tenant's quota of money."""
    rows = operator.get("/v1/quotas", tenant_id=tenant.id).json()["items"]
    (row,) = [one for one in rows if one["dimension"] == "microeur_per_month"]
    return {name: row[name] for name in ("limit", "used")}


def test_every_view_says_the_same(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, globex: Tenant, operator: Caller
) -> None:
    control_plane.seed()
    made(operator.put("/v1/quotas", tenant_id=acme.id, dimension="microeur_per_month", limit=10_000_000))
    body = {"project_id": acme.project_id, "name": "data", "size_gib": 7}
    plan = acme.member.request("POST", "/v1/volumes", params={"dry_run": True}, json=body)
    assert (plan.status_code, plan.json()["microeur_per_hour"]) == (200, 700)
    assert acme.member.get("/v1/volumes").json()["items"] == [], "a dry run keeps nothing"
    assert query(control_plane.context, "SELECT volume_id FROM volume_time") == []
    volume_id = make_volume(acme, "data", size_gib=7)
    clock.advance(timedelta(minutes=50, seconds=1, microseconds=7))
    made(acme.member.put(f"/v1/volumes/{volume_id}/size", size_gib=11))
    clock.advance(timedelta(hours=3))
    assert acme.member.delete(f"/v1/volumes/{volume_id}").status_code == 202
    clock.advance(timedelta(hours=9))
    quantity = 7 * (3_001 * 1_000_000 + 7) + 11 * 3 * HOUR
    amount = round(quantity * 100 / HOUR)
    (line,) = made(acme.admin.get("/v1/usage"))["items"]
    assert (line["meter"], line["item"], line["quantity"]) == ("volume_gib_hours", "qcow2", quantity)
    assert line["amount_microeur"] == amount
    assert quota(operator, acme) == {"limit": 10_000_000, "used": amount}
    assert made(globex.admin.get("/v1/usage"))["items"] == []
    drafted = made(operator.post("/v1/invoices", tenant_id=acme.id, period="2026-11"))
    (billed,) = operator.get(f"/v1/invoices/{drafted['id']}/lines").json()["items"]
    assert (billed["amount_microeur"], "GiB-hours of volumes" in billed["description"]) == (amount, True), (
        billed
    )


def test_money_that_is_used_up_lets_no_volume_be_made(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, operator: Caller
) -> None:
    control_plane.seed()
    make_volume(acme, "data", size_gib=100)
    clock.advance(timedelta(hours=1))
    made(operator.put("/v1/quotas", tenant_id=acme.id, dimension="microeur_per_month", limit=5_000))
    body = {"project_id": acme.project_id, "name": "more", "size_gib": 1}
    for params in ({}, {"dry_run": True}):
        assert acme.member.request("POST", "/v1/volumes", params=params, json=body).status_code == 409


def test_without_prices_nothing_is_charged_and_what_runs_now_is_known(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, served: str
) -> None:
    make_volume(acme, "old")
    clock.advance(timedelta(hours=1))
    assert made(acme.admin.get("/v1/usage"))["items"] == []
    control_plane.seed()
    penstock = CommandLine(served, acme.member.key)
    assert penstock.json("volume", "create", "new", "--size", "20", "--dry-run")["microeur_per_hour"] == 2_000
    make_volume(acme, "new", size_gib=20, driver="nfs")
    clock.advance(timedelta(hours=1))
    (line,) = made(acme.admin.get("/v1/usage"))["items"]
    assert (line["item"], line["amount_microeur"]) == ("nfs", 2_000)
