"""Machines, images and keys over the API; what nodes are told is what the driver takes, and no machine really starts."""

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.actions import agent as agent_actions
from penstock.actions import vm_console as console_actions
from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.port import tap_name
from penstock.drivers.base import Observed, Phase
from penstock.drivers.libvirt.machine import parse, user_data_of
from tests.support.infrastructure import change, query
from tests.support.machine_host import Host
from tests.support.machine_objects import (
    GIB,
    SSH_KEY,
    made,
    make_host,
    make_image,
    make_ssh_key,
    make_vm,
    qcow2,
    send_image,
    sha256_of,
)
from tests.support.networks import make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant


def refused(answer: Any, status: int, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["field"] == field, error
    return str(error["message"])


@pytest.fixture
def host(control_plane: ControlPlane) -> Host:
    return Host(control_plane)


@pytest.fixture
def images(control_plane: ControlPlane, tmp_path: Path) -> Path:
    control_plane.keep_images_in(tmp_path / "images")
    return tmp_path / "images"


def test_a_machine_lives(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, globex: Tenant, host: Host
) -> None:
    make_ssh_key(acme, "laptop")
    data = base64.b64encode(b"\0\xff#!/bin/sh").decode()
    vm_id = make_vm(
        control_plane,
        acme,
        "web-1",
        ssh_keys=["laptop"],
        user_data=data,
        vcpus=2,
        memory_mib=512,
        tags={"a": "b"},
    )
    path = f"/v1/vms/{vm_id}"

    def state() -> str:
        return str(acme.member.get(path).json()["state"])

    assert state() == "provisioning"
    machine = host.machine()
    assert (machine.vcpus, machine.memory_mib, machine.seed.user_data) == (2, 512, b"\0\xff#!/bin/sh")
    assert machine.seed.ssh_keys == (f"{SSH_KEY.rpartition(' ')[0]} laptop",)
    host.say(meters={"cpu_time_us": 5})
    assert state() == "running"
    assert acme.member.get(path).json()["meters"] == {"cpu_time_us": 5}

    line = f'penstock_vm_cpu_seconds_total{{vm="{vm_id}",host="hv1"'
    assert f'{line},name="web-1"}} 5e-06' in acme.member.get("/v1/vm-series").text
    assert vm_id not in globex.member.get("/v1/vm-series").text
    assert f"{line}}} 5e-06" in acme.member.get("/metrics").text
    assert "web-1" not in acme.member.get("/metrics").text
    clock.advance(timedelta(seconds=61))
    assert line not in acme.member.get("/metrics").text, "what is old is left out"

    made(acme.member.post(f"{path}/power", action="stop"))
    assert state() == "stopping"
    assert host.machine().power == "off"
    host.say("off")
    assert state() == "stopped"
    refused(acme.member.post(f"{path}/power", action="reboot"), 409)
    made(acme.member.post(f"{path}/power", action="start"))
    host.say()
    made(acme.member.post(f"{path}/power", action="reboot"))
    assert (host.machine().power, host.machine().boots) == ("on", 1)
    host.say()
    kinds = {
        row["to"]
        for row in (one["data"] for one in query(control_plane.context, "SELECT data FROM event"))
        if "to" in row
    }
    assert "degraded" not in kinds, "what was asked for is no fault"


def test_a_machine_changes_its_shape_and_tags(control_plane: ControlPlane, acme: Tenant, host: Host) -> None:
    path = f"/v1/vms/{make_vm(control_plane, acme, 'web-1', memory_mib=512, tags={'a': 'b'})}"
    host.say()
    shaped = made(acme.member.post(f"{path}/shape", memory_mib=1_024, disk_gib=20))
    assert (shaped["memory_mib"], shaped["disk_gib"]) == (1_024, 20)
    (claim,) = query(control_plane.context, "SELECT node_memory_bytes FROM claim WHERE released_at IS NULL")
    (node,) = query(control_plane.context, "SELECT memory_used_bytes FROM node WHERE name = 'hv1'")
    assert claim["node_memory_bytes"] == node["memory_used_bytes"] == (1_024 + 192) << 20
    assert "too little free memory" in refused(acme.member.post(f"{path}/shape", memory_mib=1 << 20), 409)
    refused(acme.member.post(f"{path}/shape", disk_gib=1), 422, "disk_gib")
    assert made(acme.member.put(f"{path}/tags", tags={"role": "db"}))["tags"] == {"role": "db"}
    assert len(acme.member.get("/v1/vms", tag="role=db").json()["items"]) == 1
    assert acme.member.get("/v1/vms", tag="a=b").json()["items"] == []


def test_a_machine_ends_and_nothing_is_held(control_plane: ControlPlane, acme: Tenant, host: Host) -> None:
    path = f"/v1/vms/{make_vm(control_plane, acme, 'web-1')}"
    host.say()

    def state() -> str:
        return str(acme.member.get(path).json()["state"])

    assert acme.member.delete(path).json()["state"] in ("running", "terminating")
    control_plane.services.tick()
    assert state() == "terminating"
    host.say()
    control_plane.services.tick()
    assert state() == "terminated"
    assert acme.member.get("/v1/vms").json()["items"] == []
    assert len(acme.member.get("/v1/vms", gone=True).json()["items"]) == 1
    refused(acme.member.post(f"{path}/power", action="start"), 409)
    assert query(control_plane.context, "SELECT id FROM claim WHERE released_at IS NULL") == []


def test_snapshots_come_go_and_bring_back(control_plane: ControlPlane, acme: Tenant, host: Host) -> None:
    vm_id = make_vm(control_plane, acme, "db")
    path = f"/v1/vms/{vm_id}"
    refused(acme.member.post(f"{path}/snapshots", name="early"), 409)
    host.say()
    one = made(acme.member.post(f"{path}/snapshots", name="one"))
    assert one["state"] == "pending"
    refused(acme.member.post(f"{path}/snapshots", name="one"), 409)
    refused(acme.member.post(f"{path}/restore", snapshot_id=one["id"]), 409)
    assert host.machine().snapshots == (one["id"],)
    host.say(snapshots={one["id"]: 17})
    (listed,) = acme.member.get(f"{path}/snapshots").json()["items"]
    assert (listed["state"], listed["size_bytes"]) == ("ready", 17)
    made(acme.member.post(f"{path}/restore", snapshot_id=one["id"]))
    assert (host.machine().restores, host.machine().restore_from) == (1, one["id"])
    refused(acme.member.delete(f"{path}/snapshots/{one['id']}"), 409)
    host.say(snapshots={one["id"]: 17})
    assert acme.member.delete(f"{path}/snapshots/{one['id']}").status_code == 204
    assert (host.machine().snapshots, host.machine().restore_from) == ((), None)
    host.say(problems={"snapshot:x": "no room"})
    assert acme.member.get(path).json()["problems"] == {"snapshot:x": "no room"}


def test_a_lost_host_keeps_its_machine(control_plane: ControlPlane, acme: Tenant, host: Host) -> None:
    vm_id = make_vm(control_plane, acme, "db")
    host.say()
    context = control_plane.context
    change(context, "UPDATE node SET state = 'unreachable' WHERE id = :id", id=host.node_id)
    change(context, "UPDATE service SET due_at = :at WHERE id = :id", id=vm_id, at=context.clock.now())
    control_plane.services.tick()
    shown = acme.member.get(f"/v1/vms/{vm_id}").json()
    assert (shown["state"], shown["reason"]) == ("degraded", "node_lost")
    assert "waits for the host" in shown["message"]
    (row,) = query(context, "SELECT wanted FROM allocation WHERE service_id = :id", id=vm_id)
    assert row["wanted"] == "present"
    change(context, "UPDATE node SET state = 'ready' WHERE id = :id", id=host.node_id)
    change(context, "UPDATE service SET due_at = :at WHERE id = :id", id=vm_id, at=context.clock.now())
    control_plane.services.tick()
    assert acme.member.get(f"/v1/vms/{vm_id}").json()["state"] == "running"


def test_a_cordoned_host_asks_for_maintenance(
    control_plane: ControlPlane, acme: Tenant, operator: Caller, host: Host
) -> None:
    vm_id = make_vm(control_plane, acme, "db")
    host.say()
    assert operator.post(f"/v1/nodes/{host.node_id}/cordon").status_code == 200
    assert acme.member.get(f"/v1/vms/{vm_id}").json()["state"] == "maintenance_required"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"image": "no-such"}, "spec.image"),
        ({"vcpus": 0}, "spec.vcpus"),
        ({"vcpus": 10_000}, "spec.vcpus"),
        ({"memory_mib": -1}, "spec.memory_mib"),
        ({"disk_gib": 1}, "spec.disk_gib"),
        ({"architecture": "aarch64"}, "spec.architecture"),
        ({"ssh_keys": ["nobody"]}, "spec.ssh_keys.0"),
        ({"ports": ["nowhere"]}, "spec.ports.0"),
        ({"subnets": ["nowhere"]}, "spec.subnets.0"),
        ({"security_groups": ["web"]}, "spec.security_groups"),
        ({"user_data": "not base64"}, "spec.user_data"),
        ({"user_data": "A" * (1 << 19)}, "spec.user_data"),
        ({"bridges": ["br0"]}, "spec.bridges"),
        ({"device_class": "H100"}, "spec.device_class"),
        ({"tags": {"bad name": "x"}}, "spec.tags"),
        ({"colour": "red"}, "spec"),
    ],
)
def test_a_bad_order_names_the_field(
    acme: Tenant, control_plane: ControlPlane, images: Path, spec: dict[str, Any], field: str
) -> None:
    control_plane.seed()
    image_id = make_image(acme, "big")
    made(send_image(acme, image_id, qcow2(virtual_bytes=5 * GIB)))
    body = {"project_id": acme.project_id, "name": "x", "spec": {"image": "big", **spec}}
    refused(acme.member.post("/v1/vms", **body), 422, field)
    assert query(control_plane.context, "SELECT id FROM service") == []
    assert images.exists()


