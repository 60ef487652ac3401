"""Machines on their tenants' own networks, from order to SSH through a floating address: real packets, two hosts.

The module shares two hosts and two machines of two tenants, which have the same prefix and the same address.
"""

import base64
import signal
from collections.abc import Iterator

import pytest

from penstock.drivers.embedded_postgres.server import EmbeddedPostgres
from tests.support.hypervisors import Fabric, Host
from tests.support.machine_site import Machine, MachineSite, machine_site
from tests.support.networks import made
from tests.support.waiting import until

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(400)]
_USER_DATA = "#!/bin/sh\ntrue"
_TOKEN = "PUT /latest/api/token HTTP/1.0\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n"
_ASK = "GET /latest/{} HTTP/1.0\\r\\nX-aws-ec2-metadata-token: {}\\r\\n\\r\\n"


@pytest.fixture(scope="module")
def site(
    postgres: EmbeddedPostgres,
    machine_fabric: Fabric,
    hypervisor: Host,
    other_hypervisor: Host,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MachineSite]:
    url: str = postgres.template_url  # pyright: ignore[reportAttributeAccessIssue] - kept with the server it belongs to
    folder = tmp_path_factory.mktemp("vm-tenant")
    with machine_site(url, machine_fabric, [hypervisor, other_hypervisor], folder, "test_vm_tenant") as site:
        yield site


@pytest.fixture(autouse=True)
def _nothing_strays(site: MachineSite) -> Iterator[None]:
    """After each test hosts have what the books say, and nothing else."""
    yield
    until(lambda: site.strays() == [], lambda: f"hosts and books agree: {site.strays()}", 30)


@pytest.fixture(scope="module")
def machines(site: MachineSite) -> tuple[Machine, Machine]:
    """Return a running machine of each of two tenants."""
    acme, globex = site.tenant("acme"), site.tenant("globex")
    web = site.place(acme, site.network(acme, "web"), "web")
    data = base64.b64encode(_USER_DATA.encode()).decode()
    both = site.launch(web, user_data=data), site.order(globex, "db")
    for machine in both:
        site.wait(machine, "running")
        machine.guest.wait()
    return both


@pytest.fixture
def web(machines: tuple[Machine, Machine]) -> Machine:
    return machines[0]


def _say(machine: Machine, request: str) -> str:
    """Return what the metadata service answers, asked from inside the guest."""
    return machine.guest.run(f"printf '{request}' | nc 169.254.169.254 80 | sed '1,/^.$/d'").strip()


def test_a_guest_reads_what_it_is_with_a_token(web: Machine) -> None:
    token = _say(web, _TOKEN)
    assert _say(web, _ASK.format("meta-data/local-ipv4", token)) == web.port["address"]
    assert _say(web, _ASK.format("meta-data/instance-id", token)) == web.id
    assert _say(web, _ASK.format("meta-data/local-hostname", token)) == "web"
    assert _say(web, _ASK.format("meta-data/public-keys", token)) == "0=key-0"
    assert _say(web, _ASK.format("meta-data/public-keys/0/openssh-key", token)).endswith(" laptop")
    assert _say(web, _ASK.format("meta-data/name", token)) == "web"
    assert _say(web, _ASK.format("meta-data/public-ipv4", token)) == web.guest.address
    assert _say(web, _ASK.format("meta-data/placement/site", token)) != ""
    made(web.tenant.member.put(f"/v1/vms/{web.id}/tags", tags={"team/own": "a b"}))
    tag = _ASK.format("meta-data/tags/instance/team/own", token)
    until(lambda: _say(web, tag) == "a b", "a tag that is new is read soon", 10)
    assert _say(web, _ASK.format("user-data", token)) == _USER_DATA
    assert "token is needed" in _say(web, _ASK.format("user-data", "x"))
    assert "token is needed" in _say(web, _ASK.format("meta-data/local-ipv4", "x"))


def test_the_same_prefix_twice_is_two_networks(machines: tuple[Machine, Machine]) -> None:
    web, db = machines
    assert web.port["address"] == db.port["address"] == "10.0.0.2"
    assert [one.guest.run("hostname").strip() for one in machines] == ["web", "db"]
    # What a guest calls by that address is itself, and nobody is behind the neighbouring ones.
    web.guest.run("ping -c 1 -W 2 10.0.0.1")
    assert web.guest.run("ping -c 1 -W 1 10.0.0.3", check=False) == ""


