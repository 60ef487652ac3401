"""Clones of volumes over the API and by command; the host is this test, and says when it has copied."""

from typing import Any

import pytest

from penstock.actions import volume as volume_actions
from penstock.control_plane import ControlPlane
from penstock.domain.copying import copy_of
from penstock.drivers.base import Phase
from penstock.drivers.volumes.model import Volume, parse
from tests.support.command_line import CommandLine
from tests.support.machine_host import Host
from tests.support.machine_objects import made, make_vm, make_volume
from tests.support.tenancy import Caller, Tenant


class Site:
    """A machine with a volume, encrypted if asked, on a host that says that all is done."""

    def __init__(self, plane: ControlPlane, tenant: Tenant, **volume: Any) -> None:
        self.plane, self.tenant = plane, tenant
        self.host = Host(plane, drivers=("libvirt", "qcow2"))
        self.vm_id = make_vm(plane, tenant, "db")
        self.volume_id = make_volume(tenant, "data", size_gib=2, **volume)
        self.path = f"/v1/volumes/{self.volume_id}"
        self.settle()
        made(tenant.member.put(f"{self.path}/machine", vm_id=self.vm_id))
        self.settle()

    def settle(self, **detail: Any) -> None:
        """Let the host do what is wanted."""
        for _ in range(4):
            self.plane.volumes.tick()
            self.host.say(stamps=True, **detail)

    def wanted(self, volume_id: str) -> Volume:
        """Return a volume as the host is told of it."""
        wishes = (parse(one["config"]) for one in self.host.wishes() if one["driver"] == "qcow2")
        return next(one for one in wishes if one.volume_id == volume_id)

    def free(self) -> None:
        """Take the volume out of its machine."""
        made(self.tenant.member.delete(f"{self.path}/machine"))
        self.settle()

    def state(self, path: str) -> str:
        return str(self.tenant.member.get(path).json()["state"])


