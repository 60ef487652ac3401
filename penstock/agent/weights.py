"""Weights over the agent's own identity: the factory gives out those that engines on this agent's nodes run from."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from urllib.parse import quote, urljoin

import httpx

from penstock.agent import http
from penstock.agent.identity import IdentityFolder
from penstock.base import limits
from penstock.base.errors import UnavailableError
from penstock.domain.weights import File, Listing

_PIECE_BYTES = 1 << 20
_REDIRECTS_MAX = 3
_SECONDS = httpx.Timeout(limits.WEIGHTS_STALL_SECONDS, connect=http.CONNECT_SECONDS)


class HttpsWeights:
    """Fetches lists and files; each over a connection of its own, so any thread may."""

    def __init__(self, folder: IdentityFolder) -> None:
        self._folder = folder

    def listing(self, sha256: str) -> Listing:
        """Return the files of an artefact, as the factory says and its digest proves."""
        with self._factory() as client:
            return Listing.from_json(http.call(client, "GET", f"/v1/agents/self/weights/{sha256}"), sha256)

    @contextmanager
    def open(self, listing: Listing, file: File, offset: int) -> Generator[tuple[int, Iterator[bytes]]]:
        """Yield where the pieces of a file begin, and the pieces; from the artefact's own address if it has one."""
        name = quote(file.name)
        if listing.url:
            client, address = self._public(), urljoin(_as_folder(listing.url), name)
        else:
            client, address = self._factory(), f"/v1/agents/self/weights/{listing.sha256}/{name}"
        headers = {"range": f"bytes={offset}-", "accept-encoding": "identity"} if offset else {}
        where = listing.url or "the factory"
        try:
            with client, client.stream("GET", address, headers=headers, timeout=_SECONDS) as response:
                begin = _begin(response, offset)
                if begin is None:
                    raise UnavailableError(
                        f"{where} does not give {file.name} now (status {response.status_code})"
                    )
                yield begin, response.iter_raw(_PIECE_BYTES)
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise UnavailableError(f"{file.name} could not be fetched from {where}: {said}") from error

    def _factory(self) -> httpx.Client:
        return http.client(self._folder.load().url, self._folder.tls())

    @staticmethod
    def _public() -> httpx.Client:
        return httpx.Client(
            follow_redirects=True, max_redirects=_REDIRECTS_MAX, event_hooks={"request": [_https_only]}
        )


def _as_folder(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"


def _https_only(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise httpx.UnsupportedProtocol(f"{request.url.host} leads away from https")


def _begin(response: httpx.Response, offset: int) -> int | None:
    """Return where an answer begins in the file; None if it is none."""
    if response.status_code == 200 and response.headers.get("content-encoding", "identity") == "identity":
        return 0
    begins = response.headers.get("content-range", "").startswith(f"bytes {offset}-")
    return offset if response.status_code == 206 and begins else None
