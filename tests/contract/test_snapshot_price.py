"""What snapshots cost: what they occupy by the hour, from when they are made to deletion, on every view the same to the micro-euro."""

from datetime import timedelta
from typing import Any

import pytest

from penstock.actions import agent as agent_actions
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from tests.support.command_line import CommandLine
from tests.support.infrastructure import query
from tests.support.machine_host import Host
from tests.support.machine_objects import made, make_vm, make_volume
from tests.support.tenancy import Caller, Tenant

HOUR = 3_600_000_000
MIB = 1 << 20


class Keeper(Host):
    """A host that says of every snapshot how many bytes it occupies."""

    def keep(self, size_bytes: int) -> None:
        """Report everything as it is wanted, snapshots at this size."""
        for _ in range(3):
            for wish in self.wishes():
                phase = Phase.ABSENT if wish["wanted"] == "absent" else Phase.READY
                taken = dict.fromkeys(wish["config"].get("snapshots", ()), size_bytes)
                seen = {"power": "on", "size_bytes": 1, "snapshots": taken}
                observed = Observed(wish["id"], wish["generation"], phase, detail=seen)
                agent_actions.push(self.plane.context, self.agent_id, [observed])
            self.plane.services.tick()
            self.plane.volumes.tick()
            self.plane.vms.meter()


@pytest.fixture
def host(control_plane: ControlPlane) -> Keeper:
    return Keeper(control_plane, drivers=("libvirt", "qcow2", "nfs"))


def attached(plane: ControlPlane, tenant: Tenant, host: Keeper, **volume: Any) -> tuple[str, str]:
    """Return a machine that runs and a volume that it has."""
    vm_id = make_vm(plane, tenant, "db")
    host.keep(1)
    volume_id = make_volume(tenant, "data", **volume)
    made(tenant.member.put(f"/v1/volumes/{volume_id}/machine", vm_id=vm_id))
    host.keep(1)
    return vm_id, volume_id


def lines(tenant: Tenant) -> dict[str, tuple[str, int, int]]:
    """Return item, quantity and amount of what snapshots used, by what they are of."""
    rows = made(tenant.admin.get("/v1/usage", group_by="service,model"))["items"]
    return {
        one["service_id"]: (one["item"], one["quantity"], one["amount_microeur"])
        for one in rows
        if one["meter"] == "snapshot_gib_hours"
    }


def cost(mib_us: int) -> int:
    return round(mib_us * 50 / (1_024 * HOUR))


def test_every_view_says_the_same(
    control_plane: ControlPlane,
    clock: ManualClock,
    acme: Tenant,
    globex: Tenant,
    operator: Caller,
    host: Keeper,
    served: str,
) -> None:
    control_plane.seed()
    vm_id, volume_id = attached(control_plane, acme, host, size_gib=700, driver="nfs")
    penstock = CommandLine(served, acme.member.key)
    asked = penstock.json("volume", "snapshot", "data", "before", "--dry-run")
    assert (asked["driver"], asked["size_gib"], asked["microeur_per_hour_max"]) == ("nfs", 700, 35_000)
    of_vm = acme.member.request(
        "POST", f"/v1/vms/{vm_id}/snapshots", params={"dry_run": True}, json={"name": "before"}
    )
    assert (of_vm.status_code, of_vm.json()["driver"], of_vm.json()["microeur_per_hour_max"]) == (
        200,
        "libvirt",
        500,
    )
    for path in (f"/v1/volumes/{volume_id}", f"/v1/vms/{vm_id}"):
        assert acme.member.get(f"{path}/snapshots").json()["items"] == [], "a dry run keeps nothing"
    made(acme.member.post(f"/v1/vms/{vm_id}/snapshots", name="before"))
    snapshot = made(acme.member.post(f"/v1/volumes/{volume_id}/snapshots", name="before"))["id"]
    clock.advance(timedelta(minutes=7))
    control_plane.vms.meter()
    assert lines(acme) == {}, "it is not made yet"
    host.keep(300 * MIB + 1)
    clock.advance(timedelta(hours=2, microseconds=13))
    assert acme.member.delete(f"/v1/volumes/{volume_id}/snapshots/{snapshot}").status_code == 204
    clock.advance(timedelta(hours=1))
    of_volume, of_machine = 301 * (2 * HOUR + 13), 301 * (3 * HOUR + 13)
    used = {
        volume_id: ("nfs", of_volume, cost(of_volume)),
        vm_id: ("libvirt", of_machine, cost(of_machine)),
    }
    assert lines(acme) == used
    assert lines(globex) == {}
    made(acme.member.delete(f"/v1/vms/{vm_id}"))
    host.keep(1)
    clock.advance(timedelta(hours=20))
    assert lines(acme) == used, "they end with their machine"
    made(operator.put("/v1/quotas", tenant_id=acme.id, dimension="microeur_per_month", limit=10_000_000_000))
    (quota,) = [
        one
        for one in operator.get("/v1/quotas", tenant_id=acme.id).json()["items"]
        if one["dimension"] == "microeur_per_month"
    ]
    every = made(acme.admin.get("/v1/usage"))["items"]
    assert quota["used"] == sum(one["amount_microeur"] for one in every)
    drafted = made(operator.post("/v1/invoices", tenant_id=acme.id, period="2026-11"))
    billed = operator.get(f"/v1/invoices/{drafted['id']}/lines").json()["items"]
    assert sorted(
        one["amount_microeur"] for one in billed if "GiB-hours of snapshots" in one["description"]
    ) == sorted(amount for _, _, amount in used.values())


