"""Images over the agent's own identity: out those that machines on this agent's nodes begin with, in those made of them."""

from collections.abc import Generator
from hashlib import file_digest
from pathlib import Path

import httpx

from penstock.agent import http
from penstock.agent.identity import IdentityFolder
from penstock.base import limits
from penstock.base.errors import ConflictError, TooLargeError, UnavailableError

_PIECE_BYTES = 1 << 20


class HttpsImages:
    """Fetches and sends images; each over a connection of its own, so any thread may."""

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

    def send(self, image_id: str, file: Path) -> None:
        """Send an image with its SHA-256; UnavailableError if the factory does not take it now, ConflictError if never."""
        with file.open("rb") as stream:
            sha256 = file_digest(stream, "sha256").hexdigest()
        identity = self._folder.load()
        patience = httpx.Timeout(limits.VM_EXPORT_ANSWER_SECONDS, connect=http.CONNECT_SECONDS)
        try:
            with http.client(identity.url, self._folder.tls()) as client:
                response = client.put(
                    f"/v1/agents/self/images/{image_id}/content",
                    params={"sha256": sha256},
                    content=_pieces(file),
                    headers={"Content-Length": str(file.stat().st_size)},
                    timeout=patience,
                )
        except httpx.HTTPError as error:
            raise UnavailableError(f"the image '{image_id}' could not be sent: {error}") from error
        if response.status_code in (404, 409, 413, 422):
            raise ConflictError(f"the factory refused the image '{image_id}': {response.text[:300]}")
        if response.status_code != 200:
            raise UnavailableError(
                f"the factory does not take the image '{image_id}' now ({response.status_code})"
            )

    @staticmethod
    def _write(response: httpx.Response, target: Path) -> None:
        size = 0
        with target.open("wb") as file:
            for part in response.iter_bytes():
                size += len(part)
                if size > limits.IMAGE_BYTES_MAX:
                    raise TooLargeError(f"an image has {limits.IMAGE_BYTES_MAX >> 30} GiB at most")
                file.write(part)


def _pieces(file: Path) -> Generator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece
