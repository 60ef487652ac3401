"""Fetch a document, or a file of any size in pieces, by https and from public addresses only.

A tenant chooses the address, so the factory must not become his way into its own network: every name is
resolved here, each of its addresses must be public, and the connection goes to the very address that was
judged (a second look-up could give another one). Redirections are followed by hand and judged the same way.
No proxy of the environment is used. ``allowed`` is for tests, which serve from the loopback.
"""

import ipaddress
import re
import socket
import ssl
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpcore

from penstock import __version__
from penstock.base import limits
from penstock.base.addresses import Network, is_public
from penstock.base.errors import InvalidInputError

_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429, *range(500, 600)}
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)\Z")
_ACCEPT = "text/html,text/plain,text/markdown,application/pdf,*/*;q=0.1"


class FetchError(Exception):
    """The document could not be fetched; ``sentence`` says why, for the tenant. ``passing``: it may come if asked again."""

    def __init__(self, sentence: str, *, passing: bool = False) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes at an address, with what the server called them."""

    data: bytes
    media_type: str | None
    url: str


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is coming, from byte ``begin_bytes`` on; ``total_bytes`` None: the server does not say.

    ``etag`` names this version of the file, None if the server has no strong name for it. ``parts`` raises FetchError.
    """

    begin_bytes: int
    total_bytes: int | None
    etag: str | None
    parts: Iterator[bytes]


def check_url(url: str, field: str = "urls") -> str:
    """Return ``url`` if it may be asked for; InvalidInputError (``field``) else. Looks nothing up."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(f"'{url[:200]}' is no address: {error}", field=field) from error
    if parts.scheme != "https" or not host:
        raise InvalidInputError(f"'{url[:200]}' must begin with https:// and name a host", field=field)
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError("an address may hold no user name or password", field=field)
    if port not in (None, 443):
        raise InvalidInputError(f"'{url[:200]}' may not name a port", field=field)
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise InvalidInputError("an address holds no spaces and no control characters", field=field)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return url
    if not is_public(address):
        raise InvalidInputError(f"'{host}' is no public address", field=field)
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
        raise FetchError(f"'{host[:200]}' cannot be found", passing=True) from error
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
        with self._answer(url, {"accept": _ACCEPT}) as (response, headers, at):
            data = bytearray()
            for part in _parts(response):
                data += part
                if len(data) > limits.DOCUMENT_BYTES_MAX:
                    raise FetchError(
                        f"the document is over the limit of {limits.DOCUMENT_BYTES_MAX >> 20} MiB"
                    )
        media = headers.get(b"content-type")
        return Fetched(bytes(data), None if media is None else media.decode("latin-1")[:200], at)

    @contextmanager
    def download(self, url: str, *, after_bytes: int = 0, etag: str | None = None) -> Generator[Download]:
        """Ask for a file in pieces, from ``after_bytes`` on if it still is the version ``etag``; raises FetchError.

        What comes may begin at 0 all the same: ``begin_bytes`` says where. Its size is for the caller to bound.
        """
        ask = {"accept": "*/*"}
        if after_bytes and etag is not None:
            ask |= {"range": f"bytes={after_bytes}-", "if-range": etag}
        with self._answer(url, ask) as (response, headers, _):
            begin, total = 0, _number(headers.get(b"content-length"))
            if response.status == 206:
                found = _RANGE.match(headers.get(b"content-range", b"").decode("latin-1"))
                if found is None or int(found[1]) != after_bytes:
                    raise FetchError("the server sends another part of the file than the one asked for")
                begin, total = after_bytes, None if found[2] == "*" else int(found[2])
            tag = headers.get(b"etag", b"").decode("latin-1")
            strong = tag if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', tag) else None
            yield Download(begin, total, strong, _parts(response))

    @contextmanager
    def _answer(
        self, url: str, ask: dict[str, str]
    ) -> Generator[tuple[httpcore.Response, dict[bytes, bytes], str]]:
        """Yield the answer at the end of the redirections, its headers and its address."""
        for _ in range(limits.URL_REDIRECTS_MAX + 1):
            try:
                check_url(url)
            except InvalidInputError as error:
                if not self._allowed:
                    raise FetchError(error.sentence) from error
            with ExitStack() as stack:
                response = self._open(stack, url, ask)
                headers = {name.lower(): value for name, value in response.headers}
                if response.status in _REDIRECTS and b"location" in headers:
                    url = urljoin(url, headers[b"location"].decode("latin-1"))
                    continue
                if response.status not in ((200, 206) if "range" in ask else (200,)):
                    raise FetchError(
                        f"the server answers {response.status}", passing=response.status in _PASSING
                    )
                if headers.get(b"content-encoding", b"identity").lower() != b"identity":
                    raise FetchError("the server packs its answer though asked not to")
                yield response, headers, url
                return
        raise FetchError(f"more than {limits.URL_REDIRECTS_MAX} redirections")

    def _open(self, stack: ExitStack, url: str, ask: dict[str, str]) -> httpcore.Response:
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
        headers: dict[str | bytes, str | bytes] = {
            "host": parts.hostname or "",
            "user-agent": f"penstock/{__version__}",
            "accept-encoding": "identity",
            **ask,
        }
        context = self._context or ssl.create_default_context()
        pool = stack.enter_context(
            httpcore.ConnectionPool(
                ssl_context=context, network_backend=_PublicOnly(self._allowed), retries=0
            )
        )
        try:
            return stack.enter_context(
                pool.stream("GET", target, headers=headers, extensions={"timeout": times})
            )
        except _BROKEN as error:
            raise _broken(error) from error


_BROKEN = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


def _broken(error: Exception) -> FetchError:
    return FetchError(f"the server does not answer as it should: {str(error)[:200]}", passing=True)


def _parts(response: httpcore.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_stream()
    except _BROKEN as error:
        raise _broken(error) from error


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 19 else None
