"""Images made of machines and clones, over the API, with a test for the agent: no machine really starts."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.actions import agent as agent_actions
from penstock.actions import vm_image as vm_image_actions
from penstock.base.clock import ManualClock
from penstock.base.errors import InvalidInputError, NotFoundError
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from penstock.drivers.libvirt.machine import Machine, parse
from tests.support.command_line import CommandLine
from tests.support.infrastructure import query
from tests.support.machine_host import Host
from tests.support.machine_objects import made, make_vm, qcow2, sha256_of
from tests.support.networks import make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant

DATA = qcow2() + bytes(3_000)


@pytest.fixture
def host(control_plane: ControlPlane) -> Host:
    return Host(control_plane)


def say(host: Host, power: str = "on", **detail: Any) -> None:
    """Report of everything that was told what to be; what waits for its disk has nothing to say."""
    for wish in host.wishes():
        phase = Phase.ABSENT if wish["wanted"] == "absent" else Phase.READY
        if phase is Phase.ABSENT or "waiting" not in wish["config"]:
            observed = Observed(wish["id"], wish["generation"], phase, detail={"power": power, **detail})
            agent_actions.push(host.plane.context, host.agent_id, [observed])
    host.plane.services.tick()


def settle(host: Host) -> None:
    """Let machines be placed, their ports bound, their network made, and themselves told and ready."""
    for _ in range(5):
        host.plane.networks.tick()
        say(host)


@pytest.fixture
def vm_id(control_plane: ControlPlane, acme: Tenant, host: Host, tmp_path: Path) -> str:
    made_id = make_vm(control_plane, acme, "web-1")
    control_plane.keep_images_in(tmp_path / "images")
    say(host)
    return made_id


def machines(host: Host) -> dict[str, Machine]:
    """Return the machines that are told what to be, by their host names."""
    found = [parse(wish["config"]) for wish in host.wishes() if "host_name" in wish["config"]]
    return {one.host_name: one for one in found}


def ask(tenant: Tenant, vm_id: str, name: str = "golden", **more: Any) -> Any:
    return tenant.member.post("/v1/images", project_id=tenant.project_id, name=name, vm_id=vm_id, **more)


def send(plane: ControlPlane, host: Host, image_id: str, data: bytes, sha256: str | None = None) -> None:
    with vm_image_actions.take(plane.context, host.agent_id, image_id, sha256 or sha256_of(data)) as taking:
        taking.write(data)
        taking.finish()


def show(tenant: Tenant, image_id: str) -> dict[str, Any]:
    return dict(tenant.member.get(f"/v1/images/{image_id}").json())


def test_a_node_makes_an_image_and_the_factory_takes_it(
    control_plane: ControlPlane, acme: Tenant, globex: Tenant, operator: Caller, host: Host, vm_id: str
) -> None:
    other = Host(control_plane, "hv2")
    image = made(ask(acme, vm_id))
    assert image["provenance"]["vm_id"] == vm_id
    (export,) = machines(host)["web-1"].exports
    assert (export.image_id, export.snapshot) == (image["id"], None)
    assert ask(globex, vm_id).status_code == 404
    public = operator.post("/v1/images", name="golden", vm_id=vm_id)
    assert (public.status_code, public.json()["error"]["field"]) == (422, "project_id")
    assert ask(acme, vm_id, "two", source_url="https://example.org/x").status_code == 422
    assert ask(acme, vm_id, "two", snapshot_id=f"snp_{'0' * 26}").status_code == 404
    lone = acme.member.post("/v1/images", project_id=acme.project_id, name="x", snapshot_id=f"snp_{'0' * 26}")
    assert (lone.status_code, lone.json()["error"]["field"]) == (422, "vm_id")
    say(host)
    moved = operator.post(f"/v1/vms/{vm_id}/move")
    assert (moved.status_code, "an image is being made" in moved.text) == (409, True)
    with pytest.raises(NotFoundError):
        send(control_plane, other, image["id"], DATA)
    with pytest.raises(InvalidInputError):
        send(control_plane, host, image["id"], DATA, sha256="x")
    with pytest.raises(InvalidInputError):
        send(control_plane, host, image["id"], DATA, sha256="0" * 64)
    assert show(acme, image["id"])["state"] == "pending", "what was cut short is sent again"
    send(control_plane, host, image["id"], DATA)
    shown = show(acme, image["id"])
    assert (shown["state"], shown["sha256"], shown["size_bytes"]) == ("active", sha256_of(DATA), len(DATA))
    assert machines(host)["web-1"].exports == ()
    with pytest.raises(NotFoundError):
        send(control_plane, host, image["id"], DATA)
    kinds = query(control_plane.context, "SELECT kind FROM event WHERE subject_id = :id", id=image["id"])
    assert {row["kind"] for row in kinds} == {"image.created", "image.active"}


def test_one_of_a_snapshot_names_it(acme: Tenant, host: Host, vm_id: str) -> None:
    snapshot = made(acme.member.post(f"/v1/vms/{vm_id}/snapshots", name="before"))["id"]
    assert ask(acme, vm_id, snapshot_id=snapshot).status_code == 409, "it is not ready"
    say(host, snapshots={snapshot: 100})
    image = made(ask(acme, vm_id, snapshot_id=snapshot))
    (export,) = machines(host)["web-1"].exports
    assert (export.image_id, export.snapshot) == (image["id"], snapshot)
    assert acme.member.delete(f"/v1/images/{image['id']}").status_code == 204
    assert machines(host)["web-1"].exports == (), "who deletes it ends it"


def test_what_cannot_come_fails_with_its_reason(
    control_plane: ControlPlane, acme: Tenant, host: Host, vm_id: str, clock: ManualClock, tmp_path: Path
) -> None:
    foreign, broken, slow, orphan = (made(ask(acme, vm_id, f"image-{one}"))["id"] for one in range(4))
    assert ask(acme, vm_id, "one-more").status_code == 409
    with pytest.raises(InvalidInputError):
        send(control_plane, host, foreign, b"\x7fELF" + bytes(600))
    assert "ELF" in show(acme, foreign)["message"]
    say(host, problems={f"export:{broken}": "No space left on device"})
    control_plane.images.tick()
    assert (show(acme, broken)["state"], show(acme, broken)["message"]) == (
        "failed",
        "No space left on device",
    )
    assert {one.image_id for one in machines(host)["web-1"].exports} == {slow, orphan}
    assert acme.member.delete(f"/v1/vms/{vm_id}").status_code == 202
    control_plane.images.tick()
    assert "terminated" in show(acme, orphan)["message"]
    assert list((tmp_path / "images").glob("*")) == []
    clock.advance(timedelta(minutes=1))


def test_a_clone_has_the_disk_and_nothing_else_of_the_first(
    control_plane: ControlPlane,
    acme: Tenant,
    globex: Tenant,
    operator: Caller,
    host: Host,
    clock: ManualClock,
    tmp_path: Path,
) -> None:
    host.carry_networks(operator)
    network = make_network(acme, "prod")
    subnet = make_subnet(acme, network, "front", "10.0.0.0/24")
    port = make_port(acme, subnet, "web-1")
    first = make_vm(control_plane, acme, "web-1", ports=[port["id"]], tags={"role": "web"}, vcpus=2)
    control_plane.keep_images_in(tmp_path / "images")
    settle(host)
    path = f"/v1/vms/{first}/clone"
    assert globex.member.post(path, name="web-2").status_code == 404
    small = acme.member.post(path, name="web-2", disk_gib=1)
    assert (small.status_code, small.json()["error"]["field"]) == (422, "disk_gib")
    assert acme.member.post(path, name="web-1").status_code == 409
    assert query(control_plane.context, "SELECT id FROM image WHERE temporary") == [], (
        "nothing half-made is left"
    )
    clone = made(acme.member.post(path, name="web-2"))
    assert (clone["state"], clone["cloned_from"], clone["vcpus"]) == ("provisioning", first, 2)
    assert clone["tags"] == {"role": "web"}
    settle(host)
    assert set(machines(host)) == {"web-1"}, "it waits for its disk"
    clock.advance(timedelta(minutes=14))
    control_plane.services.tick()
    clock.advance(timedelta(minutes=14))
    control_plane.services.tick()
    assert acme.member.get(f"/v1/vms/{clone['id']}").json()["state"] == "provisioning"
    send(control_plane, host, clone["image_id"], DATA)
    settle(host)
    told = machines(host)
    one, two = told["web-1"], told["web-2"]
    assert (two.image.sha256, one.exports) == (sha256_of(DATA), ())
    assert one.uuid != two.uuid
    assert one.seed.instance_id != two.seed.instance_id
    assert {nic.mac for nic in one.nics}.isdisjoint({nic.mac for nic in two.nics})
    addresses = [row["address"] for row in acme.member.get("/v1/ports").json()["items"]]
    assert len(set(addresses)) == 2
    say(host)
    assert acme.member.get(f"/v1/vms/{clone['id']}").json()["state"] == "running"
    audited = query(control_plane.context, "SELECT detail FROM audit WHERE action = 'vm.clone'")
    assert audited[-1]["detail"]["clone"] == clone["id"]
    image = f"/v1/images/{clone['image_id']}"
    assert acme.member.delete(image).status_code == 409, "the clone needs it"
    clock.advance(timedelta(minutes=11))
    control_plane.images.tick()
    assert (tmp_path / "images" / f"{clone['image_id']}.qcow2").exists()
    acme.member.delete(f"/v1/vms/{clone['id']}")
    say(host, power="off")
    say(host, power="off")
    control_plane.images.tick()
    assert not (tmp_path / "images" / f"{clone['image_id']}.qcow2").exists()
    gone = acme.member.get("/v1/vms", gone=True).json()["items"]
    assert {row["name"]: row["cloned_from"] for row in gone}["web-2"] == first, "the link stays"


def test_a_clone_whose_disk_cannot_be_copied_fails(
    control_plane: ControlPlane, acme: Tenant, host: Host, vm_id: str
) -> None:
    clone = made(acme.member.post(f"/v1/vms/{vm_id}/clone", name="web-2", disk_gib=20))
    say(host, problems={f"export:{clone['image_id']}": "No space left on device"})
    control_plane.images.tick()
    for _ in range(4):
        say(host)
    shown = acme.member.get(f"/v1/services/{clone['id']}").json()
    assert (shown["state"], shown["message"]) == (
        "failed",
        "the disk could not be copied: No space left on device",
    )
    claims = query(control_plane.context, "SELECT id FROM claim WHERE released_at IS NULL")
    assert len(claims) == 1, "the first machine's"


def test_by_command(control_plane: ControlPlane, acme: Tenant, served: str, host: Host, vm_id: str) -> None:
    penstock = CommandLine(served, acme.member.key)
    assert penstock("image", "add", "golden", "--from-vm", "web-1", "--url", "https://x.org/").exit_code == 2
    image = penstock.json("image", "add", "golden", "--from-vm", "web-1")
    clone = penstock.json("vm", "clone", "web-1", "web-2")
    assert (image["provenance"]["vm_id"], clone["cloned_from"]) == (vm_id, vm_id)
    assert penstock("vm", "clone", "web-1", "web-3", "--snapshot", "none").exit_code == 2
    host.wishes()
    send(control_plane, host, image["id"], DATA)
    assert penstock.json("image", "show", "golden")["state"] == "active"
