"""Where machines go: those with ports only where networks are carried, and why they wait if that is nowhere."""

from penstock.control_plane import ControlPlane
from penstock.drivers.base import DeviceFacts
from tests.support.infrastructure import query
from tests.support.machine_host import Host
from tests.support.machine_objects import made, make_host, make_vm
from tests.support.networks import make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant


def test_a_machine_with_ports_waits_for_a_host_that_carries_networks_and_goes_there(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    plain, able = Host(control_plane, "hv1"), Host(control_plane, "hv2", memory_bytes=8 << 30)
    subnet_id = make_subnet(acme, make_network(acme, "net"), "front", "10.0.0.0/24")
    make_port(acme, subnet_id, "web-1")
    without = make_vm(control_plane, acme, "plain")
    named = make_vm(control_plane, acme, "named", ports=["web-1"])
    made_with = make_vm(control_plane, acme, "made-with", subnets=["front"])
    control_plane.services.tick()

    def node_of(vm_id: str) -> str | None:
        found = query(control_plane.context, "SELECT service_id, node_id FROM allocation")
        return next((row["node_id"] for row in found if row["service_id"] == vm_id), None)

    assert node_of(without) in (plain.node_id, able.node_id), "no port, no need"
    for vm_id in (named, made_with):
        assert node_of(vm_id) is None
        assert "carries no networks" in acme.member.get(f"/v1/services/{vm_id}/explain").text
    spec = {"image": "image-plain", "subnets": ["front"]}
    plan = acme.member.post("/v1/services?dry_run=true", offer="vm", project=acme.project_id, spec=spec)
    assert "carries no networks" in plan.text
    able.carry_networks(operator)
    control_plane.services.tick()
    assert {node_of(named), node_of(made_with)} == {able.node_id}
    control_plane.vms.tick()
    assert operator.delete(f"/v1/network-hosts/{able.node_id}").status_code == 409, "its ports are plugged in"


def test_parts_of_a_device_go_to_machines_alone_and_explain_says_so(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    part = DeviceFacts(
        0,
        "unknown",
        "NVIDIA L40S-48C",
        "nvidia",
        48 << 30,
        uuid="3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        numa_node=1,
        attach="mdev",
    )
    make_host(control_plane, "hv1", drivers=("libvirt", "simulated"), devices=[part])
    control_plane.seed()
    made(operator.post("/v1/offers", name="vm-gpu", kind="vm", title="With GPUs", fixed={}))
    order = {"project": acme.project_id, "spec": {"count": 1, "device_class": "L40S"}}
    waiting = made(acme.member.post("/v1/services", offer="gpu", **order))["id"]
    control_plane.services.tick()
    told = acme.member.get(f"/v1/services/{waiting}/explain").json()["explanation"]
    assert told["binding"] == "device_attach"
    assert "only a virtual machine can be given the device" in told["headline"]
    vm_id = make_vm(control_plane, acme, "plain")
    (image,) = query(control_plane.context, "SELECT image_id FROM vm WHERE service_id = :id", id=vm_id)
    spec = {"image": image["image_id"], "device_class": "L40S", "devices": 1}
    body = {"project_id": acme.project_id, "name": "with-part", "offer": "vm-gpu", "spec": spec}
    machine = made(acme.member.post("/v1/vms", **body))["id"]
    control_plane.services.tick()
    (plan,) = acme.member.get(f"/v1/services/{machine}/explain").json()["decision"]["plans"]
    assert plan["chosen"][0]["numa_nodes"] == [1]
    assert "near NUMA node 1 of the host" in [one["sentence"] for one in plan["reasons"]]
