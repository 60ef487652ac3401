"""A server of files by https on the loopback that can be slow, broken or forgetful, and an engine that may ask it.

``python -m tests.support.image_server DATABASE_URL FOLDER PORT CERTIFICATE`` runs such an engine of images until killed.
"""

import ssl
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from penstock.base.clock import Clock, SystemClock
from penstock.control_plane import ControlPlane
from penstock.drivers.web.fetch import Fetcher
from penstock.engine.image import ImageEngine
from tests.support.certificates import self_signed

LOOPBACK = (ip_network("127.0.0.0/8"),)
_PIECE_BYTES = 64 << 10


@dataclass
class Served:
    """A file as it is served. ``holds_after``: it stops there until ``released``; ``cut_after``: it hangs up there."""

    data: bytes
    etag: str | None = '"one"'
    holds_after: int | None = None
    cut_after: int | None = None
    statuses: list[int] = field(default_factory=list[int])  # answered first, one a request
    location: str | None = None
    says_size: bool = True
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[str | None] = field(default_factory=list[str | None])  # the Range of each request


@dataclass
class ImageServer:
    """The running server: ``files`` by path."""

    port: int
    certificate: Path
    files: dict[str, Served]

    def fetcher(self) -> Fetcher:
        """Return a fetcher that may ask the loopback and trusts this server."""
        return fetcher(self.port, self.certificate)

    def engine(self, plane: ControlPlane, clock: Clock) -> ImageEngine:
        """Give a control plane an engine that may ask this server, and return it."""
        plane.images = ImageEngine(
            plane.db, clock, plane.wakeups, plane.context.images, fetcher=self.fetcher()
        )
        return plane.images


def fetcher(port: int, certificate: Path) -> Fetcher:
    """Return a fetcher that may ask the loopback at this port only."""
    context = ssl.create_default_context(cafile=str(certificate))
    return Fetcher(allowed=LOOPBACK, context=context, port=port)


@contextmanager
def image_server(folder: Path) -> Generator[ImageServer]:
    """Yield a server whose certificate lies in ``folder``."""
    certificate, key = self_signed(folder, "localhost")
    files: dict[str, Served] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": files}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield ImageServer(server.server_port, certificate, files)
    finally:
        for one in files.values():
            one.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    files: dict[str, Served]

    def do_GET(self) -> None:
        one = self.files[self.path.partition("?")[0]]
        asked = self.headers.get("range")
        one.asked.append(asked)
        if one.statuses:
            self._head(one.statuses.pop(0), 0)
            return
        if one.location is not None:
            self._head(302, 0, location=one.location)
            return
        begin = 0
        if asked is not None and self.headers.get("if-range") == one.etag:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
        facts = {} if one.etag is None else {"etag": one.etag}
        if begin:
            facts["content-range"] = f"bytes {begin}-{len(one.data) - 1}/{len(one.data)}"
        self._head(206 if begin else 200, len(one.data) - begin if one.says_size else None, **facts)
        try:
            self._send(one, begin)
        except OSError:  # whoever asked has left, or was killed
            self.close_connection = True

    def _head(self, status: int, size: int | None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if size is not None:
            self.send_header("content-length", str(size))
        self.end_headers()

    def _send(self, one: Served, begin: int) -> None:
        for at in range(begin, len(one.data), _PIECE_BYTES):
            if one.cut_after is not None and at >= one.cut_after:
                self.close_connection = True
                return
            if one.holds_after is not None and at >= one.holds_after:
                one.released.wait(60)
            self.wfile.write(one.data[at : at + _PIECE_BYTES])
        self.close_connection = True

    def log_message(self, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - takes the same
        pass


def main() -> None:
    """Fetch images until killed."""
    url, folder, port, certificate = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    plane = ControlPlane(url, SystemClock(), connections=2)
    plane.keep_images_in(folder)
    engine = ImageEngine(
        plane.db, plane.clock, plane.wakeups, plane.context.images, fetcher=fetcher(port, certificate)
    )
    while True:
        engine.tick()
        threading.Event().wait(0.05)


if __name__ == "__main__":
    main()