@pytest.mark.parametrize("size", [(64 << 10) + 1, 1_000_000, 1 << 20])
@pytest.mark.parametrize("path", ["/v1/vms", "/v1/services"])
def test_user_data_that_is_too_long_is_refused_by_name_and_limit(
    acme: Tenant, control_plane: ControlPlane, images: Path, path: str, size: int
) -> None:
    control_plane.seed()
    made(send_image(acme, make_image(acme, "tiny"), qcow2()))
    spec = {"image": "tiny", "user_data": base64.b64encode(b"\xff" * size).decode()}
    project = "project" if path == "/v1/services" else "project_id"
    body = {project: acme.project_id, "name": "x", "offer": "vm", "spec": spec}
    said = refused(acme.member.post(path, **body), 422, "spec.user_data")
    assert "64 KiB" in said or "65536 bytes" in said
    assert "////" not in said, "what was given may be a secret"
    assert query(control_plane.context, "SELECT id FROM service") == []
    assert images.exists()


def test_user_data_of_all_bytes_and_the_full_length_arrives_as_it_is(
    control_plane: ControlPlane, acme: Tenant, host: Host
) -> None:
    data = bytes(range(256)) * 256
    make_vm(control_plane, acme, "web-1", user_data=base64.b64encode(data).decode())
    assert host.machine().seed.user_data == data


