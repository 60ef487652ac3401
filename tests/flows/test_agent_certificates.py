"""Keys of certificates over mutual TLS: a remote agent gets those that it was told to listen with, and no others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.actions import node as node_actions
from penstock.actions.enrolment import SiteFacts
from penstock.agent.certificates import HttpsCertificates
from penstock.agent.identity import IdentityFolder
from penstock.agent.join import join
from penstock.api.agent_listener import AgentListener, serve_agents
from penstock.base.clock import SystemClock
from penstock.base.errors import UnavailableError
from penstock.control_plane import ControlPlane
from penstock.drivers.base import NodeFacts
from penstock.drivers.pki.authority import FactoryCa
from penstock.store.database import SYSTEM
from penstock.store.schema import allocation, load_balancer
from tests.support.networks import made, make_balancer, make_certificate, make_network, make_subnet
from tests.support.tenancy import Caller, Tenant


@pytest.fixture
def clock() -> SystemClock:
    """Real time: TLS looks at it."""
    return SystemClock()


@pytest.fixture
def listener(control_plane: ControlPlane, tmp_path: Path) -> Iterator[AgentListener]:
    handle = serve_agents(control_plane, FactoryCa(tmp_path / "pki", control_plane.clock), "127.0.0.1", 0)
    yield handle
    handle.stop()


def joined(
    listener: AgentListener, operator: Caller, folder: Path, name: str
) -> tuple[str, HttpsCertificates]:
    """Join as an agent; return its id and what asks for certificates in its name."""
    token = made(operator.post("/v1/join-tokens", life_seconds=600))["token"]
    identity = join(IdentityFolder(folder), url=listener.url, token=token, name=name, site="remote")
    return identity.agent_id, HttpsCertificates(IdentityFolder(folder))


def test_a_remote_agent_gets_the_keys_that_it_listens_with(
    control_plane: ControlPlane, listener: AgentListener, operator: Caller, acme: Tenant, tmp_path: Path
) -> None:
    agent_id, mine = joined(listener, operator, tmp_path / "one", "one")
    _, other = joined(listener, operator, tmp_path / "two", "two")
    facts = NodeFacts("hv1", "x86_64", "test", 4, 8, 1 << 34)
    drivers = {"hv1": ("simulated_network", "simulated_load_balancer")}
    ids = node_actions.enroll(
        control_plane.context, agent_id, SiteFacts("remote", simulated=False), [facts], drivers
    )
    made(operator.put(f"/v1/network-hosts/{ids['hv1']}", underlay_address="10.77.0.11"))
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    used, unused = (make_certificate(acme, name, f"{name}.test") for name in ("used", "unused"))
    listeners = [{"port": 443, "mode": "https", "certificate_id": used}]
    one = make_balancer(acme, subnet_id, "www", listeners=listeners)
    with pytest.raises(UnavailableError):
        mine.content(used)
    config = {"listeners": [{"port": 443, "mode": "https", "certificate": used, "version": 1}]}
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(load_balancer.update().values(node_id=ids["hv1"]))
        connection.execute(
            allocation.insert().values(
                id=control_plane.context.new_id("allocation"),
                load_balancer_id=one["id"],
                tenant_id=acme.id,
                project_id=acme.project_id,
                node_id=ids["hv1"],
                agent_id=agent_id,
                driver="simulated_load_balancer",
                wanted="present",
                generation=1,
                config=config,
                phase="pending",
            )
        )
    content = mine.content(used)
    assert content.startswith(b"-----BEGIN CERTIFICATE")
    assert b"-----BEGIN PRIVATE KEY" in content
    for source, certificate_id in ((other, used), (mine, unused), (mine, "crt_" + "0" * 26)):
        with pytest.raises(UnavailableError, match="404"):
            source.content(certificate_id)
