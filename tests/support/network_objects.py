"""Objects of networks behind endpoints, and bodies that pass; see ``tests/support/objects.py``."""

from typing import Any

from tests.support.machine_objects import GONE
from tests.support.networks import made, make_network, make_pool, make_port
from tests.support.tenancy import Caller, Tenant

NETWORK_BODIES: dict[str, dict[str, Any]] = {
    "PUT /v1/public-dns": {"suffix": None},
    "POST /v1/public-records": {
        "project_id": f"prj_{GONE}",
        "name": "x",
        "type": "A",
        "value": "198.51.100.9",
    },
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
    "POST /v1/network-peerings": {
        "network_id": f"net_{GONE}",
        "peer_network_id": "net_" + "1" * 26,
        "name": "x",
    },
}


def make_peering(owner: Tenant, network_id: str) -> str:
    """Ask for a peering with another network of the owner's and return its id."""
    other = make_network(owner, "data")
    asked = owner.member.post(
        "/v1/network-peerings", name="to-data", network_id=network_id, peer_network_id=other
    )
    return str(made(asked)["id"])


def make_public_record(operator: Caller, owner: Tenant) -> str:
    """Let the operator name a zone, write a record and return its id."""
    made(operator.put("/v1/public-dns", suffix="cloud.example.net", name_servers=["ns1.example.net"]))
    body = {"project_id": owner.project_id, "name": "www", "type": "A", "value": "198.51.100.9"}
    return str(made(owner.member.post("/v1/public-records", **body))["id"])


def make_parts(owner: Tenant, operator: Caller, network_id: str, subnet_id: str) -> dict[str, str]:
    """Make a port, a group with its rule, a route, names and a floating address; return ids as the console names them."""
    pool_id = make_pool(operator, "world", "203.0.113.0/28")
    operator.put("/v1/public-dns", suffix="cloud.test.example", name_servers=["ns1.test.example"])
    post, project = owner.member.post, owner.project_id
    port_id = make_port(owner, subnet_id, "train-port")["id"]
    group = made(post("/v1/security-groups", network_id=network_id, name="train-group"))
    route = {"name": "train-way", "prefix": "192.168.0.0/16", "port_id": port_id}
    name = {"name": "train", "type": "A", "value": "10.0.0.9"}
    address = post("/v1/floating-addresses", project_id=project, pool_id=pool_id, name="train-outside")
    return {
        "partition_id": made(post("/v1/fabric-partitions", name="train", project_id=project))["id"],
        "pool_id": pool_id,
        "subnet_id": subnet_id,
        "port_id": port_id,
        "security_group_id": group["id"],
        "rule_id": group["rules"][0]["id"],
        "network_route_id": made(post("/v1/network-routes", network_id=network_id, **route))["id"],
        "dns_record_id": made(post("/v1/dns-records", network_id=network_id, **name))["id"],
        "address_id": made(address)["id"],
        "record_id": made(post("/v1/public-records", project_id=project, **name))["id"],
    }