def test_user_data_reaches_the_devices_of_its_machine_and_nothing_that_others_read(
    control_plane: ControlPlane, acme: Tenant, operator: Caller, host: Host
) -> None:
    host.carry_networks(operator)
    make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    secret = base64.b64encode(b"#!/bin/sh\necho hunter2\n").decode()
    vm_id = make_vm(control_plane, acme, "web-1", subnets=["front"], user_data=secret)
    (port,) = acme.member.get("/v1/ports", service_id=vm_id).json()["items"]
    wishes: dict[str, Any] = {}
    for _ in range(4):
        wishes = {wish["driver"]: wish for wish in host.wishes()}
        for one in wishes.values():
            seen = Observed(one["id"], one["generation"], Phase.READY)
            if one["driver"] == "simulated_network":
                agent_actions.push(control_plane.context, host.agent_id, [seen])
        control_plane.networks.tick()
    network = wishes["simulated_network"]
    assert user_data_of(wishes["libvirt"]["config"]) == {tap_name(port["id"]): b"#!/bin/sh\necho hunter2\n"}
    (said,) = network["config"]["ports"]
    assert said["id"] == port["id"]
    assert (said["metadata"]["name"], "tags" in said["metadata"]) == ("web-1", False)
    made(acme.member.put(f"/v1/vms/{vm_id}/tags", tags={"role": "web"}))
    control_plane.networks.tick()
    (told,) = (wish for wish in host.wishes() if wish["driver"] == "simulated_network")
    assert told["config"]["ports"][0]["metadata"]["tags"] == {"instance": {"role": "web"}}
    assert told["config"]["ports"][0]["metadata"]["placement"]["site"]
    paths = (
        f"/v1/vms/{vm_id}",
        f"/v1/services/{vm_id}",
        f"/v1/ports/{port['id']}",
        "/v1/audit",
        "/v1/events",
    )
    answers = [acme.admin.get(path).text for path in paths]
    assert all(vm_id in answer for answer in answers), "read at all"
    for text in (str(told["config"]), *answers):
        assert secret not in text
        assert "hunter2" not in text


