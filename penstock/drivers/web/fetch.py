"""Fetch one document by https, from public addresses only.

A tenant chooses the address, so the factory must not become his way into its own network: every name is
resolved here, each of its addresses must be public, and the connection goes to the very address that was
judged (a second look-up could give another one). Redirections are followed by hand and judged the same way.
No proxy of the environment is used. ``allowed`` is for tests, which serve from the loopback.
"""

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpcore

from penstock import __version__
from penstock.base import limits
from penstock.base.addresses import Network, is_public
from penstock.base.errors import InvalidInputError

_REDIRECTS = {301, 302, 303, 307, 308}


class FetchError(Exception):
    """The document could not be fetched; ``sentence`` says why, for the tenant."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes at an address, with what the server called them."""

    data: bytes
    media_type: str | None
    url: str


def check_url(url: str) -> str:
    """Return ``url`` if it may be asked for; InvalidInputError (``urls``) else. Looks nothing up."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(f"'{url[:200]}' is no address: {error}", field="urls") from error
    if parts.scheme != "https" or not host:
        raise InvalidInputError(f"'{url[:200]}' must begin with https:// and name a host", field="urls")
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError("an address may hold no user name or password", field="urls")
    if port not in (None, 443):
        raise InvalidInputError(f"'{url[:200]}' may not name a port", field="urls")
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise InvalidInputError("an address holds no spaces and no control characters", field="urls")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return url
    if not is_public(address):
        raise InvalidInputError(f"'{host}' is no public address", field="urls")
    return url


class _PublicOnly(httpcore.SyncBackend):
    """Connects to public addresses, and to those of ``allowed``."""

    def __init__(self, allowed: Iterable[Network]) -> None:
        self._allowed = tuple(allowed)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Look the name up, judge every address, connect to the first."""
        addresses = _addresses_of(host, port)
        for address in addresses:
            inside = any(address in network for network in self._allowed)
            if not (inside or is_public(address)):
                raise FetchError(f"'{host[:200]}' is no public address")
        return super().connect_tcp(str(addresses[0]), port, timeout, local_address, socket_options)


def _addresses_of(host: str, port: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return every address of a name; one that is an address already is not looked up."""
    try:
        return [ipaddress.ip_address(host.strip("[]"))]
    except ValueError:
        pass  # a name, looked up below
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(f"'{host[:200]}' cannot be found") from error
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


class Fetcher:
    """Fetches documents, each over a connection of its own."""

    def __init__(
        self, *, allowed: Iterable[Network] = (), context: ssl.SSLContext | None = None, port: int = 443
    ) -> None:
        self._allowed = tuple(allowed)
        self._context = context
        self._port = port

    def fetch(self, url: str) -> Fetched:
        """Return what is at ``url``, over at most three redirections; raises FetchError."""
        for _ in range(limits.URL_REDIRECTS_MAX + 1):
            try:
                check_url(url)
            except InvalidInputError as error:
                if not self._allowed:
                    raise FetchError(error.sentence) from error
            try:
                status, headers, data = self._get(url)
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
                raise FetchError(f"the server does not answer as it should: {str(error)[:200]}") from error
            if status in _REDIRECTS and b"location" in headers:
                url = urljoin(url, headers[b"location"].decode("latin-1"))
                continue
            if status != 200:
                raise FetchError(f"the server answers {status}")
            media = headers.get(b"content-type")
            return Fetched(data, None if media is None else media.decode("latin-1")[:200], url)
        raise FetchError(f"more than {limits.URL_REDIRECTS_MAX} redirections")

    def _get(self, url: str) -> tuple[int, dict[bytes, bytes], bytes]:
        times = dict.fromkeys(("connect", "read", "write", "pool"), limits.URL_SECONDS)
        parts = urlsplit(url)
        target = httpcore.URL(
            scheme=parts.scheme.encode(),
            host=(parts.hostname or "").encode("idna"),
            port=self._port,
            target=((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode(
                "ascii", "ignore"
            ),
        )
        ask: dict[str | bytes, str | bytes] = {
            "host": parts.hostname or "",
            "user-agent": f"penstock/{__version__}",
            "accept": "text/html,text/plain,text/markdown,application/pdf,*/*;q=0.1",
            "accept-encoding": "identity",
        }
        context = self._context or ssl.create_default_context()
        with (
            httpcore.ConnectionPool(
                ssl_context=context, network_backend=_PublicOnly(self._allowed), retries=0
            ) as pool,
            pool.stream("GET", target, headers=ask, extensions={"timeout": times}) as response,
        ):
            headers = {name.lower(): value for name, value in response.headers}
            if response.status != 200:
                return response.status, headers, b""
            if headers.get(b"content-encoding", b"identity").lower() != b"identity":
                raise FetchError("the server packs its answer though asked not to")
            data = bytearray()
            for part in response.iter_stream():
                data += part
                if len(data) > limits.DOCUMENT_BYTES_MAX:
                    raise FetchError(
                        f"the document is over the limit of {limits.DOCUMENT_BYTES_MAX >> 20} MiB"
                    )
            return response.status, headers, bytes(data)
