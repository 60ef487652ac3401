"""Networks over the API, for tests that need one."""

from ipaddress import IPv4Network
from typing import Any

from tests.support.machine_objects import GONE
from tests.support.tenancy import Caller, Tenant

# Bodies that pass, for requests about networks.
NETWORK_BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/networks": {"name": "x", "project_id": f"prj_{GONE}"},
    "PATCH /v1/networks/{network_id}": {"description": "y"},
    "POST /v1/subnets": {"name": "x", "network_id": f"net_{GONE}", "prefix": "10.0.0.0/24"},
    "PATCH /v1/subnets/{subnet_id}": {"description": "y"},
    "POST /v1/ports": {"name": "x", "subnet_id": f"sub_{GONE}"},
    "PATCH /v1/ports/{port_id}": {"egress_kbit_per_second": 8},
    "PUT /v1/ports/{port_id}/node": {"node_id": None},
    "POST /v1/security-groups": {"name": "x", "network_id": f"net_{GONE}"},
    "POST /v1/security-groups/{security_group_id}/rules": {"direction": "in", "protocol": "icmp"},
    "POST /v1/security-groups/{security_group_id}/bindings": {"scope": "port", "target_id": f"prt_{GONE}"},
    "PUT /v1/network-hosts/{node_id}": {"underlay_address": "10.77.0.11"},
    "POST /v1/address-pools": {"name": "x", "prefix": "203.0.113.0/24", "gateway": "203.0.113.1"},
    "POST /v1/floating-addresses": {"name": "x", "project_id": f"prj_{GONE}", "pool_id": f"apl_{GONE}"},
    "PUT /v1/floating-addresses/{address_id}/port": {"port_id": None},
    "PUT /v1/networks/{network_id}/way-out": {"pool_id": None},
    "POST /v1/dns-records": {"network_id": f"net_{GONE}", "name": "x", "type": "A", "value": "10.0.0.9"},
    "POST /v1/network-routes": {
        "network_id": f"net_{GONE}",
        "name": "x",
        "prefix": "192.168.0.0/16",
        "port_id": f"prt_{GONE}",
    },
    "PUT /v1/network-forbidden": {"prefixes": []},
    "POST /v1/load-balancers": {"name": "x", "subnet_id": f"sub_{GONE}", "listeners": [{"port": 80}]},
    "PATCH /v1/load-balancers/{load_balancer_id}": {"algorithm": "source"},
    "POST /v1/certificates": {"name": "x", "project_id": f"prj_{GONE}", "names": ["x.internal"]},
    "POST /v1/certificates/{certificate_id}/rotate": {"revoke_old": False},
    "PUT /v1/certificates/{certificate_id}/content": {"certificate_pem": "x", "private_key_pem": "y"},
}


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
