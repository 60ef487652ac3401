"""Two agents of one host: one at a time acts, and neither ever takes away what the other one made."""

from pathlib import Path
from typing import Any

import pytest

from penstock.agent.clear_host import clear
from penstock.base.clock import SystemClock
from penstock.base.errors import ConflictError, HostHeldError, NotFoundError
from penstock.base.ids import new_id
from penstock.drivers.base import CheckState, Phase, Traffic, Wanted
from penstock.drivers.haproxy.driver import HaproxyDriver, unavailable
from penstock.drivers.load_balancer.contract import a_balancer
from penstock.drivers.network.contract import ANYTHING, a_network, a_port
from penstock.drivers.nftables.driver import NftablesNetworkDriver
from penstock.drivers.nftables.host_lock import Holder, HostLock
from tests.support.network_hosts import Fabric, Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("network")
VNI = 7_003


class Agent:
    """The drivers of one agent on a host, with a network of its own and a guest in it."""

    def __init__(self, host: Host, name: str, locks: Path) -> None:
        self.id = new_id("agent", SystemClock().now())
        self.host = host
        self.lock = HostLock(Holder(self.id, name, "a factory"), host=host.path, folder=locks)
        self.networks = NftablesNetworkDriver(SystemClock(), host=host.path, lock=self.lock)
        self.balancers = HaproxyDriver(SystemClock(), host=host.path, lock=self.lock)
        self.ports = [a_port("10.0.0.2", [dict(ANYTHING)]), a_port("10.0.0.9", [dict(ANYTHING)])]

    def wait_ready(self, number: int) -> None:
        """Wait until so many things of this agent's are here and all of them serve."""

        def phases() -> list[Phase]:
            return [one.phase for one in (*self.networks.observe(), *self.balancers.observe())]

        until(lambda: phases() == [Phase.READY] * number, lambda: f"{number} ready, not {phases()}")

    def network(self, vni: int) -> Wanted:
        config = a_network(vni, 0, [self.host.underlay], self.ports)
        return Wanted(new_id("allocation", SystemClock().now()), 1, config)

    def balancer(self, vni: int) -> Wanted:
        own = self.ports[1]
        place: dict[str, Any] = {name: own[name] for name in ("tap", "mac", "address")}
        place |= {"bridge": f"pnb{vni}", "prefix_length": 24, "gateway": "10.0.0.1", "mtu": 1_450}
        return Wanted(new_id("allocation", SystemClock().now()), 1, a_balancer(place, [("10.0.0.2", 80)]))


@pytest.fixture
def host(fabric: Fabric) -> Host:
    if (why := unavailable()) is not None:
        pytest.skip(why)
    return fabric.host()


def test_the_second_agent_touches_nothing_takes_over_and_leaves_alone_what_the_first_made(
    host: Host, tmp_path: Path
) -> None:
    first, second = Agent(host, "first", tmp_path), Agent(host, "second", tmp_path)
    network, balancer = first.network(VNI), first.balancer(VNI)
    assert first.networks.ensure(network).phase is Phase.READY
    assert first.balancers.ensure(balancer).phase is Phase.READY

    other, drivers = second.network(VNI + 1), (second.networks, second.balancers)
    for driver in drivers:
        assert "'first'" in str(driver.refused())
        assert driver.observe() == []
        with pytest.raises(HostHeldError, match="'first'"):
            driver.remove(network.allocation_id)
        assert driver.checks()[0].state is CheckState.WARNING
    with pytest.raises(HostHeldError):
        second.networks.ensure(other)
    with pytest.raises(HostHeldError):
        second.balancers.ensure(second.balancer(VNI))
    assert second.networks.traffic(counts=True) == Traffic()
    first.wait_ready(2)

    first.lock.release()  # as its end would
    assert [driver.refused() for driver in drivers] == [None, None]
    assert second.networks.ensure(other).phase is Phase.READY
    assert [one.allocation_id for one in second.networks.observe()] == [other.allocation_id]
    assert second.balancers.observe() == []
    assert f"networks of {first.id}: 1;" in second.networks.checks()[0].message
    assert f"load balancers of {first.id}: 1;" in second.balancers.checks()[0].message
    with pytest.raises(
        ConflictError, match=f"number {VNI} of agent {first.id} .* clear-host --owner {first.id}"
    ):
        second.networks.ensure(second.network(VNI))
    second.networks.remove(other.allocation_id)
    assert second.networks.owners() == {first.id: 1}
    assert second.networks.leaks() == []

    second.lock.release()
    first.wait_ready(2)


def test_agents_of_two_hosts_on_one_machine_do_not_hinder_each_other(
    fabric: Fabric, host: Host, tmp_path: Path
) -> None:
    agents = [Agent(one, "agent", tmp_path) for one in (host, fabric.host())]
    wanted = [agent.network(VNI) for agent in agents]
    for agent, one in zip(agents, wanted, strict=True):
        assert agent.networks.ensure(one).phase is Phase.READY
    for agent in agents:
        agent.wait_ready(1)


def test_an_agent_that_joined_anew_goes_on_with_what_is_wanted_of_it(host: Host, tmp_path: Path) -> None:
    before, after = Agent(host, "hv1", tmp_path), Agent(host, "hv1", tmp_path)
    network, balancer = before.network(VNI), before.balancer(VNI)
    before.networks.ensure(network)
    before.balancers.ensure(balancer)
    before.lock.release()
    assert after.networks.ensure(network).phase is Phase.READY
    assert after.balancers.ensure(balancer).phase is Phase.READY
    assert after.networks.owners() == after.balancers.owners() == {after.id: 1}
    after.wait_ready(2)


def test_what_a_gone_agent_left_is_cleared_away_by_name_and_never_from_one_that_works(
    host: Host, tmp_path: Path
) -> None:
    gone, here = Agent(host, "gone", tmp_path), Agent(host, "here", tmp_path)
    network = gone.network(VNI)
    gone.networks.ensure(network)
    gone.balancers.ensure(gone.balancer(VNI))
    at: dict[str, Any] = {"host": host.path, "folder": tmp_path}
    with pytest.raises(ConflictError, match="stop it first"):
        clear(gone.id, SystemClock(), **at)
    gone.lock.release()
    assert clear(None, SystemClock(), **at) == [
        "no agent has this host's networks now",
        f"load balancers of {gone.id}: 1",
        f"networks of {gone.id}: 1",
    ]
    kept = here.network(VNI + 1)
    here.networks.ensure(kept)
    assert here.id in clear(None, SystemClock(), **at)[0]
    assert clear(gone.id, SystemClock(), **at) == [
        f"load balancers of {gone.id} taken away: 1",
        f"networks of {gone.id} taken away: 1",
    ]
    with pytest.raises(NotFoundError, match="nothing of agent"):
        clear(gone.id, SystemClock(), **at)
    here.wait_ready(1)
    assert here.networks.leaks() == here.balancers.leaks() == []
