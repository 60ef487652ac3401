"""A machine from order to prompt: the API, a real agent process, a real libvirt, and SSH with the tenant's own key."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.api.agent_listener import AgentListener, serve_agents
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.drivers.pki.authority import FactoryCa
from tests.support import guest_image
from tests.support.guests import Guest, Key, dhcp, make_key
from tests.support.hypervisors import Fabric, Host, open_way
from tests.support.infrastructure import query
from tests.support.tenancy import Caller, Tenant
from tests.support.waiting import until

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(400)]
ADDRESS = "10.77.0.131"
_MEMORY = "awk '/MemTotal/{print $2}' /proc/meminfo"  # in KiB
SPEC = {"image": "tiny", "ssh_keys": ["laptop"], "memory_mib": 160, "disk_gib": 1}


@pytest.fixture
def clock() -> SystemClock:
    """Real time: TLS and guests look at it."""
    return SystemClock()


@pytest.fixture
def listener(control_plane: ControlPlane, tmp_path: Path) -> Iterator[AgentListener]:
    control_plane.keep_images_in(tmp_path / "images")
    control_plane.seed()
    control_plane.start_loops(alone=True)
    handle = serve_agents(control_plane, FactoryCa(tmp_path / "pki", control_plane.clock), "127.0.0.1", 0)
    yield handle
    handle.stop()


class Agent:
    """The agent of one host: a process that may be killed and started again."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.state, self.log, self.host = folder / "agent", folder / "agent.log", host
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, token: str = "") -> None:
        command = [sys.executable, "-m", "penstock", "agent", *arguments, "--state-dir", str(self.state)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PENSTOCK_JOIN_TOKEN": token},
            )

    def join(self, url: str, token: str) -> None:
        libvirt = [
            "--libvirt",
            self.host.uri,
            "--libvirt-arrivals",
            self.host.arrivals,
            "--acceleration",
            "tcg",
        ]
        self.start("join", "--url", url, "--name", self.host.name, *libvirt, token=token)

    def end(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)


class Site:
    """A factory with one host, seen by its tenant."""

    def __init__(
        self, plane: ControlPlane, operator: Caller, tenant: Tenant, host: Host, agent: Agent
    ) -> None:
        self.plane, self.operator, self.tenant, self.host, self.agent = plane, operator, tenant, host, agent

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.tenant.member.post(path, **body)
        assert answer.status_code < 300, answer.text
        return dict(answer.json())

    def launch(self, name: str, **spec: Any) -> dict[str, Any]:
        body = {
            "project_id": self.tenant.project_id,
            "name": name,
            "offer": "vm-lan",
            "spec": {**SPEC, **spec},
        }
        return self.post("/v1/vms", **body)

    def vm(self, vm_id: str) -> dict[str, Any]:
        return dict(self.tenant.member.get(f"/v1/vms/{vm_id}").json())

    def wait(self, vm_id: str, state: str) -> dict[str, Any]:
        until(lambda: self.vm(vm_id)["state"] == state, f"{state}: {self.agent.log.read_text()[-2_000:]}")
        return self.vm(vm_id)

    def left(self) -> dict[str, Any]:
        """Return what is on the host and what the books hold: nothing of either once every machine is gone."""
        folders = [
            one.name
            for part in ("machines", "volumes")
            for one in (self.agent.state / "libvirt" / part).glob("*")
        ]
        held = query(self.plane.context, "SELECT id FROM allocation") + query(
            self.plane.context, "SELECT id FROM claim WHERE released_at IS NULL"
        )
        return {"domains": self.host.domains(), "links": self.host.links(), "folders": folders, "held": held}


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return make_key(tmp_path)


@pytest.fixture
def site(
    control_plane: ControlPlane,
    operator: Caller,
    acme: Tenant,
    listener: AgentListener,
    hypervisor: Host,
    key: Key,
    tmp_path: Path,
) -> Iterator[Site]:
    reason = guest_image.missing()
    if reason is not None:
        pytest.skip(reason)
    open_way(tmp_path)
    agent = Agent(tmp_path, hypervisor)
    made = Site(control_plane, operator, acme, hypervisor, agent)
    token = operator.post("/v1/join-tokens", life_seconds=300).json()["token"]
    agent.join(listener.url, token)
    image = operator.post("/v1/images", name="tiny").json()
    sent = operator.request(
        "PUT", f"/v1/images/{image['id']}/content", content=guest_image.tiny_image().read_bytes()
    )
    assert sent.status_code == 200, sent.text
    offer = operator.post(
        "/v1/offers", name="vm-lan", kind="vm", title="On the host's bridge", fixed={"bridges": ["br0"]}
    )
    assert offer.status_code == 201, offer.text
    made.post("/v1/ssh-keys", project_id=acme.project_id, name="laptop", public_key=key.public)
    yield made
    for row in acme.member.get("/v1/vms").json()["items"]:
        acme.member.delete(f"/v1/vms/{row['id']}")
    if agent.process is None or agent.process.poll() is not None:
        agent.start("run")
    nothing = {"domains": [], "links": [], "folders": [], "held": []}
    until(lambda: made.left() == nothing, f"nothing is left: {made.left()}")
    agent.end(signal.SIGTERM)


def _mac_of(site: Site, vm_id: str) -> str:
    (row,) = query(site.plane.context, "SELECT nics FROM vm WHERE service_id = :id", id=vm_id)
    return str(row["nics"][0]["mac"])


