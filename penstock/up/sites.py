"""The sites of a factory that live in its own process: the local machine, and a simulated one."""

import platform
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions import secret as secret_actions
from penstock.actions.context import Context
from penstock.actions.enrolment import SiteFacts
from penstock.agent import holding
from penstock.agent.enrolling_link import EnrollingLink
from penstock.agent.in_process_certificates import InProcessCertificates
from penstock.agent.in_process_link import InProcessLink
from penstock.agent.in_process_weights import InProcessWeights
from penstock.agent.link import Link
from penstock.agent.loop import Agent
from penstock.agent.weights_report import WeightsReport
from penstock.base.units import format_bytes
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Driver, NodeFacts, Phase, ReadsSensors
from penstock.drivers.ctranslate2.driver import CTranslate2Driver
from penstock.drivers.haproxy.driver import HaproxyDriver
from penstock.drivers.haproxy.driver import unavailable as balancers_unavailable
from penstock.drivers.local.driver import LocalDriver
from penstock.drivers.nftables.driver import NftablesNetworkDriver
from penstock.drivers.nftables.driver import unavailable as networks_unavailable
from penstock.drivers.nftables.host_lock import Holder, HostLock
from penstock.drivers.openai_compatible.driver import OpenAICompatibleDriver
from penstock.drivers.simulated.driver import SimulatedDriver
from penstock.drivers.simulated.site import SiteSpec, parse_site
from penstock.drivers.simulated_fabric.driver import SimulatedFabricDriver
from penstock.drivers.simulated_load_balancer.driver import SimulatedLoadBalancerDriver
from penstock.drivers.simulated_network.driver import SimulatedNetworkDriver
from penstock.drivers.vllm.driver import VllmDriver
from penstock.drivers.weights.cache import WeightsCache

STOP_SECONDS = 30.0
ENGINES_STOP_SECONDS = 8.0
_POLL_SECONDS = 0.02

log = structlog.get_logger(__name__)


class Site(Protocol):
    """A site that starts, stops and says what it is."""

    def start(self) -> None:
        """Enrol its nodes and begin driving."""
        ...

    def stop(self) -> None:
        """Stop driving; what runs goes on running."""
        ...

    def facts(self) -> list[tuple[str, str]]:
        """Return what a person wants to know."""
        ...