def test_bridges_are_the_operators_to_name(
    control_plane: ControlPlane, acme: Tenant, operator: Caller, host: Host
) -> None:
    vm_id = make_vm(control_plane, acme, "first")
    (first,) = query(control_plane.context, "SELECT image_id FROM vm WHERE service_id = :id", id=vm_id)
    made(operator.post("/v1/offers", name="lan", kind="vm", title="L", fixed={"bridges": ["br0"]}))
    made(operator.post("/v1/offers", name="open", kind="vm", title="O", fixed={}))
    body = {"project_id": acme.project_id, "name": "x", "spec": {"image": first["image_id"]}}
    own = {**body, "offer": "open", "spec": {**body["spec"], "bridges": ["br0"]}}
    assert acme.member.post("/v1/vms", **own).status_code == 403
    made(acme.member.post("/v1/vms", **{**body, "offer": "lan"}))
    refused(acme.member.post("/v1/vms", **{**body, "name": "y", "offer": "gpu"}), 422, "offer")
    machines = [parse(wish["config"]) for wish in host.wishes()]
    assert sorted(len(machine.nics) for machine in machines) == [0, 1]


def test_ports_are_plugged_in_before_the_machine_starts(
    control_plane: ControlPlane, acme: Tenant, operator: Caller, host: Host
) -> None:
    host.carry_networks(operator)
    subnet_id = make_subnet(acme, make_network(acme, "net"), "front", "10.0.0.0/24")
    port = make_port(acme, subnet_id, "web-1")
    vm_id = make_vm(control_plane, acme, "web-1", ports=["web-1"])
    mine = [wish for wish in host.wishes() if wish["driver"] == "libvirt"]
    assert mine == [], "what waits for its network is no wish yet"
    (bound,) = query(control_plane.context, "SELECT node_id, service_id FROM port")
    assert (bound["node_id"], bound["service_id"]) == (host.node_id, vm_id)
    refused(
        acme.member.post(
            "/v1/vms",
            project_id=acme.project_id,
            name="other",
            spec={"image": "image-web-1", "ports": ["web-1"]},
        ),
        422,
        "spec.ports.0",
    )
    refused(acme.member.delete(f"/v1/ports/{port['id']}"), 409)
    acme.member.delete(f"/v1/vms/{vm_id}")
    control_plane.services.tick()
    host.say()
    control_plane.services.tick()
    assert acme.member.delete(f"/v1/ports/{port['id']}").status_code == 204


def test_images_are_taken_whole_or_not_at_all(
    acme: Tenant, globex: Tenant, operator: Caller, images: Path
) -> None:
    data = qcow2()
    image_id = make_image(acme, "tiny", sha256=sha256_of(data))
    assert send_image(globex, image_id, data).status_code == 404
    for bad, field in (
        (b"", "image"),
        (b"hello" * 200, "image"),
        (qcow2(backing=104), "image"),
        (data + b"x", "sha256"),
    ):
        refused(send_image(acme, image_id, bad), 422, field)
    assert list(images.iterdir()) == []
    shown = made(send_image(acme, image_id, data))
    assert (shown["state"], shown["size_bytes"], shown["virtual_bytes"]) == ("active", len(data), GIB)
    refused(send_image(acme, image_id, data), 409)
    refused(acme.member.post("/v1/images", project_id=acme.project_id, name="tiny"), 409, "name")
    assert acme.member.post("/v1/images", name="mine-for-all").status_code == 403
    public = made(operator.post("/v1/images", name="debian", provenance="https://example.org/debian.qcow2"))
    assert {one["name"] for one in globex.member.get("/v1/images").json()["items"]} == {"debian"}
    assert globex.member.delete(f"/v1/images/{public['id']}").status_code == 403
    assert globex.member.get(f"/v1/images/{image_id}").status_code == 404
    assert acme.member.delete(f"/v1/images/{image_id}").status_code == 204
    assert list(images.iterdir()) == []


def test_an_image_that_is_used_stays(control_plane: ControlPlane, acme: Tenant, host: Host) -> None:
    vm_id = make_vm(control_plane, acme, "web-1")
    image_id = query(control_plane.context, "SELECT image_id FROM vm")[0]["image_id"]
    assert "web-1" in refused(acme.member.delete(f"/v1/images/{image_id}"), 409)
    acme.member.delete(f"/v1/vms/{vm_id}")
    control_plane.services.tick()
    host.say()
    assert acme.member.delete(f"/v1/images/{image_id}").status_code == 204


