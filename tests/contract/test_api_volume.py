"""Volumes over the API; the nodes are this test, so what is told and what follows a report is seen."""

from datetime import timedelta
from typing import Any

import pytest

from penstock.actions import agent as agent_actions
from penstock.actions import volume as volume_actions
from penstock.base.clock import ManualClock
from penstock.base.errors import NotFoundError
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from penstock.drivers.libvirt.machine import parse as parse_machine
from penstock.drivers.volumes.model import Volume
from penstock.drivers.volumes.model import parse as parse_volume
from tests.support.infrastructure import query
from tests.support.machine_objects import made, make_host, make_vm, make_volume
from tests.support.tenancy import Caller, Tenant


def refused(answer: Any, status: int, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["field"] == field, error
    return str(error["message"])


class Host:
    """A node whose agent is this test; it keeps volumes and runs machines by saying so."""

    def __init__(self, plane: ControlPlane, name: str = "hv1") -> None:
        self.plane = plane
        self.agent_id, self.node_id = make_host(plane, name, drivers=("libvirt", "qcow2", "nfs"))

    def wishes(self) -> list[dict[str, Any]]:
        self.plane.services.tick()
        self.plane.vms.tick()
        self.plane.volumes.tick()
        return [dict(row) for row in agent_actions.pull(self.plane.context, self.agent_id, 0, 0).allocations]

    def volume(self) -> Volume:
        (found,) = [parse_volume(one["config"]) for one in self.wishes() if one["driver"] in ("qcow2", "nfs")]
        return found

    def plugged(self) -> list[str]:
        configs = [one["config"] for one in self.wishes() if one["driver"] == "libvirt"]
        return [volume.volume_id for config in configs for volume in parse_machine(config).volumes]

    def say(self, rounds: int = 2, *, power: str = "on", problems: dict[str, str] | None = None) -> None:
        """Report that everything is as it is wanted; volumes first, as their machines wait for them."""
        for _ in range(rounds):
            for wish in self.wishes():
                phase = Phase.ABSENT if wish["wanted"] == "absent" else Phase.READY
                detail: dict[str, Any] = {"power": power, "problems": problems or {}}
                if wish["driver"] != "libvirt":
                    detail = {
                        "size_bytes": 1,
                        "snapshots": dict.fromkeys(wish["config"].get("snapshots", ()), 5),
                    }
                observed = Observed(wish["id"], wish["generation"], phase, detail=detail)
                agent_actions.push(self.plane.context, self.agent_id, [observed])
        self.wishes()


@pytest.fixture
def host(control_plane: ControlPlane) -> Host:
    return Host(control_plane)


def state(tenant: Tenant, volume_id: str) -> str:
    return str(tenant.member.get(f"/v1/volumes/{volume_id}").json()["state"])


def test_a_volume_lives(control_plane: ControlPlane, acme: Tenant, host: Host) -> None:
    vm_id = make_vm(control_plane, acme, "web-1")
    host.say()
    volume_id = make_volume(acme, "data", size_gib=3)
    path = f"/v1/volumes/{volume_id}"
    assert state(acme, volume_id) == "available"
    assert len(host.wishes()) == 1, "it has no bytes until somebody needs it"
    refused(acme.member.post(f"{path}/snapshots", name="one"), 409)

    assert made(acme.member.put(f"{path}/machine", vm_id=vm_id))["state"] == "attaching"
    assert (host.volume().size_gib, host.plugged()) == (3, []), "its machine is told once it is made"
    host.say()
    assert host.plugged() == [volume_id]
    host.say()
    shown = acme.member.get(path).json()
    assert (shown["state"], shown["vm_name"], shown["node_name"]) == ("attached", "web-1", "hv1")
    assert [one["id"] for one in acme.member.get("/v1/volumes", vm_id=vm_id).json()["items"]] == [volume_id]
    assert made(acme.member.put(f"{path}/machine", vm_id=vm_id))["state"] == "attached", "again is the same"
    refused(acme.member.delete(path), 409)

    made(acme.member.put(f"{path}/size", size_gib=4))
    refused(acme.member.put(f"{path}/size", size_gib=2), 422, "size_gib")
    snapshot = made(acme.member.post(f"{path}/snapshots", name="one"))
    refused(acme.member.post(f"{path}/snapshots", name="one"), 409, "name")
    assert snapshot["state"] == "pending"
    assert (host.volume().size_gib, host.volume().snapshots) == (4, (snapshot["id"],))
    host.say()
    assert acme.member.get(f"{path}/snapshots").json()["items"][0]["state"] == "ready"
    refused(acme.member.post(f"{path}/restore", snapshot_id=snapshot["id"]), 409)

    made(acme.member.delete(f"{path}/machine"))
    assert state(acme, volume_id) == "detaching"
    assert host.plugged() == []
    host.say()
    assert state(acme, volume_id) == "available"
    made(acme.member.post(f"{path}/restore", snapshot_id=snapshot["id"]))
    assert (host.volume().restores, host.volume().restore_from) == (1, snapshot["id"])
    refused(acme.member.delete(f"{path}/snapshots/{snapshot['id']}"), 409)
    host.say()
    assert acme.member.delete(f"{path}/snapshots/{snapshot['id']}").status_code == 204
    assert host.volume().snapshots == ()
    assert made(acme.member.delete(path))["state"] == "deleting"
    host.say()
    assert acme.member.get(path).status_code == 404
    kinds = [
        row["kind"]
        for row in query(control_plane.context, "SELECT kind FROM event WHERE kind LIKE 'volume.%'")
    ]
    assert {"volume.created", "volume.attached", "volume.detached", "volume.deleted"} <= set(kinds)


def test_a_volume_outlives_its_machine_and_stays_where_it_lies(
    control_plane: ControlPlane, acme: Tenant, operator: Caller, host: Host
) -> None:
    first = make_vm(control_plane, acme, "web-1")
    host.say()
    other = Host(control_plane, "hv2")
    local, shared = make_volume(acme, "data"), make_volume(acme, "share", driver="nfs")
    for volume_id in (local, shared):
        made(acme.member.put(f"/v1/volumes/{volume_id}/machine", vm_id=first))
        host.say(3)
    made(acme.member.delete(f"/v1/volumes/{local}/machine"))
    host.say(3)
    made(operator.post(f"/v1/vms/{first}/move", node_id=other.node_id))
    refused(acme.member.delete(f"/v1/volumes/{shared}/machine"), 409)
    assert acme.member.delete(f"/v1/vms/{first}").status_code == 202
    for each in (host, other) * 3:
        each.say()
    assert state(acme, shared) == "available"
    operator.post(f"/v1/nodes/{host.node_id}/drain")
    second = make_vm(control_plane, acme, "web-2")
    other.say()
    assert "hv1" in refused(acme.member.put(f"/v1/volumes/{local}/machine", vm_id=second), 409)
    made(acme.member.put(f"/v1/volumes/{shared}/machine", vm_id=second))
    assert other.plugged() == [shared]


ARRIVED = {"folder": "/there/alc", "volumes": "/there/volumes", "uri": "qemu+tcp://hv2/system"}


class Moving:
    """A machine with one local volume on the first of two hosts."""

    def __init__(self, plane: ControlPlane, acme: Tenant, operator: Caller) -> None:
        self.plane, self.acme, self.operator = plane, acme, operator
        self.here, self.there = Host(plane), Host(plane, "hv2")
        self.operator.post(f"/v1/nodes/{self.there.node_id}/drain")  # so that it is placed here
        self.vm_id = make_vm(plane, acme, "web-1")
        self.operator.post(f"/v1/nodes/{self.there.node_id}/uncordon")
        self.here.say()
        self.volume_id = make_volume(acme, "data", encrypted=True)
        made(acme.member.put(f"/v1/volumes/{self.volume_id}/machine", vm_id=self.vm_id))
        self.here.say(3)

    def begin(self) -> None:
        made(self.operator.post(f"/v1/vms/{self.vm_id}/move", node_id=self.there.node_id))

    def report(self, host: Host, driver: str, phase: Phase = Phase.READY, **detail: Any) -> None:
        """Say the same of everything of one driver that is wanted on a host."""
        for wish in host.wishes():
            if wish["driver"] == driver:
                said = Phase.ABSENT if wish["wanted"] == "absent" else phase
                shown = {"power": "on", "size_bytes": 1, "snapshots": {}, **detail}
                one = Observed(wish["id"], wish["generation"], said, message="no room", detail=shown)
                agent_actions.push(self.plane.context, host.agent_id, [one])
        host.wishes()

    def order(self) -> Any:
        """Return what the host that the machine leaves is told of its move."""
        (config,) = [one["config"] for one in self.here.wishes() if one["driver"] == "libvirt"]
        return parse_machine(config).move

    def places(self) -> list[str]:
        """Return where the volume has bytes, or is to have them."""
        asked = "SELECT node_id FROM allocation WHERE volume_id IS NOT NULL"
        names = {self.here.node_id: "hv1", self.there.node_id: "hv2"}
        return sorted(names[one["node_id"]] for one in query(self.plane.context, asked))

    def shown(self) -> tuple[str, str]:
        row = self.acme.member.get(f"/v1/volumes/{self.volume_id}").json()
        return row["state"], row["node_name"]


@pytest.fixture
def moving(control_plane: ControlPlane, acme: Tenant, operator: Caller) -> Moving:
    return Moving(control_plane, acme, operator)


def test_a_local_volume_goes_with_its_machine(moving: Moving, operator: Caller) -> None:
    (line,) = operator.get(f"/v1/nodes/{moving.here.node_id}/drain").json()["items"]
    assert line["to_node_name"] == "hv2"
    moving.begin()
    (wish,) = [one for one in moving.there.wishes() if one["driver"] == "qcow2"]
    assert (wish["config"]["arriving"], wish["config"]["encrypted"]) == (1, 1)
    assert moving.shown() == ("attached", "hv1")
    key = volume_actions.key_for_agent(moving.plane.context, moving.there.agent_id, moving.volume_id)
    assert len(key) > 40, "the other host makes the empty disk with its key"
    moving.report(moving.there, "libvirt", **ARRIVED)
    assert moving.order() is None, "its disk is not there yet"
    moving.report(moving.there, "qcow2")
    order = moving.order()
    assert order.volumes == ARRIVED["volumes"]
    refused(moving.acme.member.delete(f"/v1/volumes/{moving.volume_id}/machine"), 409)
    moving.report(moving.here, "libvirt", moved_to=order.name)
    # One transaction: the machine and its volume are there, and both are to go here.
    assert [one["wanted"] for one in moving.here.wishes()] == ["absent", "absent"]
    assert not any("arriving" in one["config"] for one in moving.there.wishes())
    assert moving.there.plugged() == [moving.volume_id]
    moving.report(moving.here, "libvirt")
    assert moving.places() == ["hv1", "hv2"]
    refused(operator.post(f"/v1/vms/{moving.vm_id}/move", node_id=moving.here.node_id), 409)
    moving.report(moving.here, "qcow2")
    moving.there.say()
    assert moving.places() == ["hv2"]
    assert moving.shown() == ("attached", "hv2")
    assert (
        made(operator.post(f"/v1/vms/{moving.vm_id}/move", node_id=moving.here.node_id))["moving_to"] == "hv1"
    )


@pytest.mark.parametrize("why", ["no room there", "the copy fails"])
def test_a_volume_that_cannot_go_stays_with_its_machine(moving: Moving, why: str) -> None:
    moving.begin()
    moving.report(moving.there, "libvirt", **ARRIVED)
    moving.report(moving.there, "qcow2", Phase.FAILED if why == "no room there" else Phase.READY)
    if why == "the copy fails":
        moving.report(moving.here, "libvirt", problems={"move": "no space left"})
    for host in (moving.there, moving.here, moving.there, moving.here):
        moving.report(host, "libvirt")
        moving.report(host, "qcow2")
    assert moving.places() == ["hv1"]
    assert moving.shown() == ("attached", "hv1")
    assert moving.order() is None


@pytest.mark.parametrize("arrived", [False, True])
def test_a_machine_that_ends_in_mid_move_leaves_one_volume(moving: Moving, *, arrived: bool) -> None:
    moving.begin()
    moving.report(moving.there, "libvirt", **ARRIVED)
    moving.report(moving.there, "qcow2")
    order = moving.order()
    assert moving.acme.member.delete(f"/v1/vms/{moving.vm_id}").status_code == 202
    if arrived:
        moving.report(moving.here, "libvirt", moved_to=order.name)
    for host in (moving.here, moving.there) * 3:
        moving.report(host, "libvirt")
        moving.report(host, "qcow2")
    there = "hv2" if arrived else "hv1"
    assert moving.places() == [there], "where the newest bytes are, and only there"
    assert moving.shown() == ("available", there)


def test_a_volume_that_is_being_changed_is_waited_for(moving: Moving, operator: Caller) -> None:
    made(moving.acme.member.put(f"/v1/volumes/{moving.volume_id}/size", size_gib=9))
    moving.report(moving.here, "libvirt")
    path = f"/v1/vms/{moving.vm_id}/move"
    assert "being changed" in refused(operator.post(path, node_id=moving.there.node_id), 409)
    moving.here.say()
    moving.begin()


def test_keys_are_sealed_and_given_to_who_needs_them(
    control_plane: ControlPlane, acme: Tenant, host: Host
) -> None:
    vm_id = make_vm(control_plane, acme, "web-1")
    host.say()
    volume_id = make_volume(acme, "vault", encrypted=True)
    path = f"/v1/volumes/{volume_id}"
    shown = acme.member.get(path)
    assert shown.json()["encrypted"]
    made(acme.member.put(f"{path}/machine", vm_id=vm_id))
    host.say(3)
    key = volume_actions.key_for_agent(control_plane.context, host.agent_id, volume_id)
    rows = query(control_plane.context, "SELECT to_jsonb(v)::text AS t FROM volume v")
    rows += query(control_plane.context, "SELECT to_jsonb(a)::text AS t FROM allocation a")
    rows += query(control_plane.context, "SELECT to_jsonb(e)::text AS t FROM event e")
    assert len(key) == 44
    assert not any(key in row["t"] for row in rows)
    assert key not in shown.text
    assert "sealed" not in shown.text
    assert all(one["config"].get("encrypted", 1) == 1 for one in host.wishes() if one["driver"] == "qcow2")
    stranger = Host(control_plane, "hv9")
    with pytest.raises(NotFoundError):
        volume_actions.key_for_agent(control_plane.context, stranger.agent_id, volume_id)
    refused(acme.member.post(f"{path}/snapshots", name="one"), 409)


def test_what_a_node_says_of_a_volume_is_shown(control_plane: ControlPlane, acme: Tenant, host: Host) -> None:
    vm_id = make_vm(control_plane, acme, "web-1")
    host.say()
    volume_id = make_volume(acme, "data")
    made(acme.member.put(f"/v1/volumes/{volume_id}/machine", vm_id=vm_id))
    host.say(3, problems={f"volume:{volume_id}": "this volume is not on this node"})
    shown = acme.member.get(f"/v1/volumes/{volume_id}").json()
    assert (shown["state"], shown["message"]) == ("degraded", "this volume is not on this node")


def test_what_cannot_be_is_refused(
    control_plane: ControlPlane, acme: Tenant, globex: Tenant, host: Host
) -> None:
    vm_id, theirs = make_vm(control_plane, acme, "web-1"), make_vm(control_plane, globex, "web-1")
    host.say()
    body = {"project_id": acme.project_id, "name": "data", "size_gib": 1}
    volume_id = made(acme.member.post("/v1/volumes", **body))["id"]
    refused(acme.member.post("/v1/volumes", **body), 409, "name")
    refused(acme.member.post("/v1/volumes", **{**body, "name": "x", "size_gib": 0}), 422, "size_gib")
    refused(acme.member.post("/v1/volumes", **{**body, "name": "x", "driver": "tape"}), 422, "driver")
    path = f"/v1/volumes/{volume_id}"
    assert acme.member.put(f"{path}/machine", vm_id=theirs).status_code == 404
    assert globex.member.put(f"{path}/machine", vm_id=theirs).status_code == 404
    assert acme.auditor.put(f"{path}/machine", vm_id=vm_id).status_code == 403
    for number in range(8):
        made(acme.member.put(f"/v1/volumes/{make_volume(acme, f'v{number}')}/machine", vm_id=vm_id))
    assert "at most 8" in refused(acme.member.put(f"{path}/machine", vm_id=vm_id), 409)


def test_volumes_count_against_quotas_and_are_metered(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, operator: Caller
) -> None:
    for dimension, limit in (("volumes", 2), ("volume_gib", 10)):
        made(operator.put("/v1/quotas", tenant_id=acme.id, dimension=dimension, limit=limit))
    volume_id = make_volume(acme, "data", size_gib=6)
    body = {"project_id": acme.project_id, "name": "more", "size_gib": 5}
    assert "volume_gib" in acme.member.post("/v1/volumes", **body).text
    assert acme.member.put(f"/v1/volumes/{volume_id}/size", size_gib=11).status_code == 409
    clock.advance(timedelta(hours=1))
    made(acme.member.put(f"/v1/volumes/{volume_id}/size", size_gib=8))
    clock.advance(timedelta(hours=1))
    assert control_plane.volumes.meter() == 1
    assert control_plane.volumes.meter() == 0
    (day,) = acme.member.get(f"/v1/volumes/{volume_id}/usage").json()["items"]
    assert (day["gib_seconds"], day["gib_hours"]) == ((6 + 8) * 3_600, 14.0)
    made(acme.member.delete(f"/v1/volumes/{volume_id}"))
    used = {row["dimension"]: row["used"] for row in acme.admin.get("/v1/quotas").json()["items"]}
    assert (used["volumes"], used["volume_gib"]) == (0, 0)
    control_plane.volumes.tick()
    assert acme.member.get("/v1/volumes").json()["items"] == []
