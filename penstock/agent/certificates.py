"""Certificates with their keys over the agent's own identity: asked for when a load balancer is to listen with them."""

import httpx

from penstock.agent import http
from penstock.agent.identity import IdentityFolder
from penstock.base.errors import UnavailableError


class HttpsCertificates:
    """Asks the factory for certificates; each over a connection of its own, so any thread may."""

    def __init__(self, folder: IdentityFolder) -> None:
        self._folder = folder

    def content(self, certificate_id: str) -> bytes:
        """Return chain and private key as one PEM; UnavailableError if the factory does not give them now."""
        identity = self._folder.load()
        try:
            with http.client(identity.url, self._folder.tls()) as client:
                response = client.get(f"/v1/agents/self/certificates/{certificate_id}")
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"the certificate '{certificate_id}' could not be fetched: {error}"
            ) from error
        if response.status_code != 200:
            raise UnavailableError(
                f"the factory does not give the certificate '{certificate_id}' now (status {response.status_code})"
            )
        return response.content
