"""The guard: public addresses only, whatever a name, a number or a redirection makes of it."""

import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.drivers.web.fetch import Fetcher, FetchError, check_url, is_public
from tests.support.certificates import self_signed

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104 - judged, not bound
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "2002:a00:1::", "192.0.2.1",
    ],
)  # fmt: skip
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"]
)
def test_addresses_outside_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "https://", "ftp://example.org/x", "https://user:pw@example.org/", "https://example.org:22/",
        "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest/meta-data", "https://exa mple.org/",
        "file:///etc/passwd", "https://[bad/",
    ],
)  # fmt: skip
def test_addresses_that_may_not_be_asked_for_are_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_url(url)
    assert refused.value.field == "urls"
    with pytest.raises(FetchError):
        Fetcher().fetch(url)


def test_a_name_that_leads_inside_is_refused() -> None:
    with pytest.raises(FetchError, match="no public address"):
        Fetcher().fetch("https://localhost/")


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/loop":
            self._answer(302, b"", location="https://localhost/loop")
        elif self.path == "/inside":
            self._answer(302, b"", location="https://10.0.0.1/secret")
        elif self.path == "/large":
            self._answer(200, bytes(limits.DOCUMENT_BYTES_MAX + 1))
        elif self.path == "/packed":
            self._answer(200, b"x", **{"content-encoding": "gzip"})
        elif self.path == "/gone":
            self._answer(404, b"")
        else:
            self._answer(200, b"<h1>Bees</h1>", **{"content-type": "text/html"})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # the fetcher has left: it read as much as it takes
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        del arguments


@pytest.fixture
def fetcher(tmp_path: Path) -> Iterator[Fetcher]:
    """A fetcher that may ask the loopback, whose pages are served with a certificate it trusts."""
    certificate, key = self_signed(tmp_path, "localhost")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    trusting = ssl.create_default_context(cafile=str(certificate))
    yield Fetcher(allowed=LOOPBACK, context=trusting, port=server.server_port)
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_page_is_fetched(fetcher: Fetcher) -> None:
    found = fetcher.fetch("https://localhost/page.html")
    assert (found.data, found.media_type) == (b"<h1>Bees</h1>", "text/html")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/loop", "redirections"),
        ("/inside", "no public address"),
        ("/large", "over the limit"),
        ("/packed", "packs"),
        ("/gone", "404"),
    ],
)
def test_what_goes_wrong_is_said(fetcher: Fetcher, path: str, said: str) -> None:
    with pytest.raises(FetchError, match=said):
        fetcher.fetch(f"https://localhost{path}")


def test_a_server_that_nobody_vouches_for_is_refused(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match="does not answer"):
        Fetcher(allowed=LOOPBACK, port=fetcher._port).fetch("https://localhost/")
