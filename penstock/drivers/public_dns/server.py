"""Listens for questions by UDP and TCP on one address; what it answers from may be exchanged at any time."""

import socketserver
import threading
from types import TracebackType
from typing import Self, cast

from prometheus_client import Counter

from penstock.drivers.public_dns.zone import Zone, respond

ANSWERED = Counter(
    "penstock_public_dns_answers_total", "Answers to the world about public names.", ("rcode",)
)
_TCP_SECONDS = 5.0
_TCP_AT_ONCE_MAX = 64


class PublicDns:
    """A name server; ``zone`` None refuses everything."""

    def __init__(self, host: str, port: int) -> None:
        self.zone: Zone | None = None
        self.places = threading.BoundedSemaphore(_TCP_AT_ONCE_MAX)
        self._tcp = _Tcp((host, port), _TcpHandler)
        self.port = int(self._tcp.server_address[1])
        try:
            self._udp = _Udp((host, self.port), _UdpHandler)
        except OSError:
            self._tcp.server_close()
            raise
        for server in (self._tcp, self._udp):
            server.owner = self
            threading.Thread(target=server.serve_forever, args=(0.2,), name="public-dns", daemon=True).start()

    def respond(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """Return the answer to a packet, None for none."""
        found = respond(self.zone, wire, tcp=tcp)
        if found is None:
            return None
        ANSWERED.labels(found[1]).inc()
        return found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()


class _Udp(socketserver.UDPServer):
    owner: PublicDns


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    owner: PublicDns


class _UdpHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, listener = self.request
        answer = cast("_Udp", self.server).owner.respond(wire, tcp=False)
        if answer is not None:
            listener.sendto(answer, self.client_address)


class _TcpHandler(socketserver.StreamRequestHandler):
    timeout = _TCP_SECONDS

    def handle(self) -> None:
        owner = cast("_Tcp", self.server).owner
        if not owner.places.acquire(blocking=False):
            return
        try:
            while len(head := self.rfile.read(2)) == 2:
                answer = owner.respond(self.rfile.read(int.from_bytes(head, "big")), tcp=True)
                if answer is None:
                    return
                self.wfile.write(len(answer).to_bytes(2, "big") + answer)
        except OSError:
            return  # it went away, or kept us waiting
        finally:
            owner.places.release()
