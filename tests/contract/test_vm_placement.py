"""Where machines go: those with ports only where networks are carried, and why they wait if that is nowhere."""

from penstock.control_plane import ControlPlane
from tests.support.infrastructure import query
from tests.support.machine_host import Host
from tests.support.machine_objects import make_vm
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
