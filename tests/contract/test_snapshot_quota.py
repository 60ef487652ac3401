"""Quotas of snapshots, of machines and volumes together: up to the limit, not beyond it, also for those who come at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock.control_plane import ControlPlane
from tests.support.machine_host import Host
from tests.support.machine_objects import made, make_vm, make_volume
from tests.support.tenancy import Caller, Tenant


class Kept:
    """A machine of 10 GiB and a volume of 2 GiB that it has, on a host that says that all is done."""

    def __init__(self, plane: ControlPlane, operator: Caller, tenant: Tenant) -> None:
        self.plane, self.operator, self.tenant = plane, operator, tenant
        self.host = Host(plane, drivers=("libvirt", "qcow2"))
        self.vm = f"/v1/vms/{make_vm(plane, tenant, 'db')}"
        self.volume = f"/v1/volumes/{make_volume(tenant, 'data', size_gib=2)}"
        self.settle()
        made(tenant.member.put(f"{self.volume}/machine", vm_id=self.vm.rpartition("/")[2]))
        self.settle()

    def settle(self) -> None:
        """Let the host do what is wanted."""
        for _ in range(4):
            self.plane.volumes.tick()
            self.host.say()

    def limit(self, **limits: int) -> dict[str, int]:
        """Set quotas of the project; return what is used of each."""
        for dimension, limit in limits.items():
            body = {"tenant_id": self.tenant.id, "project_id": self.tenant.project_id, "limit": limit}
            made(self.operator.put("/v1/quotas", dimension=dimension, **body))
        return self.used()

    def used(self) -> dict[str, int]:
        rows = self.tenant.admin.get("/v1/quotas").json()["items"]
        return {row["dimension"]: row["used"] for row in rows}

    def take(self, of: str, name: str) -> Any:
        return self.tenant.member.post(f"{of}/snapshots", name=name)


@pytest.fixture
def kept(control_plane: ControlPlane, operator: Caller, acme: Tenant) -> Kept:
    return Kept(control_plane, operator, acme)


def refused(answer: Any) -> Any:
    assert answer.status_code == 409, answer.text
    error = answer.json()["error"]
    assert error["code"] == "quota_exceeded"
    return error


def test_snapshots_count_up_to_the_limit_and_come_back(kept: Kept) -> None:
    assert made(kept.take(kept.vm, "one"))["size_gib"] == 10
    assert kept.limit(snapshots=3, snapshot_gib=24) == {"snapshots": 1, "snapshot_gib": 10}, (
        "what is there counts"
    )
    assert made(kept.take(kept.volume, "a"))["size_gib"] == 2
    kept.settle()
    two = made(kept.take(kept.vm, "two"))
    assert kept.used() == {"snapshots": 3, "snapshot_gib": 22}
    error = refused(kept.take(kept.volume, "b"))
    assert error["message"] == (
        "the project's quota 'snapshots' is 3, 3 of it used, and this snapshot needs 1; "
        "delete snapshots, or ask an operator to raise the quota"
    )
    assert (error["data"]["dimension"], error["data"]["limit"], error["data"]["used"]) == ("snapshots", 3, 3)
    assert [one["name"] for one in kept.tenant.member.get(f"{kept.volume}/snapshots").json()["items"]] == [
        "a"
    ]
    kept.settle()
    assert kept.tenant.member.delete(f"{kept.vm}/snapshots/{two['id']}").status_code == 204
    assert kept.used() == {"snapshots": 2, "snapshot_gib": 12}
    made(kept.tenant.member.put(f"{kept.volume}/size", size_gib=13))
    assert (
        "'snapshot_gib' is 24, 12 of it used, and this snapshot needs 13"
        in refused(kept.take(kept.volume, "b"))["message"]
    )
    assert kept.used() == {"snapshots": 2, "snapshot_gib": 12}, (
        "a volume that grew does not make old snapshots larger"
    )
    refused_name = kept.take(kept.vm, "one")
    assert (refused_name.status_code, kept.used()["snapshots"]) == (409, 2), (
        "a name that is taken takes nothing"
    )
    (kept_one,) = kept.tenant.member.get(f"{kept.volume}/snapshots").json()["items"]
    assert kept.tenant.member.delete(f"{kept.volume}/snapshots/{kept_one['id']}").status_code == 204
    assert kept.used() == {"snapshots": 1, "snapshot_gib": 10}


def test_who_comes_at_once_gets_what_is_left_and_no_more(kept: Kept) -> None:
    more = f"/v1/volumes/{make_volume(kept.tenant, 'more')}"
    made(kept.tenant.member.put(f"{more}/machine", vm_id=kept.vm.rpartition("/")[2]))
    kept.settle()
    free = [kept.volume, more]  # of no machine, so that nothing but the quota keeps the two apart
    for volume in free:
        made(kept.tenant.member.delete(f"{volume}/machine"))
        kept.settle()
    kept.limit(snapshots=3)

    def both(name: str) -> list[Any]:
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(kept.take, free, (name, name)))
        kept.settle()
        return answers

    assert [answer.status_code for answer in both("first")] == [202, 202]
    assert sorted(answer.status_code for answer in both("second")) == [202, 409]
    answers = both("third")
    assert kept.used() == {"snapshots": 3}, "two, one, none"
    assert [refused(answer)["data"]["used"] for answer in answers] == [3, 3]


def test_what_goes_takes_its_snapshots_along(kept: Kept) -> None:
    kept.limit(snapshots=10, snapshot_gib=100)
    made(kept.take(kept.vm, "one"))
    for name in ("a", "b"):
        made(kept.take(kept.volume, name))
    kept.settle()
    made(kept.tenant.member.delete(f"{kept.volume}/machine"))
    kept.settle()
    made(kept.tenant.member.delete(kept.volume))
    assert kept.used() == {"snapshots": 1, "snapshot_gib": 10}
    assert kept.limit(snapshots=9, volumes=9) == {"snapshots": 1, "snapshot_gib": 10, "volumes": 0}, (
        "counted anew, what is being deleted is no part of it"
    )
    made(kept.tenant.member.delete(kept.vm))
    kept.settle()
    assert kept.used() == {"snapshots": 0, "snapshot_gib": 0, "volumes": 0}
    assert kept.tenant.member.get(f"{kept.vm}/snapshots").json()["items"] == []
