"""States of machines that something outside brings about, with the reason that is shown; no machine really starts."""

from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.control_plane import ControlPlane
from penstock.drivers.base import DeviceFacts, Phase
from penstock.drivers.libvirt.converge import NO_ROOM
from penstock.drivers.libvirt.machine import parse
from tests.support.infrastructure import change, query
from tests.support.machine_host import Host
from tests.support.machine_objects import made, make_host, make_vm
from tests.support.networks import make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant


def test_a_machine_that_is_held_says_why_and_goes_on(control_plane: ControlPlane, acme: Tenant) -> None:
    host = Host(control_plane)
    vm_id = make_vm(control_plane, acme, "db")
    host.say()

    def shown() -> dict[str, Any]:
        return dict(acme.member.get(f"/v1/vms/{vm_id}").json())

    assert shown()["state"] == "running"
    host.say("held", Phase.STARTED, code="power_lost", message=NO_ROOM)
    assert (shown()["state"], shown()["reason"], shown()["message"]) == ("degraded", "process_lost", NO_ROOM)
    assert acme.member.post(f"/v1/vms/{vm_id}/clone", name="copy").status_code == 409
    host.say()
    assert (shown()["state"], shown()["message"]) == ("running", "")


_OLD = "SELECT phase FROM allocation WHERE node_id = :id AND driver = 'libvirt'"


def _settle(plane: ControlPlane, *hosts: Host) -> None:
    """Let the engines and the agents of hosts that answer act until machines with ports are told."""
    for _ in range(3):
        plane.networks.tick()
        for host in hosts:
            host.say()


def _lose(host: Host, vm_id: str) -> None:
    """Let a host fall silent for good; its machine is looked at."""
    context = host.plane.context
    change(context, "UPDATE node SET state = 'unreachable' WHERE id = :id", id=host.node_id)
    for _ in range(3):
        change(context, "UPDATE service SET due_at = :at WHERE id = :id", id=vm_id, at=context.clock.now())
        host.plane.services.tick()


def _told(host: Host) -> list[dict[str, Any]]:
    return [wish["config"] for wish in host.wishes() if wish["driver"] == "libvirt"]