def test_a_rule_opens_and_closes(web: Machine) -> None:
    caller = web.tenant.member
    web.guest.run("(while :; do echo open | nc -l -p 8080; done) >/dev/null 2>&1 &")
    closed = lambda: web.guest.knock(8080) == ""  # noqa: E731 - said in the two places where it is waited for
    assert closed()
    rule = made(
        caller.post(
            f"/v1/security-groups/{web.group_id}/rules",
            direction="in",
            protocol="tcp",
            port_min=8080,
            port_max=8080,
        )
    )
    until(lambda: web.guest.knock(8080) == "open", "the rule opens", 10)
    assert caller.delete(f"/v1/security-groups/{web.group_id}/rules/{rule['id']}").status_code < 300
    until(closed, "the rule closes", 10)
    assert web.guest.answers(), "what another rule lets in is let in still"
    web.guest.run("killall sh nc; true", check=False)


def test_stopped_and_started_it_has_its_address_and_its_volumes(site: MachineSite, web: Machine) -> None:
    caller, guest = web.tenant.member, web.guest
    ids = {name: _volume(web, name, encrypted=name == "vault") for name in ("data", "vault")}
    for volume_id in ids.values():
        made(caller.put(f"/v1/volumes/{volume_id}/machine", vm_id=web.id))
    until(
        lambda: all(_state(web, one) == "attached" for one in ids.values()),
        lambda: f"attached: {site.said()}",
    )
    disks = {name: guest.disk(volume_id) for name, volume_id in ids.items()}
    for name, disk in disks.items():
        guest.run(f"echo {name}-1 > {disk}; sync")
    assert caller.delete(f"/v1/volumes/{ids['data']}").status_code == 409
    made(caller.post(f"/v1/volumes/{ids['data']}/snapshots", name="one"))
    until(lambda: _snapshots(web, ids["data"]) == ["ready"], lambda: f"copied while it runs: {site.said()}")
    guest.run(f"echo data-2 > {disks['data']}; sync")
    made(caller.put(f"/v1/volumes/{ids['data']}/size", size_gib=2))
    blocks = f"cat /sys/block/{disks['data'].rpartition('/')[2]}/size"
    until(lambda: guest.run(blocks).strip() == str(2 << 21), "the guest sees the new size")

    for action, state in (("stop", "stopped"), ("start", "running")):
        made(caller.post(f"/v1/vms/{web.id}/power", action=action))
        site.wait(web, state)
    guest.wait()
    assert web.port["address"] in guest.run("ip -4 -o addr show eth0")
    assert [guest.run(f"head -n 1 {guest.disk(ids[name])}").strip() for name in ids] == ["data-2", "vault-1"]
    assert b"vault-1" not in site.volume_file(ids["vault"]).read_bytes()
    assert b"data-2" in site.volume_file(ids["data"]).read_bytes()

    for volume_id in ids.values():
        made(caller.delete(f"/v1/volumes/{volume_id}/machine"))
    until(
        lambda: all(_state(web, one) == "available" for one in ids.values()), lambda: f"free: {site.said()}"
    )
    assert "vdb" not in guest.run("ls /sys/block")
    (snapshot,) = caller.get(f"/v1/volumes/{ids['data']}/snapshots").json()["items"]
    made(caller.post(f"/v1/volumes/{ids['data']}/restore", snapshot_id=snapshot["id"]))
    made(caller.put(f"/v1/volumes/{ids['data']}/machine", vm_id=web.id))
    until(lambda: _state(web, ids["data"]) == "attached", lambda: f"attached again: {site.said()}")
    assert guest.run(f"head -n 1 {guest.disk(ids['data'])}").strip() == "data-1"
    for volume_id in ids.values():
        made(caller.delete(f"/v1/volumes/{volume_id}/machine"))
        until(lambda one=volume_id: _state(web, one) == "available", "free")
        made(caller.delete(f"/v1/volumes/{volume_id}"))
    until(lambda: caller.get("/v1/volumes").json()["items"] == [], lambda: f"volumes go: {site.said()}")


def _volume(machine: Machine, name: str, **more: bool) -> str:
    body = {"project_id": machine.tenant.project_id, "name": name, "size_gib": 1, **more}
    return str(made(machine.tenant.member.post("/v1/volumes", **body))["id"])


def _state(machine: Machine, volume_id: str) -> str:
    return str(machine.tenant.member.get(f"/v1/volumes/{volume_id}").json()["state"])


