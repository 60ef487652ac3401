"""Objects of networks behind endpoints, and bodies that pass; see ``tests/support/objects.py``."""

from typing import Any

from tests.support.machine_objects import GONE
from tests.support.networks import made, make_network
from tests.support.tenancy import Tenant

NETWORK_BODIES: dict[str, dict[str, Any]] = {
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
