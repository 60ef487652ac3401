"""A control plane with a simulated site and its agent, driven by hand: each call to ``turn`` is one round."""

from collections.abc import Sequence
from pathlib import Path

from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions.bootstrap import FirstKeys, bootstrap
from penstock.actions.enrolment import SiteFacts
from penstock.agent.in_process_link import InProcessLink
from penstock.agent.loop import Agent
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Driver
from penstock.drivers.simulated.driver import SimulatedDriver
from penstock.drivers.simulated.site import parse_site


class SimulatedFactory:
    """Everything but threads: what happens, happens when the test says so."""

    def __init__(
        self, plane: ControlPlane, folder: Path, shape: str = "2x4:H100", more: Sequence[Driver] = ()
    ) -> None:
        self.plane = plane
        self.folder = folder
        self.spec = parse_site(shape, dict(plane.context.device_classes))
        plane.seed()
        self.keys: FirstKeys = bootstrap(plane.context, folder / "keys")
        self.driver = SimulatedDriver(folder / "world", plane.clock, self.spec)
        self.drivers: dict[str, Driver] = {one.name: one for one in (self.driver, *more)}
        self.agent_id = agent_actions.ensure_in_process(plane.context, "simulated")
        self.nodes = self.enroll()
        self.agent = self.new_agent()

    def new_agent(self) -> Agent:
        """Return an agent that remembers nothing, as one that was killed and started again."""
        return Agent(InProcessLink(self.plane.context, self.agent_id), self.drivers, self.plane.clock)

    def enroll(self) -> dict[str, str]:
        """Report the inventory; return node ids by name."""
        facts = self.driver.inventory().nodes
        drivers = {node.name: tuple(self.drivers) for node in facts}
        site = SiteFacts(self.spec.name, simulated=True)
        return node_actions.enroll(self.plane.context, self.agent_id, site, facts, drivers)

    def turn(self, rounds: int = 1) -> None:
        """Let engine and agent act until neither has anything to do, at most ``rounds`` times each."""
        for _ in range(rounds):
            while self.plane.services.tick():
                pass
            self.agent.step(0.0)
            self.plane.nodes.tick()
            while self.plane.services.tick():
                pass

    def close(self) -> None:
        """Close the world's journal."""
        self.driver.close()