def test_a_machine_whose_host_dies_is_built_anew_elsewhere_with_its_address(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    first = Host(control_plane, "hv1").carry_networks(operator)
    subnet_id = make_subnet(acme, make_network(acme, "net"), "front", "10.0.0.0/24")
    port = make_port(acme, subnet_id, "web-1")
    vm_id = make_vm(control_plane, acme, "web-1", ports=["web-1"], on_host_loss="recreate")
    _settle(control_plane, first)
    (before,) = _told(first)
    assert acme.member.get(f"/v1/vms/{vm_id}").json()["state"] == "running"
    second = Host(control_plane, "hv2").carry_networks(operator, "10.77.0.12")
    _lose(first, vm_id)
    _settle(control_plane, second)
    (after,) = _told(second)
    same = ("uuid", "image", "host_name", "vcpus")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["nics"][0]["mac"] == before["nics"][0]["mac"] == port["mac"]
    shown = acme.member.get(f"/v1/vms/{vm_id}").json()
    assert (shown["id"], shown["state"], shown["node_name"]) == (vm_id, "running", "hv2")
    kept = acme.member.get(f"/v1/ports/{port['id']}").json()
    assert (kept["address"], kept["mac"]) == (port["address"], port["mac"])
    # The first host comes back: what it has of the machine is to go, and it is charged and held once.
    change(control_plane.context, "UPDATE node SET state = 'ready' WHERE id = :id", id=first.node_id)
    wishes = [wish["wanted"] for wish in first.wishes() if wish["driver"] == "libvirt"]
    assert wishes == ["absent"]
    _settle(control_plane, first, second)
    assert [wish["phase"] for wish in query(control_plane.context, _OLD, id=first.node_id)] in (
        [],
        ["absent"],
    )
    held = query(control_plane.context, "SELECT node_id FROM claim WHERE released_at IS NULL")
    assert [row["node_id"] for row in held] == [second.node_id]


def test_devices_are_passed_through_at_their_place_and_come_free_again(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    devices = [
        DeviceFacts(
            n,
            "H100",
            "NVIDIA H100",
            "nvidia",
            80 << 30,
            pci_address=f"0000:{0x3B + n:02X}:00.0",
            numa_node=n // 2,
        )
        for n in range(4)
    ]
    host = Host(control_plane, "hv1", devices=devices)
    control_plane.seed()
    made(operator.post("/v1/offers", name="vm-gpu", kind="vm", title="With GPUs", fixed={}))

    def launch(name: str, count: int) -> str:
        spec = {"image": image["image_id"], "device_class": "H100", "devices": count}
        body = {"project_id": acme.project_id, "name": name, "offer": "vm-gpu", "spec": spec}
        return str(made(acme.member.post("/v1/vms", **body))["id"])

    plain = make_vm(control_plane, acme, "plain")
    (image,) = query(control_plane.context, "SELECT image_id FROM vm WHERE service_id = :id", id=plain)
    acme.member.delete(f"/v1/vms/{plain}")
    host.say()
    host.say()
    first = launch("one", 2)
    (config,) = _told(host)
    assert config["devices"] == [
        {"pci_address": "0000:3b:00.0", "numa_node": 0},
        {"pci_address": "0000:3c:00.0", "numa_node": 0},
    ]
    host.say()
    launch("two", 2)
    others = [config["devices"] for config in _told(host) if config["host_name"] == "two"]
    assert [one["pci_address"] for one in others[0]] == ["0000:3d:00.0", "0000:3e:00.0"]
    third = launch("three", 1)
    control_plane.services.tick()
    assert acme.member.get(f"/v1/vms/{third}").json()["state"] == "provisioning"
    acme.member.delete(f"/v1/vms/{first}")
    host.say()
    host.say()
    told = {config["host_name"]: config["devices"] for config in _told(host)}
    assert [one["pci_address"] for one in told["three"]] in (["0000:3b:00.0"], ["0000:3c:00.0"])


def test_each_kind_of_device_is_told_by_what_names_it(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    uuids = ["3f2504e0-4f89-11d3-9a0c-0305e82c3301", "a297db4a-f4c2-11e6-90f6-d3b88d6c9525"]

    def part(index: int, uuid: str) -> DeviceFacts:
        parent = {"pci_address": "0000:3b:00.4", "numa_node": 1, "mdev_type": "nvidia-558"}
        return DeviceFacts(
            index, "unknown", "NVIDIA L40S-48C", "nvidia", 48 << 30, uuid=uuid, attach="mdev", **parent
        )

    at = {"pci_address": "0000:5E:00.0", "numa_node": 0, "attach": "simulated"}
    stand_in = DeviceFacts(0, "H100", "NVIDIA H100", "nvidia", 80 << 30, **at)
    host = Host(control_plane, "hv1", devices=[stand_in, part(1, uuids[1])])
    control_plane.seed()
    made(operator.post("/v1/offers", name="vm-gpu", kind="vm", title="With GPUs", fixed={}))
    plain = make_vm(control_plane, acme, "plain")
    (image,) = query(control_plane.context, "SELECT image_id FROM vm WHERE service_id = :id", id=plain)

    launched: dict[str, str] = {}

    def launch(name: str, device_class: str) -> None:
        spec = {"image": image["image_id"], "device_class": device_class, "devices": 1}
        body = {"project_id": acme.project_id, "name": name, "offer": "vm-gpu", "spec": spec}
        launched[name] = made(acme.member.post("/v1/vms", **body))["id"]
        host.say()

    launch("mediated", "L40S")
    # Another one is made on the host and sorts before: what is held stays what it was.
    make_host(control_plane, "hv1", devices=[stand_in, part(1, uuids[0]), part(2, uuids[1])])
    launch("second", "L40S")
    launch("simulated", "H100")
    told = {config["host_name"]: config["devices"] for config in _told(host)}
    assert told["mediated"] == [{"mdev_uuid": uuids[1], "numa_node": 1}]
    assert told["second"] == [{"mdev_uuid": uuids[0], "numa_node": 1}]
    assert told["simulated"] == [{"pci_address": "0000:5e:00.0", "numa_node": 0, "simulated": 1}]
    for config in _told(host):
        parse(config)  # the driver takes it
    shown = operator.get("/v1/devices").json()["items"]
    assert {one["position"]: (one["attach"], one["simulated"], one["uuid"]) for one in shown} == {
        0: ("simulated", True, None),
        1_025: ("mdev", False, uuids[1]),
        1_026: ("mdev", False, uuids[0]),
    }
    # One that nobody holds goes: its place is the next one's, and the host that names one twice is refused.
    acme.member.delete(f"/v1/vms/{launched['second']}")
    host.say()
    host.say()
    another = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    make_host(control_plane, "hv1", devices=[stand_in, part(1, another), part(2, uuids[1])])
    shown = operator.get("/v1/devices").json()["items"]
    assert {one["position"]: one["uuid"] for one in shown} == {0: None, 1_025: uuids[1], 1_026: another}
    with pytest.raises(InvalidInputError, match="same uuid"):
        make_host(control_plane, "hv1", devices=[part(1, another), part(2, another)])
    with pytest.raises(InvalidInputError) as caught:
        make_host(control_plane, "hv1", devices=[part(1, "GPU-1")])
    assert caught.value.field == "nodes.0.devices.0.uuid"
