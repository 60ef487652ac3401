"""The factory's gateway as an agent's relay sees it: its certificate, and the name of the replica it wants."""

import ssl
from pathlib import Path
from typing import Any

import httpx

from penstock.drivers.pki import FactoryCa, relay_name


class Caller:
    """Calls replicas through relays as the gateway of the factory ``ca`` does; its files lie in ``folder``."""

    def __init__(self, ca: FactoryCa, folder: Path) -> None:
        certificate, authority = ca.gateway_certificate(folder)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.load_verify_locations(authority)
        self._tls.load_cert_chain(certificate)

    def request(
        self, method: str, endpoint: str, allocation_id: str, agent_id: str, path: str, body: Any = None
    ) -> httpx.Response:
        """Send one request to the replica over a connection of its own."""
        with httpx.Client(verify=self._tls, timeout=30.0) as client:
            return client.request(
                method,
                f"{endpoint}{path}",
                json=body,
                extensions={"sni_hostname": relay_name(allocation_id, agent_id)},
            )
