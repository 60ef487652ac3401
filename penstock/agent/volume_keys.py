"""Keys of encrypted volumes over the agent's own identity: asked for when they are needed, kept nowhere."""

import httpx

from penstock.agent import http
from penstock.agent.identity import IdentityFolder
from penstock.base.errors import UnavailableError


class HttpsKeys:
    """Asks the factory for keys; each over a connection of its own, so any thread may."""

    def __init__(self, folder: IdentityFolder) -> None:
        self._folder = folder

    def key(self, volume_id: str) -> bytes:
        """Return a volume's key; UnavailableError if the factory does not give it now."""
        identity = self._folder.load()
        try:
            with http.client(identity.url, self._folder.tls()) as client:
                response = client.get(f"/v1/agents/self/volumes/{volume_id}/key")
        except httpx.HTTPError as error:
            raise UnavailableError(f"the key of '{volume_id}' could not be fetched: {error}") from error
        if response.status_code != 200:
            raise UnavailableError(
                f"the factory does not give the key of '{volume_id}' now (status {response.status_code})"
            )
        return response.content