def test_from_order_to_prompt(site: Site, machine_fabric: Fabric, key: Key, tmp_path: Path) -> None:
    data = base64.b64encode(b"#!/bin/sh\ncat /data/kept > /dev/console\necho told > /data/told\n").decode()
    vm = site.launch("web-1", user_data=data, tags={"role": "web"})
    assert vm["state"] == "provisioning"
    guest = Guest(machine_fabric, ADDRESS, key)
    with dhcp(machine_fabric, tmp_path, {_mac_of(site, vm["id"]): ADDRESS}):
        shown = site.wait(vm["id"], "running")
        assert shown["node_name"] == site.host.name
        guest.wait()
        assert guest.run("hostname; cat /data/told").split() == ["web-1", "told"]
        assert b"told" not in site.tenant.member.get(f"/v1/services/{vm['id']}").content

        _type_a_line(site, vm["id"])

        # The host's own daemon and the agent die while power and snapshot are asked for: it converges.
        guest.run("echo before > /data/kept; sync")
        snapshot = site.post(f"/v1/vms/{vm['id']}/snapshots", name="one")
        until(lambda: _snapshot(site, vm["id"])["state"] == "ready", "the snapshot is ready")
        guest.run("echo after > /data/kept; sync")
        site.agent.end(signal.SIGKILL)
        site.host.kill_libvirtd()
        site.post(f"/v1/vms/{vm['id']}/restore", snapshot_id=snapshot["id"])
        site.host.start_libvirtd()
        site.agent.start("run")
        until(lambda: guest.run("cat /data/kept", check=False) == "before\n", "the disk is back")
        site.wait(vm["id"], "running")

        memory = int(guest.run(_MEMORY))
        site.post(f"/v1/vms/{vm['id']}/power", action="stop")
        site.wait(vm["id"], "stopped")
        assert not guest.answers()
        _copied(site, vm["id"], snapshot["id"])
        site.post(f"/v1/vms/{vm['id']}/shape", memory_mib=192)
        site.post(f"/v1/vms/{vm['id']}/power", action="start")
        site.wait(vm["id"], "running")
        guest.wait()
        assert int(guest.run(_MEMORY)) - memory == pytest.approx(32 << 10, rel=0.1)

    until(lambda: site.vm(vm["id"])["meters"].get("network_received_bytes", 0) > 0, "its counters are told")
    said = site.tenant.member.get(f"/v1/vms/{vm['id']}/console").text
    assert said.count("GUEST-READY host=web-1") >= 2
    assert site.tenant.auditor.get(f"/v1/vms/{vm['id']}/console").status_code == 403
    assert [one["id"] for one in site.tenant.member.get("/v1/vms", tag="role=web").json()["items"]] == [
        vm["id"]
    ]


def _type_a_line(site: Site, vm_id: str) -> None:
    """Type into the machine's serial console, over a web socket: its getty answers."""
    member = site.tenant.member
    assert member.client is not None
    path, shown = f"/v1/vms/{vm_id}/console/session", b""
    headers = {"Authorization": f"Bearer {member.key}"}
    with member.client.websocket_connect(path, headers=headers) as socket:
        while "attached" not in (socket.receive().get("text") or ""):
            continue
        socket.send_bytes(b"ada\r")
        while b"Password:" not in shown:
            message = socket.receive()
            assert message["type"] == "websocket.send", (message, shown)
            shown += message.get("bytes") or b""
    assert b"ada" in shown, "the getty's echo"


def _copied(site: Site, vm_id: str, snapshot_id: str) -> None:
    """Make an image of a snapshot of a stopped machine, and a clone of its disk as it is, while both agents die."""
    image = site.post(
        "/v1/images", project_id=site.tenant.project_id, name="golden", vm_id=vm_id, snapshot_id=snapshot_id
    )
    clone = site.post(f"/v1/vms/{vm_id}/clone", name="web-1-copy")
    site.agent.end(signal.SIGKILL)
    site.agent.start("run")

    def shown() -> dict[str, Any]:
        return dict(site.tenant.member.get(f"/v1/images/{image['id']}").json())

    until(
        lambda: shown()["state"] != "pending",
        lambda: f"the image comes: {site.agent.log.read_text()[-2_000:]}",
    )
    assert (shown()["state"], shown()["virtual_bytes"]) == ("active", 1 << 30)
    file = site.plane.context.images.file(image["id"])
    facts = subprocess.run(["qemu-img", "info", str(file)], capture_output=True, text=True, check=True).stdout
    assert "backing file" not in facts
    subprocess.run(["qemu-img", "check", "-q", str(file)], check=True)

    def said() -> str:
        return site.tenant.member.get(f"/v1/vms/{clone['id']}/console").text

    site.wait(clone["id"], "running")
    until(lambda: "GUEST-READY host=web-1-copy" in said(), lambda: f"the clone is up: {said()[-1_000:]}")
    assert "before" in said(), "the bytes of the first one"
    until(lambda: not list(site.agent.state.glob("libvirt/machines/*/export-*")), "what was sent is removed")
    assert site.tenant.member.delete(f"/v1/vms/{clone['id']}").status_code == 202
    assert site.tenant.member.delete(f"/v1/images/{image['id']}").status_code == 204


def _snapshot(site: Site, vm_id: str) -> dict[str, Any]:
    return dict(site.tenant.member.get(f"/v1/vms/{vm_id}/snapshots").json()["items"][0])
