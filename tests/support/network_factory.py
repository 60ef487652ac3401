"""A control plane whose nodes carry networks, turned by hand: with any drivers of networks, one agent per node."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import sqlalchemy as sa

from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions.enrolment import SiteFacts
from penstock.agent.in_process_certificates import InProcessCertificates
from penstock.agent.in_process_link import InProcessLink
from penstock.agent.loop import Agent
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Driver, NodeFacts
from penstock.drivers.load_balancer.model import CertificateSource
from penstock.store.database import SYSTEM
from penstock.store.schema import allocation, load_balancer, network, node
from tests.support.networks import made
from tests.support.tenancy import Caller


@dataclass
class NetworkFactory:
    """Nodes hv1, hv2, ... with a driver each; what happens, happens when ``settle`` is called."""

    plane: ControlPlane
    clock: ManualClock
    operator: Caller
    node_ids: list[str] = field(default_factory=list[str])
    agents: list[Agent] = field(default_factory=list[Agent])

    def add_host(
        self,
        driver: Driver,
        underlay: str,
        external_bridge: str | None = None,
        balancers: Callable[[CertificateSource], Driver] | None = None,
    ) -> str:
        """Enrol a node and make it carry networks, with ``balancers`` load balancers too; return its id."""
        number = len(self.node_ids) + 1
        facts = NodeFacts(f"hv{number}", "x86_64", "test", 4, 8, 1 << 34)
        agent_id = agent_actions.ensure_in_process(self.plane.context, f"hv{number}")
        drivers = {driver.name: driver}
        if balancers is not None:
            more = balancers(InProcessCertificates(self.plane.context, agent_id))
            drivers[more.name] = more
        site = SiteFacts("test", simulated=driver.simulated)
        ids = node_actions.enroll(self.plane.context, agent_id, site, [facts], {facts.name: tuple(drivers)})
        node_id = ids[facts.name]
        self.agents.append(Agent(InProcessLink(self.plane.context, agent_id), drivers, self.clock))
        self.node_ids.append(node_id)
        made(
            self.operator.put(
                f"/v1/network-hosts/{node_id}", underlay_address=underlay, external_bridge=external_bridge
            )
        )
        return node_id

    def settle(self, rounds: int = 6) -> None:
        """Let engine and agents act until nothing is left to do."""
        for _ in range(rounds):
            if not self.round():
                return
        raise AssertionError(f"still busy: {self.told()}")

    def round(self) -> bool:
        """Let engine and agents act once; return whether anything is left to do, for which time has passed then."""
        self.plane.load_balancers.tick()
        self.plane.networks.tick()
        self.plane.load_balancers.tick()
        for agent in self.agents:
            agent.step(0.0)
        busy = self._busy()
        if busy:
            self.clock.advance(timedelta(seconds=1.5))
        return busy

    def turn(self, clock: ManualClock) -> None:
        """Let agents look at what is there, and the engine hear of it."""
        clock.advance(timedelta(seconds=3))
        for agent in self.agents:
            agent.step(0.0)
        self.plane.load_balancers.tick()

    def _busy(self) -> bool:
        query = sa.select(sa.func.count()).where(
            sa.or_(
                allocation.c.wanted == "absent",
                allocation.c.phase_generation != allocation.c.generation,
            ),
            allocation.c.node_id.in_(sa.select(node.c.id).where(node.c.state == "ready")),
        )
        late = sa.select(sa.func.count()).where(network.c.revision != network.c.applied_revision)
        waiting = sa.select(sa.func.count()).where(
            sa.or_(
                sa.and_(
                    load_balancer.c.revision != load_balancer.c.applied_revision,
                    load_balancer.c.node_id.is_not(None),
                    load_balancer.c.wanted == "present",
                ),
                load_balancer.c.due_at <= self.clock.now() + timedelta(seconds=2),
            )
        )
        with self.plane.db.transaction(SYSTEM) as connection:
            return any(connection.execute(one).scalar_one() for one in (query, late, waiting))

    def told(self) -> Sequence[object]:
        """Return every allocation of a network: node, wanted, phase, message."""
        query = sa.select(
            allocation.c.node_id,
            allocation.c.wanted,
            allocation.c.phase,
            allocation.c.code,
            allocation.c.message,
        )
        with self.plane.db.transaction(SYSTEM) as connection:
            return list(connection.execute(query.where(allocation.c.network_id.is_not(None))))

    def gateway_of(self, network_id: str) -> str:
        """Return the node by which a network goes out."""
        with self.plane.db.transaction(SYSTEM) as connection:
            query = sa.select(network.c.gateway_node_id).where(network.c.id == network_id)
            return str(connection.execute(query).scalar_one())

    def lose(self, node_id: str) -> None:
        """Make a node unreachable, as when its agent is silent; its agent acts no more."""
        del self.agents[self.node_ids.index(node_id)]
        with self.plane.db.transaction(SYSTEM) as connection:
            connection.execute(sa.update(node).where(node.c.id == node_id).values(state="unreachable"))

    def place(self, port_id: str, node_id: str | None) -> None:
        """Plug a port in on a node."""
        made(self.operator.put(f"/v1/ports/{port_id}/node", node_id=node_id))
