"""Networks over the API, for tests that need one."""

from ipaddress import IPv4Network
from typing import Any

from tests.support.tenancy import Caller, Tenant


def made(answer: Any) -> dict[str, Any]:
    """Return what was made; the test fails with the answer if it was not."""
    assert answer.status_code in (200, 201, 202), answer.text
    document: dict[str, Any] = answer.json()
    return document


def make_network(tenant: Tenant, name: str, **more: Any) -> str:
    """Make a network in the tenant's project and return its id."""
    return str(
        made(tenant.member.post("/v1/networks", name=name, project_id=tenant.project_id, **more))["id"]
    )


def make_subnet(tenant: Tenant, network_id: str, name: str, prefix: str, **more: Any) -> str:
    """Make a subnet and return its id."""
    return str(
        made(tenant.member.post("/v1/subnets", network_id=network_id, name=name, prefix=prefix, **more))["id"]
    )


def make_port(tenant: Tenant, subnet_id: str, name: str, **more: Any) -> dict[str, Any]:
    """Make a port and return it."""
    return made(tenant.member.post("/v1/ports", subnet_id=subnet_id, name=name, **more))


def make_certificate(tenant: Tenant, name: str, *names: str, **more: Any) -> str:
    """Issue a certificate for ``names`` and return its id."""
    body = {"project_id": tenant.project_id, "name": name, "names": list(names), **more}
    return str(made(tenant.member.post("/v1/certificates", **body))["id"])


def make_balancer(tenant: Tenant, subnet_id: str, name: str, **more: Any) -> dict[str, Any]:
    """Make a load balancer that listens on port 80 and return it."""
    body = {"subnet_id": subnet_id, "name": name, "listeners": [{"port": 80, "mode": "tcp"}], **more}
    return made(tenant.member.post("/v1/load-balancers", **body))


def make_pool(operator: Caller, name: str, prefix: str) -> str:
    """Make a pool of outside addresses whose router is the first, and return its id."""
    gateway = str(IPv4Network(prefix).network_address + 1)
    return str(made(operator.post("/v1/address-pools", name=name, prefix=prefix, gateway=gateway))["id"])
