"""A factory with two hypervisor hosts that carry tenants' networks, for a whole module: booting guests takes time.

Tests of one module share it, its tenants and its machines, and leave each as they found it.
"""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from penstock.api.app import create_app
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from penstock.drivers.nftables.driver import NftablesNetworkDriver
from tests.fixtures.factory import plain, swap_database
from tests.support import guest_image
from tests.support.agent_process import AgentProcess
from tests.support.guests import Guest, Key, make_key
from tests.support.hypervisors import Fabric, Host
from tests.support.infrastructure import query
from tests.support.machine_engine import Engine, prepared
from tests.support.networks import made, make_network, make_pool, make_port, make_subnet
from tests.support.ports import free_port
from tests.support.tenancy import Caller, Tenant, make_caller, make_tenant
from tests.support.waiting import until

PREFIX = "10.0.0.0/24"
SPEC = {"image": "tiny", "ssh_keys": ["laptop"], "memory_mib": 160, "disk_gib": 1}


@dataclass
class Machine:
    """A tenant's machine with its port and the floating address that leads to it."""

    id: str
    tenant: Tenant
    port: dict[str, Any]
    group_id: str
    guest: Guest


@dataclass
class MachineSite:
    """What tests of machines on tenants' networks share."""

    plane: ControlPlane
    client: TestClient
    operator: Caller
    fabric: Fabric
    key: Key
    agents: list[AgentProcess]
    engine: Engine
    folder: Path
    stack: ExitStack
    pool_id: str = ""
    node_ids: list[str] = field(default_factory=list[str])

    def add_agent(self, host: Host) -> AgentProcess:
        """Return a new agent in the network of a host; it ends with the site."""
        agent = AgentProcess(self.folder / host.name, host, inside=True)
        self.stack.callback(agent.close)
        self.stack.callback(_end, agent)
        self.agents.append(agent)
        return agent

    def tenant(self, name: str) -> Tenant:
        """Make a tenant whose SSH key is registered."""
        tenant = make_tenant(self.plane, self.client, name)
        body = {"project_id": tenant.project_id, "name": "laptop", "public_key": self.key.public}
        made(tenant.member.post("/v1/ssh-keys", **body))
        return tenant

    def order(self, tenant: Tenant, name: str) -> Machine:
        """Order a machine on a network of its tenant, with SSH and ping let in at a floating address."""
        return self.launch(self.place(tenant, self.network(tenant, name), name))

    def network(self, tenant: Tenant, name: str) -> tuple[str, str]:
        """Make a network; return the ids of its subnet, and of its group that lets SSH and ping in."""
        caller = tenant.member
        network_id = make_network(tenant, f"net-{name}")
        subnet_id = make_subnet(tenant, network_id, "front", PREFIX)
        group = made(caller.post("/v1/security-groups", network_id=network_id, name="in"))
        for rule in ({"protocol": "icmp"}, {"protocol": "tcp", "port_min": 22, "port_max": 22}):
            made(caller.post(f"/v1/security-groups/{group['id']}/rules", direction="in", **rule))
        return subnet_id, group["id"]

    def place(self, tenant: Tenant, network: tuple[str, str], name: str) -> Machine:
        """Make a port with a floating address, and return what is to be a machine there."""
        subnet_id, group_id = network
        port = make_port(tenant, subnet_id, name, security_group_ids=[group_id])
        caller = tenant.member
        body = {"project_id": tenant.project_id, "pool_id": self.pool_id, "name": name}
        floating = made(caller.post("/v1/floating-addresses", **body))
        made(caller.put(f"/v1/floating-addresses/{floating['id']}/port", port_id=port["id"]))
        return Machine("", tenant, port, group_id, Guest(self.fabric, floating["address"], self.key))

    def launch(self, machine: Machine, **more: Any) -> Machine:
        """Order a machine at its port; ``more`` is said in its spec."""
        spec = {**SPEC, "ports": [machine.port["id"]], **more}
        body = {"project_id": machine.tenant.project_id, "name": machine.port["name"], "spec": spec}
        machine.id = made(machine.tenant.member.post("/v1/vms", **body))["id"]
        return machine

    def publish(self, name: str, content: bytes) -> None:
        """Put an image into the catalogue."""
        image = made(self.operator.post("/v1/images", name=name))
        sent = self.operator.request("PUT", f"/v1/images/{image['id']}/content", content=content)
        assert sent.status_code == 200, sent.text

    def vm(self, machine: Machine) -> dict[str, Any]:
        """Return a machine as its tenant sees it."""
        return dict(machine.tenant.member.get(f"/v1/vms/{machine.id}").json())

    def wait(self, machine: Machine, state: str) -> dict[str, Any]:
        """Wait until a machine is in a state, and return it."""
        until(
            lambda: self.vm(machine)["state"] == state,
            lambda: f"{state}, not {self.vm(machine)} {self.said()}",
        )
        return self.vm(machine)

    def volume_file(self, volume_id: str) -> Path:
        """Return where a volume of a host's own is."""
        files = [agent.state / "libvirt" / "volumes" / f"{volume_id}.qcow2" for agent in self.agents]
        return next(file for file in files if file.exists())

    def said(self) -> str:
        """Return the end of what each agent logged."""
        logs = [self.engine.log, *(agent.log for agent in self.agents)]
        return "\n".join(log.read_text()[-1_500:] for log in logs if log.exists())

    def folders(self, *parts: str) -> list[str]:
        """Return what hosts keep of machines or volumes, by name."""
        places = [agent.state / "libvirt" / part for agent in self.agents for part in parts]
        return [one.name for place in places for one in place.glob("*")]

    def left(self) -> dict[str, list[Any]]:
        """Return what hosts and books still hold of machines and networks."""
        found: dict[str, list[Any]] = {"domains": [], "links": [], "folders": [], "networks": []}
        for agent in self.agents:
            found["domains"] += agent.host.domains()
            found["links"] += agent.host.links()
            driver = NftablesNetworkDriver(SystemClock(), host=agent.host.network)
            found["networks"] += [*driver.leaks(), *driver.owners()]
        held = "SELECT id FROM claim WHERE released_at IS NULL"
        found["folders"] = self.folders("machines", "volumes")
        found["claims"] = list(query(self.plane.context, held))
        found["allocations"] = list(query(self.plane.context, "SELECT id, driver, wanted FROM allocation"))
        return found

    def strays(self) -> list[str]:
        """Return what hosts have and the books do not, and the other way round: domains, files, networks and rules."""
        found: list[str] = []
        wanted = (
            "SELECT a.id, a.driver FROM allocation a JOIN node n ON n.id = a.node_id WHERE n.name = :name"
        )
        volumes = {row["id"] for row in query(self.plane.context, "SELECT id FROM volume")}
        for agent in self.agents:
            host, kept = agent.host, agent.state / "libvirt"
            booked: dict[str, set[str]] = {"libvirt": set(), "nftables": set()}
            for row in query(self.plane.context, wanted, name=host.name):
                booked.setdefault(row["driver"], set()).add(row["id"])
            driver = NftablesNetworkDriver(SystemClock(), host=host.network)
            there = {
                "domain": (set(host.domains()), booked["libvirt"]),
                "folder": ({one.name for one in (kept / "machines").glob("*")}, booked["libvirt"]),
                "network": (_networks(driver), booked["nftables"]),
            }
            found += [f"{host.name}: {kind} {one}" for kind, (a, b) in there.items() for one in a ^ b]
            files = {one.stem.partition("-")[0] for one in (kept / "volumes").glob("*")}
            found += [f"{host.name}: volume {one}" for one in files - volumes]
            found += [f"{host.name}: {one}" for one in driver.leaks()]
        return found

    def clear(self) -> None:
        """Give back everything that tenants ordered; the hosts must be as they were."""
        tenants = [row["id"] for row in self.operator.get("/v1/tenants").json()["items"]]
        assert tenants
        for vm in self.operator.get("/v1/vms").json()["items"]:
            made(self.operator.delete(f"/v1/vms/{vm['id']}"))
        until(
            lambda: self.operator.get("/v1/vms").json()["items"] == [], lambda: f"machines go: {self.said()}"
        )
        for row in self.operator.get("/v1/volumes").json()["items"]:
            self.operator.delete(f"/v1/volumes/{row['id']}")
        for path in ("floating-addresses", "ports"):
            for row in self.operator.get(f"/v1/{path}").json()["items"]:
                self.operator.delete(f"/v1/{path}/{row['id']}")
        for row in self.operator.get("/v1/networks").json()["items"]:
            self.operator.delete(f"/v1/networks/{row['id']}")
        until(lambda: not any(self.left().values()), lambda: f"nothing is left: {self.left()}")


