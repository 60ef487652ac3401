"""The engine of machines: many are plugged in and told together, each as soon as its own port is ready."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from sqlalchemy import event

from penstock.actions import agent as agent_actions
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from penstock.store.database import SYSTEM
from tests.support.infrastructure import query
from tests.support.machine_host import Host
from tests.support.machine_objects import make_vm
from tests.support.networks import make_network, make_subnet
from tests.support.tenancy import Caller, Tenant


def _order(plane: ControlPlane, acme: Tenant, first: int, count: int) -> list[str]:
    names = [f"vm-{number}" for number in range(first, first + count)]
    ids = [make_vm(plane, acme, name, subnets=["front"]) for name in names]
    plane.services.tick()
    return ids


def _report(plane: ControlPlane, host: Host, network: dict[str, object]) -> None:
    """Say that the host has made the network what it was told in ``network``, a row of its wishes."""
    said = Observed(str(network["id"]), int(str(network["generation"])), Phase.READY)
    agent_actions.push(plane.context, host.agent_id, [said])


def _network(plane: ControlPlane, host: Host) -> dict[str, object]:
    plane.networks.tick()
    rows = agent_actions.pull(plane.context, host.agent_id, 0, 0).allocations
    return dict(next(row for row in rows if row["driver"] == "simulated_network"))


def _told(plane: ControlPlane) -> set[str]:
    rows = query(plane.context, "SELECT service_id, config FROM allocation WHERE service_id IS NOT NULL")
    return {row["service_id"] for row in rows if "waiting" not in row["config"]}


@contextmanager
def _statements(plane: ControlPlane) -> Generator[Callable[[], int]]:
    """Count what is sent to the database."""
    counted: list[str] = []

    def note(*sent: object) -> None:
        counted.append(str(sent[2]))

    with plane.db.transaction(SYSTEM) as connection:
        engine = connection.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield lambda: len(counted)
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_machine_is_told_although_its_network_goes_on_changing(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    host = Host(control_plane).carry_networks(operator)
    make_subnet(acme, make_network(acme, "net"), "front", "10.0.0.0/24")
    first = _order(control_plane, acme, 0, 2)
    control_plane.vms.tick()
    old = _network(control_plane, host)
    second = _order(control_plane, acme, 2, 2)
    control_plane.vms.tick()
    new = _network(control_plane, host)
    assert new["generation"] != old["generation"]
    control_plane.vms.tick()
    assert _told(control_plane) == set(), "the host has said nothing yet"
    _report(control_plane, host, old)
    control_plane.vms.tick()
    assert _told(control_plane) == set(first), "what the host has made real does for these"
    _report(control_plane, host, new)
    control_plane.vms.tick()
    assert _told(control_plane) == {*first, *second}
    _report(control_plane, host, old)
    (now,) = query(
        control_plane.context, "SELECT phase_generation FROM allocation WHERE network_id IS NOT NULL"
    )
    assert now["phase_generation"] == new["generation"], "an old word that comes late changes nothing"


def test_what_waits_for_its_network_is_no_news_for_its_agent(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    host = Host(control_plane).carry_networks(operator)
    make_subnet(acme, make_network(acme, "net"), "front", "10.0.0.0/24")
    cursor, _ = agent_actions.with_news(control_plane.context, 1)
    (vm_id,) = _order(control_plane, acme, 0, 1)
    control_plane.vms.tick()

    def drivers() -> list[str]:
        pulled = agent_actions.pull(control_plane.context, host.agent_id, cursor, 0)
        return [row["driver"] for row in pulled.allocations]

    assert agent_actions.with_news(control_plane.context, cursor)[1] == []
    assert drivers() == []
    _report(control_plane, host, _network(control_plane, host))
    assert drivers() == ["simulated_network"]
    control_plane.vms.tick()
    assert agent_actions.with_news(control_plane.context, cursor)[1] == [host.agent_id]
    assert sorted(drivers()) == ["libvirt", "simulated_network"]
    assert _told(control_plane) == {vm_id}


def test_nothing_to_do_costs_two_statements_and_no_transaction(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    host = Host(control_plane).carry_networks(operator)
    make_subnet(acme, make_network(acme, "net"), "front", "10.0.0.0/24")
    _order(control_plane, acme, 0, 1)
    control_plane.vms.tick()
    with _statements(control_plane) as sent:
        assert control_plane.vms.tick() == 0, "its network is not there yet"
        assert sent() == 2
    _report(control_plane, host, _network(control_plane, host))
    assert control_plane.vms.tick() == 1


def test_many_machines_cost_as_many_statements_as_few(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    host = Host(control_plane).carry_networks(operator)
    make_subnet(acme, make_network(acme, "net"), "front", "10.0.0.0/24")
    costs: list[tuple[int, int]] = []
    for first, count in ((0, 1), (1, 6)):
        _order(control_plane, acme, first, count)
        with _statements(control_plane) as sent:
            control_plane.vms.tick()
            plugged_in = sent()
        _report(control_plane, host, _network(control_plane, host))
        with _statements(control_plane) as sent:
            assert control_plane.vms.tick() == count
            costs.append((plugged_in, sent()))
    assert costs[0] == costs[1]
    assert sum(costs[0]) > 0