def test_a_volume_takes_its_snapshots_off_the_bill_and_nothing_is_charged_above_its_size(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, host: Keeper
) -> None:
    control_plane.seed()
    _, volume_id = attached(control_plane, acme, host, size_gib=1)
    made(acme.member.post(f"/v1/volumes/{volume_id}/snapshots", name="made"))
    host.keep(5_000 * MIB)
    made(acme.member.post(f"/v1/volumes/{volume_id}/snapshots", name="pending"))
    made(acme.member.delete(f"/v1/volumes/{volume_id}/machine"))
    host.wishes()
    agent_of_machine = [one for one in host.wishes() if one["driver"] == "libvirt"]
    for wish in agent_of_machine:
        seen = Observed(wish["id"], wish["generation"], Phase.READY, detail={"power": "on", "snapshots": {}})
        agent_actions.push(control_plane.context, host.agent_id, [seen])
    control_plane.volumes.tick()
    clock.advance(timedelta(hours=1))
    made(acme.member.delete(f"/v1/volumes/{volume_id}"))
    clock.advance(timedelta(hours=5))
    control_plane.vms.meter()
    host.keep(1)
    assert lines(acme) == {volume_id: ("qcow2", 1_024 * HOUR, 50)}
    assert query(control_plane.context, "SELECT end_at FROM snapshot_time WHERE end_at IS NULL") == []


def test_a_book_without_a_price_of_snapshots_goes_on_and_charges_nothing(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, operator: Caller, host: Keeper
) -> None:
    control_plane.seed()
    (book,) = operator.get("/v1/price-books").json()["items"]
    told = operator.get(f"/v1/price-books/{book['id']}").json()
    prices = [one for one in told["prices"] if one["meter"] != "snapshot_gib_hours"]
    made(operator.post("/v1/price-books", prices=prices))
    _, volume_id = attached(control_plane, acme, host, size_gib=2)
    path = f"/v1/volumes/{volume_id}/snapshots"
    plan = acme.member.request("POST", path, params={"dry_run": True}, json={"name": "one"}).json()
    assert (plan["microeur_per_hour_max"], plan["price_book_id"] is None) == (None, False)
    made(acme.member.post(path, name="one"))
    host.keep(9 * MIB)
    clock.advance(timedelta(hours=1))
    assert lines(acme) == {}
    drafted = made(operator.post("/v1/invoices", tenant_id=acme.id, period="2026-11"))
    billed = operator.get(f"/v1/invoices/{drafted['id']}/lines").json()["items"]
    assert not [one for one in billed if "snapshots" in one["description"]]


def test_money_that_is_used_up_lets_no_snapshot_be_made(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, operator: Caller, host: Keeper
) -> None:
    control_plane.seed()
    vm_id, volume_id = attached(control_plane, acme, host, size_gib=100)
    clock.advance(timedelta(hours=1))
    made(operator.put("/v1/quotas", tenant_id=acme.id, dimension="microeur_per_month", limit=5_000))
    for path in (f"/v1/vms/{vm_id}/snapshots", f"/v1/volumes/{volume_id}/snapshots"):
        for params in ({}, {"dry_run": True}):
            refused = acme.member.request("POST", path, params=params, json={"name": "x"})
            assert refused.status_code == 409
