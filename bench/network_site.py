"""A factory with its loops and two agents on two hosts, as namespaces of this machine, whose guests send real packets."""

import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from bench import support
from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions.enrolment import SiteFacts
from penstock.agent.in_process_certificates import InProcessCertificates
from penstock.agent.in_process_link import InProcessLink
from penstock.agent.loop import Agent
from penstock.api.app import create_app
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from penstock.drivers.base import Driver, NodeFacts
from penstock.drivers.embedded_postgres.server import EmbeddedPostgres
from penstock.drivers.haproxy.driver import HaproxyDriver
from penstock.store import allocation as allocation_store
from penstock.store import load_balancer as balancer_store
from penstock.store import port as port_store
from penstock.store.database import SYSTEM
from penstock.store.migrate import migrate
from tests.support.network_hosts import Fabric, Guest, Host
from tests.support.networks import made, make_port
from tests.support.tenancy import Caller, Tenant, make_caller, make_tenant

BENCH, PATIENCE_SECONDS = "network", 60.0


@dataclass
class Site:
    """A factory with two hosts."""

    plane: ControlPlane
    operator: Caller
    tenant: Tenant
    fabric: Fabric
    hosts: list[Host] = field(default_factory=list[Host])
    node_ids: list[str] = field(default_factory=list[str])
    names: list[str] = field(default_factory=list[str])
    stops: list[threading.Event] = field(default_factory=list[threading.Event])  # of each host's agent

    def plug(self, subnet_id: str, name: str, host: int, *groups: str) -> tuple[str, Guest]:
        """Make a port and a guest at it that answers with its address; return the port's id and the guest."""
        port_id = str(make_port(self.tenant, subnet_id, name, security_group_ids=list(groups))["id"])
        made(self.operator.put(f"/v1/ports/{port_id}/node", node_id=self.node_ids[host]))

        def ready() -> bool:
            with self.plane.db.transaction(SYSTEM) as connection:
                return port_store.ready(connection, port_id)

        support.until(ready, PATIENCE_SECONDS, "a port is ready")
        with self.plane.db.transaction(SYSTEM) as connection:
            found = port_store.attachment(connection, port_id)
        if found is None:
            sys.exit(f"the port {name} is gone")
        guest = self.hosts[host].plug(found.tap, found.bridge, found.mac, found.address, found.gateway)
        guest.start("serve", found.address, "80")
        return port_id, guest

    def group(self, network_id: str, name: str) -> str:
        """Make a security group and return its id."""
        return str(
            made(self.tenant.member.post("/v1/security-groups", network_id=network_id, name=name))["id"]
        )

    def balancer_node(self, balancer_id: str) -> str:
        """Return the name of the node that has a load balancer, '' for none."""
        with self.plane.db.transaction(SYSTEM) as connection:
            row = balancer_store.get(connection, balancer_id)
        return "" if row is None else str(row["node_name"])

    def settled(self, balancer: Mapping[str, Any]) -> bool:
        """Tell whether a load balancer is on one host only, with its port."""
        with self.plane.db.transaction(SYSTEM) as connection:
            row = balancer_store.get(connection, balancer["id"])
            carrying = allocation_store.carrying(connection, "load_balancer_id", balancer["id"])
        return row is not None and row["node_id"] == row["port_node_id"] and len(carrying) == 1


@contextmanager
def a_site(folder: Path) -> Generator[Site]:
    """Yield a factory of two hosts; at the end nothing of it is left."""
    with ExitStack() as stack:
        server = EmbeddedPostgres(folder / "pg", SystemClock())
        url = server.start()
        stack.callback(server.stop)
        migrate(url)
        fabric = Fabric()
        stack.callback(fabric.stop)
        plane = ControlPlane(url, SystemClock(), connections=12)
        stack.callback(plane.close)
        plane.context.vault.load(folder / "secrets.key")
        plane.seed()
        plane.listen()
        plane.start_loops(alone=True)
        client = stack.enter_context(TestClient(create_app(plane)))
        operator = make_caller(plane, client, "op@factory.test", Role.OPERATOR, kind="user")
        site = Site(plane, operator, make_tenant(plane, client, "acme"), fabric)
        for number in (1, 2):
            _add_host(site, f"hv{number}", stack)
        yield site


def _add_host(site: Site, name: str, stack: ExitStack) -> None:
    """Add a host whose agent carries networks and load balancers; it ends with ``stack``."""
    host, context = site.fabric.host(), site.plane.context
    agent_id = agent_actions.ensure_in_process(context, name)
    networks = host.driver()
    balancers = HaproxyDriver(SystemClock(), InProcessCertificates(context, agent_id), host=host.path)
    drivers: dict[str, Driver] = {one.name: one for one in (networks, balancers)}
    for driver in (networks, balancers):
        stack.callback(_clear, driver)
    facts = NodeFacts(name, "x86_64", "test", 4, 8, 1 << 34)
    where = SiteFacts("test", simulated=False)
    ids = node_actions.enroll(context, agent_id, where, [facts], {name: tuple(drivers)})
    stop = threading.Event()
    agent = Agent(InProcessLink(context, agent_id), drivers, SystemClock())
    thread = threading.Thread(target=agent.run, args=(stop,), daemon=True)
    thread.start()
    stack.callback(lambda: (stop.set(), thread.join(30)))
    site.hosts.append(host)
    site.node_ids.append(ids[name])
    site.names.append(name)
    site.stops.append(stop)
    body = {"underlay_address": host.underlay, "external_bridge": "br-ext"}
    made(site.operator.put(f"/v1/network-hosts/{ids[name]}", **body))


def _clear(driver: Driver) -> None:
    for one in driver.observe():
        driver.remove(one.allocation_id)