class _HereLink(InProcessLink):
    """The link of this machine's agent, which also enrols what this machine is."""

    def __init__(self, context: Context, agent_id: str) -> None:
        super().__init__(context, agent_id)
        self._at = (context, agent_id)

    def enroll(self, nodes: Sequence[NodeFacts], drivers: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Report nodes and the drivers of each; return node ids by name."""
        return node_actions.enroll(*self._at, SiteFacts("local", simulated=False), nodes, drivers)


class _AgentThread:
    """An agent of this process in a thread of its own; ``link`` None: one that enrols nothing."""

    def __init__(
        self,
        plane: ControlPlane,
        name: str,
        drivers: Mapping[str, Driver],
        weights: WeightsCache | None = None,
        sensors: Sequence[ReadsSensors] = (),
        link: Link | None = None,
    ) -> None:
        self.agent_id = agent_actions.ensure_in_process(plane.context, name)
        self._plane = plane
        self._stop = threading.Event()
        report = None if weights is None else WeightsReport(weights, plane.clock)
        link = link or InProcessLink(plane.context, self.agent_id)
        agent = Agent(link, drivers, plane.clock, weights=report, sensors=sensors)
        self._thread = threading.Thread(
            target=agent.run, args=(self._stop,), name=f"agent-{name}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._plane.wakeups.signal("allocation")
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)


class LocalSite:
    """The machine this process runs on, for real."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._plane = plane
        self._inventory = LocalDriver(plane.clock)
        name = f"local-{platform.node() or 'node'}"
        agent_id = agent_actions.ensure_in_process(plane.context, name)
        source = InProcessWeights(plane.context, agent_id)
        weights = WeightsCache(folder / "weights", source, plane.clock)
        self._engines: dict[str, Driver] = {
            CTranslate2Driver.name: CTranslate2Driver(folder / "ctranslate2", plane.clock, weights=weights)
        }
        vllm = VllmDriver(folder / "vllm", plane.clock, weights=weights)
        if vllm.program is not None or vllm.observe():  # what an earlier start left running is still ours
            self._engines[vllm.name] = vllm
        self._lock = HostLock(Holder(agent_id, name, f"the factory in {folder.parent}"))
        if networks_unavailable() is None:
            self._engines[NftablesNetworkDriver.name] = NftablesNetworkDriver(plane.clock, lock=self._lock)
        if balancers_unavailable() is None:
            certificates = InProcessCertificates(plane.context, agent_id)
            self._engines[HaproxyDriver.name] = HaproxyDriver(plane.clock, certificates, lock=self._lock)
        # What runs elsewhere is watched from here: the gateway of this machine is what goes there.
        self._engines[OpenAICompatibleDriver.name] = OpenAICompatibleDriver(
            folder / "openai_compatible",
            plane.clock,
            lambda allocation_id: secret_actions.opened_for(plane.context, allocation_id),
        )
        self._nodes: Sequence[NodeFacts] = ()
        # What drives networks may have to wait for another agent of this host, so what is offered here changes.
        self._link = EnrollingLink(
            _HereLink(plane.context, agent_id),
            lambda: holding.noted(self._nodes, self._engines),
            lambda: holding.offered(self._engines),
            plane.clock,
        )
        self._thread = _AgentThread(plane, name, self._engines, weights, [self._inventory], self._link)

    def start(self) -> None:
        """Enrol this machine and begin driving engines on it."""
        self._nodes = self._inventory.inventory().nodes
        self._link.enroll()
        self._thread.start()

    def stop(self) -> None:
        """Stop driving and stop the engines: a factory that was stopped leaves no process behind.

        Only a clean stop does this. Engines outlive a killed control plane and are adopted by the next start.
        """
        self._thread.stop()
        deadline = self._plane.clock.monotonic() + ENGINES_STOP_SECONDS
        left = [(engine, one.allocation_id) for engine in self._engines.values() for one in engine.observe()]
        while left and self._plane.clock.monotonic() < deadline:
            left = [(engine, key) for engine, key in left if engine.remove(key).phase is not Phase.ABSENT]
            time.sleep(_POLL_SECONDS)
        if left:
            log.error("engines_left_behind", allocations=[key for _, key in left])
        self._lock.release()

    def facts(self) -> list[tuple[str, str]]:
        """Return what this machine is."""
        found: list[tuple[str, str]] = []
        for node in self._nodes:
            gpus = f"{len(node.devices)} GPU" if node.devices else "no GPU found"
            text = f"{node.name}: {node.cpu_model}, {node.cpu_threads} threads, {format_bytes(node.memory_bytes)}, {gpus}"
            found.append(("node (real)", text))
        refused = self._lock.refused() if NftablesNetworkDriver.name in self._engines else None
        return found if refused is None else [*found, ("networks", f"none on this host: {refused}")]


class SimulatedSite:
    """Nodes that do not exist, to try everything on."""

    def __init__(self, plane: ControlPlane, folder: Path, spec: SiteSpec) -> None:
        self._plane = plane
        self._spec = spec
        self.driver = SimulatedDriver(folder, plane.clock, spec)
        self._networks = SimulatedNetworkDriver(folder / "networks", plane.clock)
        certificates = InProcessCertificates(
            plane.context, agent_actions.ensure_in_process(plane.context, spec.name)
        )
        balancers = SimulatedLoadBalancerDriver(folder / "load-balancers", plane.clock, certificates)
        fabric = SimulatedFabricDriver(folder / "fabric", plane.clock)
        drivers = (self.driver, self._networks, balancers, fabric)
        self._drivers: dict[str, Driver] = {one.name: one for one in drivers}
        self._thread = _AgentThread(plane, spec.name, self._drivers)

    def start(self) -> None:
        """Enrol the simulated nodes and begin driving them."""
        nodes = self.driver.inventory().nodes
        budgets = {node.power_feed: self._spec.rack_power_watts for node in nodes if node.power_feed}
        site = SiteFacts(self._spec.name, simulated=True, feed_budget_watts=budgets)
        drivers = {node.name: tuple(self._drivers) for node in nodes}
        node_actions.enroll(self._plane.context, self._thread.agent_id, site, nodes, drivers)
        self._plane.inject_faults_through(self._spec.name, self.driver)
        self._thread.start()

    def stop(self) -> None:
        """Stop driving and close the journal."""
        self._thread.stop()
        self.driver.close()

    def facts(self) -> list[tuple[str, str]]:
        """Return what the site is, and that it is simulated."""
        spec = self._spec
        count = spec.node_count * spec.devices_per_node
        text = f"{spec.name}: {spec.racks} racks, {spec.node_count:,} nodes, {count:,} {spec.device_class}"
        return [("site (simulated)", text)]


def simulated_site(plane: ControlPlane, folder: Path, text: str) -> SimulatedSite:
    """Return the simulated site that ``--simulated`` names."""
    spec = parse_site(text, dict(plane.context.device_classes))
    return SimulatedSite(plane, folder / spec.name, spec)
