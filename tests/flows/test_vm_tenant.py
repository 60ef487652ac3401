"""Machines on their tenants' own networks, from order to SSH through a floating address: real packets, two hosts.

The module shares two hosts and two machines of two tenants, which have the same prefix and the same address.
"""

from collections.abc import Iterator

import pytest

from penstock.drivers.embedded_postgres.server import EmbeddedPostgres
from tests.support.guests import until
from tests.support.hypervisors import Fabric, Host
from tests.support.machine_site import Machine, MachineSite, machine_site
from tests.support.networks import made

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(400)]
_TOKEN = "PUT /latest/api/token HTTP/1.0\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n"
_ASK = "GET /latest/meta-data/{} HTTP/1.0\\r\\nX-aws-ec2-metadata-token: {}\\r\\n\\r\\n"


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


@pytest.fixture(scope="module")
def machines(site: MachineSite) -> tuple[Machine, Machine]:
    """Return a running machine of each of two tenants."""
    both = site.order(site.tenant("acme"), "web"), site.order(site.tenant("globex"), "db")
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
    assert _say(web, _ASK.format("local-ipv4", token)) == web.port["address"]
    assert _say(web, _ASK.format("instance-id", token)) == web.id
    assert "token is needed" in _say(web, _ASK.format("local-ipv4", "x"))


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


def test_stopped_and_started_it_has_its_address(site: MachineSite, web: Machine) -> None:
    caller = web.tenant.member
    for action, state in (("stop", "stopped"), ("start", "running")):
        made(caller.post(f"/v1/vms/{web.id}/power", action=action))
        site.wait(web, state)
    web.guest.wait()
    assert web.port["address"] in web.guest.run("ip -4 -o addr show eth0")


def test_moved_while_it_runs_it_stays_reachable(site: MachineSite, web: Machine) -> None:
    caller, here = site.operator, site.vm(web)["node_name"]
    there = next(agent.host.name for agent in site.agents if agent.host.name != here)
    to = site.node_ids[[agent.host.name for agent in site.agents].index(there)]
    web.guest.run("echo in-memory > /run/kept")
    with web.guest.pinged() as pings, web.guest.session() as session:
        assert session.say("echo before") == "before"
        made(caller.post(f"/v1/vms/{web.id}/move", node_id=to))
        until(
            lambda: site.vm(web)["moving_to"] is None, lambda: f"it has arrived: {site.vm(web)} {site.said()}"
        )
        assert session.say("cat /run/kept") == "in-memory", "the same connection goes on"
    assert site.wait(web, "running")["node_name"] == there
    assert pings.longest_gap_seconds < 1.0, pings.longest_gap_seconds