@contextmanager
def machine_site(
    template_url: str, fabric: Fabric, hosts: list[Host], folder: Path, name: str
) -> Iterator[MachineSite]:
    """Yield a factory whose hosts are ``hosts`` (none: the test brings them); at the end nothing may be left on them."""
    reason = guest_image.missing()
    if reason is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        with psycopg.connect(plain(template_url), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template_penstock STRATEGY FILE_COPY")
        stack.callback(_drop, template_url, name)
        folder.mkdir(exist_ok=True)
        plane = prepared(swap_database(template_url, name), folder)
        stack.callback(plane.close)
        plane.seed()
        plane.listen()
        client = stack.enter_context(TestClient(create_app(plane)))
        engine = Engine(swap_database(template_url, name), folder, free_port())
        engine.start()
        stack.callback(engine.kill)
        operator = make_caller(plane, client, "op@factory.test", Role.OPERATOR, kind="user")
        site = MachineSite(plane, client, operator, fabric, make_key(folder), [], engine, folder, stack)
        body = {"life_seconds": 300}
        until(
            lambda: operator.post("/v1/join-tokens", **body).status_code < 300,
            lambda: f"engine: {site.said()}",
        )
        for host in hosts:
            token = made(operator.post("/v1/join-tokens", **body))["token"]
            site.add_agent(host).join(engine.url, token)
        if hosts:
            _publish(site, hosts)
        yield site
        site.clear()


def _publish(site: MachineSite, hosts: list[Host]) -> None:
    site.publish("tiny", guest_image.tiny_image().read_bytes())
    site.pool_id = make_pool(site.operator, "public", "198.51.100.0/24")

    def joined() -> dict[str, str]:
        rows = site.operator.get("/v1/nodes").json()["items"]
        return {row["name"]: row["id"] for row in rows}

    until(lambda: set(joined()) >= {host.name for host in hosts}, lambda: f"hosts join: {site.said()}")
    site.node_ids = [joined()[host.name] for host in hosts]
    for host, node_id in zip(hosts, site.node_ids, strict=True):
        body = {"underlay_address": host.address, "external_bridge": "br-ext"}
        made(site.operator.put(f"/v1/network-hosts/{node_id}", **body))


def _networks(driver: NftablesNetworkDriver) -> set[str]:
    """Return the allocations of a host's networks, whichever agent made them: a driver observes its own agent's only."""
    return {mark.allocation_id for mark in driver._marks().values()}


def _end(agent: AgentProcess) -> None:
    if agent.process is not None and agent.process.poll() is None:
        agent.end(signal.SIGTERM)


def _drop(template_url: str, name: str) -> None:
    with psycopg.connect(plain(template_url), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