def refused(answer: Any, status: int, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["field"] == field
    return str(answer.json()["error"]["message"])


def test_a_volume_is_cloned_as_it_is_and_as_it_was(
    control_plane: ControlPlane, operator: Caller, acme: Tenant, globex: Tenant
) -> None:
    empty = make_volume(acme, "empty")
    assert "no bytes" in refused(acme.member.post(f"/v1/volumes/{empty}/clone", name="x"), 409)
    made(operator.put("/v1/quotas", tenant_id=acme.id, dimension="volume_gib", limit=8))
    site = Site(control_plane, acme)
    assert "running machine" in refused(acme.member.post(f"{site.path}/clone", name="now"), 409)
    snapshot = made(acme.member.post(f"{site.path}/snapshots", name="one"))
    asked = {"name": "then", "snapshot_id": snapshot["id"]}
    assert "not ready" in refused(acme.member.post(f"{site.path}/clone", **asked), 409)
    site.settle(snapshots={snapshot["id"]: 5})
    refused(acme.member.post(f"{site.path}/clone", **asked, size_gib=1), 422, "size_gib")
    refused(acme.member.post(f"{site.path}/clone", name="then", snapshot_id="vsn_" + "0" * 26), 404)
    refused(globex.member.post(f"{site.path}/clone", **asked), 404)
    refused(acme.auditor.post(f"{site.path}/clone", **asked), 403)
    refused(acme.member.post(f"{site.path}/clone", name="data", snapshot_id=snapshot["id"]), 409, "name")
    clone = made(acme.member.post(f"{site.path}/clone", **asked, size_gib=3))
    assert (clone["state"], clone["size_gib"], clone["cloned_from"]) == ("copying", 3, site.volume_id)
    told = site.wanted(clone["id"])
    assert (told.from_volume, told.from_snapshot, told.size_gib) == (site.volume_id, snapshot["id"], 3)
    assert "then is being copied" in refused(
        acme.member.delete(f"{site.path}/snapshots/{snapshot['id']}"), 409
    )
    assert "'volume_gib'" in refused(
        acme.member.post(f"{site.path}/clone", **{**asked, "name": "more"}, size_gib=3), 409
    )
    site.settle(snapshots={snapshot["id"]: 5})
    assert site.state(f"/v1/volumes/{clone['id']}") == "available"
    assert acme.member.delete(f"{site.path}/snapshots/{snapshot['id']}").status_code == 204
    site.free()
    made(acme.member.put(f"/v1/volumes/{clone['id']}/machine", vm_id=site.vm_id))
    site.settle()
    assert site.state(f"/v1/volumes/{clone['id']}") == "attached"


def test_what_is_being_cloned_is_not_deleted_and_a_copy_that_fails_says_why(
    control_plane: ControlPlane, acme: Tenant
) -> None:
    site = Site(control_plane, acme)
    site.free()
    clone = made(acme.member.post(f"{site.path}/clone", name="now"))
    assert site.wanted(clone["id"]).from_snapshot is None
    assert "now is being copied" in refused(acme.member.delete(site.path), 409)
    site.host.say(phase=Phase.FAILED, code="volume_failed", message="no room")
    shown = acme.member.get(f"/v1/volumes/{clone['id']}").json()
    assert (shown["state"], shown["message"]) == ("degraded", "no room")
    made(acme.member.delete(f"/v1/volumes/{clone['id']}"))
    made(acme.member.delete(site.path))
    site.settle()
    assert acme.member.get("/v1/volumes").json()["items"] == [], "and nothing is left of either"


def test_a_clone_of_an_encrypted_volume_opens_with_the_key_of_that_one(
    control_plane: ControlPlane, acme: Tenant
) -> None:
    site = Site(control_plane, acme, encrypted=True)
    site.free()
    clone = made(acme.member.post(f"{site.path}/clone", name="copy"))
    assert clone["encrypted"]
    keys = [
        volume_actions.key_for_agent(control_plane.context, site.host.agent_id, one)
        for one in (site.volume_id, clone["id"])
    ]
    assert keys[0] == keys[1]


def test_the_command_clones(control_plane: ControlPlane, served: str, acme: Tenant) -> None:
    site = Site(control_plane, acme)
    site.free()
    penstock = CommandLine(served, acme.member.key)
    assert penstock.json("volume", "clone", "data", "copy", "--size", "4")["size_gib"] == 4
    assert penstock("volume", "clone", "data", "old", "--snapshot", "none").exit_code == 2
    assert "copy" in penstock("volume", "list").stdout


@pytest.mark.parametrize(
    "body", [{}, {"name": "X Y"}, {"name": "x", "size_gib": 0}, {"name": "x", "more": 1}]
)
def test_a_clone_that_cannot_be_is_refused(acme: Tenant, body: dict[str, Any]) -> None:
    volume_id = make_volume(acme, "data")
    assert acme.member.post(f"/v1/volumes/{volume_id}/clone", **body).status_code == 422


COPY = {"phase": "copying", "done_bytes": 3 << 30, "total_bytes": 4 << 30}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (COPY, "75 % copied (3.0 GiB of 4.0 GiB)"),
        (
            {**COPY, "bytes_per_second": 100 << 20, "left_seconds": 10},
            "75 % copied (3.0 GiB of 4.0 GiB, 100 MiB a second, about 10.0 s left)",
        ),
        (
            {**COPY, "phase": "checking", "done_bytes": 9 << 30},
            "100 % read back and compared (4.0 GiB of 4.0 GiB)",
        ),
        ({**COPY, "bytes_per_second": True, "left_seconds": 1 << 70}, "75 % copied (3.0 GiB of 4.0 GiB)"),
        ({**COPY, "total_bytes": 0}, None),
        ({**COPY, "done_bytes": -1}, None),
        ({**COPY, "phase": "<b>"}, None),
        ("soon", None),
    ],
    ids=["begun", "rated", "checking", "nonsense-rate", "nothing", "negative", "phase", "text"],
)
def test_how_far_a_clone_is_is_told_and_hosts_are_not_believed_everything(
    said: object, sentence: str | None
) -> None:
    found = copy_of({"copy": said})
    assert (None if found is None else found.sentence) == sentence


def test_how_far_a_clone_is_is_seen_by_its_owner(
    control_plane: ControlPlane, acme: Tenant, served: str
) -> None:
    site = Site(control_plane, acme)
    site.free()
    clone = made(acme.member.post(f"{site.path}/clone", name="copy"))
    site.host.say(phase=Phase.STARTED, copy=COPY)
    shown = acme.member.get(f"/v1/volumes/{clone['id']}").json()
    assert shown["state"] == "copying"
    assert {name: shown["copying"][name] for name in ("percent", "done_bytes", "left_seconds")} == {
        "percent": 75,
        "done_bytes": 3 << 30,
        "left_seconds": None,
    }
    penstock = CommandLine(served, acme.member.key)
    assert "75 % copied" in penstock("volume", "show", "copy").stdout
    site.settle()
    assert acme.member.get(f"/v1/volumes/{clone['id']}").json()["copying"] is None
