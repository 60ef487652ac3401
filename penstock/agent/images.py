"""Images over the agent's own identity: the factory gives out those that machines on this agent's nodes begin with."""

from pathlib import Path

import httpx

from penstock.agent import http
from penstock.agent.identity import IdentityFolder
from penstock.base import limits
from penstock.base.errors import TooLargeError, UnavailableError


class HttpsImages:
    """Fetches images; each over a connection of its own, so any thread may."""

    def __init__(self, folder: IdentityFolder) -> None:
        self._folder = folder

    def fetch(self, image_id: str, target: Path) -> None:
        """Write the image to ``target``; UnavailableError if the factory does not give it now."""
        identity = self._folder.load()
        try:
            with (
                http.client(identity.url, self._folder.tls()) as client,
                client.stream("GET", f"/v1/agents/self/images/{image_id}") as response,
            ):
                if response.status_code != 200:
                    raise UnavailableError(
                        f"the factory does not give the image '{image_id}' now (status {response.status_code})"
                    )
                self._write(response, target)
        except httpx.HTTPError as error:
            raise UnavailableError(f"the image '{image_id}' could not be fetched: {error}") from error

    @staticmethod
    def _write(response: httpx.Response, target: Path) -> None:
        size = 0
        with target.open("wb") as file:
            for part in response.iter_bytes():
                size += len(part)
                if size > limits.IMAGE_BYTES_MAX:
                    raise TooLargeError(f"an image has {limits.IMAGE_BYTES_MAX >> 30} GiB at most")
                file.write(part)