def _snapshots(machine: Machine, volume_id: str) -> list[str]:
    path = f"/v1/volumes/{volume_id}/snapshots"
    return [one["state"] for one in machine.tenant.member.get(path).json()["items"]]


def test_moved_while_it_runs_it_stays_reachable(site: MachineSite, web: Machine) -> None:
    caller, here = site.operator, site.vm(web)["node_name"]
    nodes = dict(zip((agent.host.name for agent in site.agents), site.node_ids, strict=True))
    there = next(name for name in nodes if name != here)
    web.guest.run("echo in-memory > /run/kept")
    path = f"/v1/volumes/{_volume(web, 'vault', encrypted=True)}"
    made(web.tenant.member.put(f"{path}/machine", vm_id=web.id))
    until(lambda: _shown(web, path) == ("attached", here), lambda: f"it has a volume: {site.said()}")
    disk = web.guest.disk(path.rpartition("/")[2])
    web.guest.run(f"echo vault-1 > {disk}; sync")
    with web.guest.pinged() as pings, web.guest.session() as session:
        assert session.say("echo before") == "before"
        made(caller.post(f"/v1/vms/{web.id}/move", node_id=nodes[there]))
        until(
            lambda: site.vm(web)["moving_to"] is None, lambda: f"it has arrived: {site.vm(web)} {site.said()}"
        )
        assert session.say("cat /run/kept") == "in-memory", "the same connection goes on"
        assert site.wait(web, "running")["node_name"] == there
        assert _shown(web, path) == ("attached", there)
        assert session.say(f"head -n 1 {disk}") == "vault-1"
        assert _say(web, _ASK.format("user-data", _say(web, _TOKEN))) == _USER_DATA

        # Emptied for its maintenance, that host says where each machine goes, and all of them go.
        lines = made(caller.post(f"/v1/nodes/{nodes[there]}/drain"))["items"]
        assert web.id in {line["vm_id"] for line in lines}
        assert {line["to_node_name"] for line in lines} == {here}
        until(lambda: _on(site, there) == set(), lambda: f"it is empty: {_on(site, there)} {site.said()}")
        assert session.say("cat /run/kept") == "in-memory", "over the same connection still"
    assert site.wait(web, "running")["node_name"] == here
    assert pings.longest_gap_seconds < 1.0, pings.longest_gap_seconds
    assert _shown(web, path) == ("attached", here)
    made(web.tenant.member.delete(f"{path}/machine"))
    until(lambda: _shown(web, path)[0] == "available", lambda: f"free: {site.said()}")
    made(web.tenant.member.delete(path))
    until(lambda: web.tenant.member.get(path).status_code == 404, lambda: f"it goes: {site.said()}")
    (left,) = (agent.host for agent in site.agents if agent.host.name == there)
    until(lambda: left.domains() == [], "nothing of it is left there")
    made(caller.post(f"/v1/nodes/{nodes[there]}/uncordon"))


def _shown(machine: Machine, path: str) -> tuple[str, str]:
    row = machine.tenant.member.get(path).json()
    return row["state"], row["node_name"]


def _on(site: MachineSite, node_name: str) -> set[str]:
    """Return the machines that are on a host, or on their way to or from it."""
    rows = site.operator.get("/v1/vms").json()["items"]
    return {row["id"] for row in rows if row["node_name"] == node_name or row["moving_to"] is not None}


def test_killed_in_mid_launch_all_of_it_converges(
    site: MachineSite, machines: tuple[Machine, Machine]
) -> None:
    """SIGKILL of the engine with its listener, then of agents and libvirtds, while one more machine is brought up."""
    third = site.order(machines[1].tenant, "third")
    site.engine.kill()
    until(lambda: site.vm(third)["state"] == "provisioning", "the API goes on")
    site.engine.start()
    until(lambda: len(site.folders("machines")) == 3, lambda: f"a host has begun: {site.said()}")
    site.engine.kill()
    for agent in site.agents:
        agent.end(signal.SIGKILL)
        agent.host.kill_libvirtd()
        agent.host.start_libvirtd()
        agent.start("run")
    site.engine.start()
    site.wait(third, "running")
    domains = [name for agent in site.agents for name in agent.host.domains()]
    assert len(domains) == len(site.folders("machines")) == 3
    assert machines[0].guest.answers(), "what ran runs on"
    made(third.tenant.member.delete(f"/v1/vms/{third.id}"))
    site.wait(third, "terminated")
    until(lambda: len(site.folders("machines")) == 2, "nothing of it is left")