def test_consoles_are_a_right_of_their_own(
    control_plane: ControlPlane, acme: Tenant, globex: Tenant, host: Host
) -> None:
    vm_id = make_vm(control_plane, acme, "web-1")
    (wish,) = host.wishes()
    context = control_plane.context

    def send(begin: int, content: bytes, agent_id: str = host.agent_id) -> int:
        return console_actions.take(context, agent_id, wish["id"], begin, content)

    assert send(0, b"hello ") == 6
    assert send(0, b"hello world") == 11, "an agent that forgot begins anew"
    stranger, _ = make_host(control_plane, "hv2")
    send(11, b"!", stranger)
    path = f"/v1/vms/{vm_id}/console"
    assert acme.member.get(path).content == b"hello world"
    assert acme.member.get(path, bytes_max=5).content == b"world"
    assert acme.auditor.get(path).status_code == 403
    assert globex.member.get(path).status_code == 404
    (audited,) = query(
        context, "SELECT count(*) AS n FROM audit WHERE action = 'vm.console_read' AND outcome = 'done'"
    )
    assert audited["n"] == 2
    for number in range(limits.CONSOLE_BYTES_MAX // limits.CONSOLE_PIECE_BYTES + 2):
        send(11 + number * limits.CONSOLE_PIECE_BYTES, b"x" * limits.CONSOLE_PIECE_BYTES)
    (kept,) = query(context, "SELECT sum(length(content)) AS n FROM vm_console")
    assert kept["n"] <= limits.CONSOLE_BYTES_MAX
    change(context, "UPDATE vm_console SET received_at = received_at - interval '31 days'")
    assert control_plane.vms.forget_old() > 0
    assert acme.member.get(path).content == b""


def test_keys_are_a_projects_own(acme: Tenant, globex: Tenant) -> None:
    key_id = make_ssh_key(acme, "laptop")
    shown = acme.member.get(f"/v1/ssh-keys/{key_id}").json()
    assert (shown["kind"], shown["fingerprint"][:7]) == ("ssh-ed25519", "SHA256:")
    assert "ada" not in shown["public_key"]
    body = {"project_id": acme.project_id, "name": "laptop", "public_key": SSH_KEY}
    refused(acme.member.post("/v1/ssh-keys", **body), 409, "name")
    refused(
        acme.member.post("/v1/ssh-keys", **{**body, "name": "x", "public_key": "ssh-rsa AAAA"}),
        422,
        "public_key",
    )
    assert globex.member.get(f"/v1/ssh-keys/{key_id}").status_code == 404
    assert globex.member.delete(f"/v1/ssh-keys/{key_id}").status_code == 404
    assert acme.member.delete(f"/v1/ssh-keys/{key_id}").status_code == 204
    assert acme.member.get("/v1/ssh-keys").json()["items"] == []


def test_ports_that_an_order_makes_go_with_their_machine(
    control_plane: ControlPlane, acme: Tenant, operator: Caller, host: Host
) -> None:
    host.carry_networks(operator)
    network_id = make_network(acme, "prod")
    make_subnet(acme, network_id, "front", "10.0.0.0/24")
    group = made(acme.member.post("/v1/security-groups", network_id=network_id, name="web"))
    made(operator.put("/v1/quotas", tenant_id=acme.id, dimension="ports", limit=1))
    make_ssh_key(acme, "laptop")
    named = {"subnets": ["front"], "security_groups": ["web"], "ssh_keys": ["laptop"]}
    vm_id = make_vm(control_plane, acme, "web-1", **named)
    (port,) = acme.member.get("/v1/ports", service_id=vm_id).json()["items"]
    assert (port["address"], port["service_id"]) == ("10.0.0.2", vm_id)
    bound = acme.member.get(f"/v1/security-groups/{group['id']}").json()
    assert port["id"] in str(bound)
    (row,) = query(control_plane.context, "SELECT metadata FROM port")
    assert row["metadata"]["local-hostname"] == "web-1"
    assert row["metadata"]["public-keys"]["0"]["openssh-key"].endswith(" laptop")
    body = {"project_id": acme.project_id, "name": "web-2", "spec": {"image": "image-web-1", **named}}
    assert "'ports'" in refused(acme.member.post("/v1/vms", **body), 409)
    assert acme.member.get("/v1/vms", name="web-2").json()["items"] == [], "no half-made machine"
    acme.member.delete(f"/v1/vms/{vm_id}")
    for _ in range(3):
        host.say("off")
    assert acme.member.get("/v1/ports").json()["items"] == []
    used = {row["dimension"]: row["used"] for row in acme.admin.get("/v1/quotas").json()["items"]}
    assert used["ports"] == 0
