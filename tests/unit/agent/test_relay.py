"""The relay over real sockets: who gets through, to where, how fast, and how it ends."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from penstock.agent.relay import Bounds, Relay
from penstock.agent.serve_at import ServeAt
from penstock.base.clock import SystemClock
from penstock.base.errors import StartupError
from penstock.base.ids import new_id
from penstock.drivers.pki import SERVER_NAME, FactoryCa, relay_name
from penstock.drivers.pki.certificates import key_pem, new_key, new_request
from tests.support.waiting import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGENT, OTHER_AGENT = new_id("agent", NOW), new_id("agent", NOW)
REPLICA, OTHER_REPLICA = new_id("allocation", NOW), new_id("allocation", NOW)
HOUR = timedelta(hours=1)


class Echo:
    """A replica that sends back what it gets, says its name first, and counts what it read."""

    def __init__(self, name: bytes = b"") -> None:
        self.name = name
        self.read = 0
        self.connections: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.sendall(self.name)
            while data := connection.recv(65_536):
                self.read += len(data)
                connection.sendall(data)
        except OSError:
            return  # the relay cut it, which is what some tests want
        finally:
            connection.close()

    def die(self) -> None:
        """Reset every connection and listen no more, as a killed process does."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was gone before


class Site:
    """A factory's authority, an agent's files, and what clients may show."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = FactoryCa(folder / "pki", SystemClock())
        self.ca.ensure()
        self.gateway, self.authority = self.ca.gateway_certificate(folder / "gateway")
        self.agent = self.agents_file(AGENT)

    def agents_file(self, agent_id: str) -> Path:
        key = new_key()
        pem = self.ca.sign_agent_csr(new_request(key, "a"), agent_id, HOUR).pem
        file = self.folder / f"{agent_id}.pem"
        file.write_bytes(pem.encode() + key_pem(key))
        return file

    def relay(self, bounds: Bounds | None = None) -> Relay:
        made = Relay(ServeAt(), AGENT, self.agent, self.authority, bounds)
        made.start()
        return made

    def dial(
        self, relay: Relay, name: str | None = None, *, shows: Path | None = None, trusts: Path | None = None
    ) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(trusts or self.authority)
        context.load_cert_chain(shows or self.gateway)
        plain = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
        try:
            return context.wrap_socket(plain, server_hostname=name or relay_name(REPLICA, AGENT))
        except BaseException:
            plain.close()
            raise


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def echo(stack: ExitStack) -> Echo:
    made = Echo()
    stack.callback(made.listener.close)
    return made


@pytest.fixture
def relay(site: Site, echo: Echo, stack: ExitStack) -> Relay:
    made = site.relay(Bounds(drain_seconds=2.0))
    stack.callback(made.stop)
    made.lead(REPLICA, echo.port)
    return made


def exchange(client: ssl.SSLSocket, data: bytes) -> bytes:
    client.sendall(data)
    found = b""
    while len(found) < len(data):
        piece = client.recv(65_536)
        assert piece, "it closed early"
        found += piece
    return found


def is_cut(client: socket.socket) -> bool:
    """Tell whether the other side ended the connection; what still came before does not matter."""
    try:
        while client.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("penstock_agent_relay_refused_total", {"reason": reason}) or 0.0


def test_the_gateway_reaches_the_replica_it_names(
    site: Site, relay: Relay, echo: Echo, stack: ExitStack
) -> None:
    other = Echo(b"other")
    stack.callback(other.listener.close)
    relay.lead(OTHER_REPLICA, other.port)
    assert relay.url == f"https://127.0.0.1:{relay.port}"
    with site.dial(relay) as client, site.dial(relay, relay_name(OTHER_REPLICA, AGENT)) as second:
        assert client.version() == "TLSv1.3"
        assert exchange(client, b"hello") == b"hello"
        assert second.recv(5) == b"other"
        assert exchange(second, bytes(range(256)) * 4_000) == bytes(range(256)) * 4_000
    until(lambda: REGISTRY.get_sample_value("penstock_agent_relay_open_connections") == 0)
    assert echo.read == 5


def test_a_replica_that_moves_is_followed_and_a_closed_door_is_refused_in_the_handshake(
    site: Site, relay: Relay, stack: ExitStack
) -> None:
    moved = Echo(b"moved")
    stack.callback(moved.listener.close)
    relay.lead(REPLICA, moved.port)
    with site.dial(relay) as client:
        assert client.recv(5) == b"moved"
    relay.close(REPLICA)
    relay.close(REPLICA)
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        site.dial(relay)


def test_a_name_that_leads_nowhere_is_refused_in_the_handshake(site: Site, relay: Relay, echo: Echo) -> None:
    before = refused("name")
    names = [
        relay_name(OTHER_REPLICA, AGENT),
        relay_name(REPLICA, OTHER_AGENT),
        SERVER_NAME,
        "localhost",
    ]
    for name in names:
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            site.dial(relay, name)
    until(lambda: refused("name") == before + len(names))
    assert echo.connections == []


def test_nobody_but_the_gateway_of_this_factory_gets_through(
    site: Site, relay: Relay, echo: Echo, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    stranger = Site(tmp_path / "elsewhere")
    before = refused("handshake"), refused("certificate")
    with site.dial(relay, shows=stranger.gateway) as client:  # TLS 1.3: the client hears of it afterwards
        assert is_cut(client)
    until(lambda: refused("handshake") == before[0] + 1)
    for shown in (site.agent, site.agents_file(OTHER_AGENT)):
        with site.dial(relay, shows=shown) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert is_cut(client)
    until(lambda: refused("certificate") == before[1] + 2)
    plain = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
    with plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert is_cut(plain)
    assert echo.connections == []


def test_the_gateway_talks_to_no_agent_of_another_factory_and_to_none_under_anothers_name(
    site: Site, relay: Relay, tmp_path: Path, stack: ExitStack
) -> None:
    (tmp_path / "elsewhere").mkdir()
    stranger = Site(tmp_path / "elsewhere")
    with pytest.raises(ssl.SSLCertVerificationError):
        site.dial(relay, trusts=stranger.authority)
    impostor = Relay(ServeAt(), OTHER_AGENT, site.agent, site.authority)  # it shows AGENT's certificate
    stack.callback(impostor.stop)
    impostor.start()
    impostor.lead(REPLICA, 9)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)hostname mismatch"):
        site.dial(impostor, relay_name(REPLICA, OTHER_AGENT))


def test_a_slow_reader_holds_up_the_replica_and_not_the_memory(
    site: Site, relay: Relay, stack: ExitStack
) -> None:
    sent = 0
    size = 64 << 20
    listener = socket.create_server(("127.0.0.1", 0))
    stack.callback(listener.close)

    def pour() -> None:
        nonlocal sent
        connection, _ = listener.accept()
        with connection:
            while sent < size:
                sent += connection.send(b"x" * 65_536)

    thread = threading.Thread(target=pour, daemon=True)
    thread.start()
    relay.lead(REPLICA, listener.getsockname()[1])
    with site.dial(relay) as client, site.dial(relay) as _waiting:
        assert client.recv(1) == b"x"
        before = -1
        while before != sent:  # until it stands still
            before = sent
            time.sleep(0.3)
        assert sent < size / 2
        got = 1
        while piece := client.recv(1 << 20):
            got += len(piece)
    thread.join(20)
    assert got == sent >= size


def test_a_hundred_connections_at_once(site: Site, relay: Relay, stack: ExitStack) -> None:
    clients = [stack.enter_context(site.dial(relay)) for _ in range(100)]
    for number, client in enumerate(clients):
        client.sendall(b"%03d" % number)
    assert [client.recv(3) for client in clients] == [b"%03d" % number for number in range(100)]


def test_more_than_its_bound_are_refused_and_the_others_go_on(
    site: Site, echo: Echo, stack: ExitStack
) -> None:
    relay = site.relay(Bounds(connections_max=2, drain_seconds=1.0))
    stack.callback(relay.stop)
    relay.lead(REPLICA, echo.port)
    first, second = (stack.enter_context(site.dial(relay)) for _ in range(2))
    assert exchange(first, b"1") + exchange(second, b"2") == b"12"
    with site.dial(relay) as third:
        assert is_cut(third)
    assert exchange(first, b"still") == b"still"
    second.close()

    def again() -> bool:
        with site.dial(relay) as client:
            client.sendall(b"x")
            return not is_closed_at_once(client)

    until(again)


def is_closed_at_once(client: ssl.SSLSocket) -> bool:
    try:
        return client.recv(1) == b""
    except OSError:
        return True


def test_strangers_who_never_shake_hands_are_bounded_and_end(
    site: Site, echo: Echo, stack: ExitStack
) -> None:
    relay = site.relay(Bounds(handshakes_max=4, handshake_seconds=0.5, drain_seconds=1.0))
    stack.callback(relay.stop)
    relay.lead(REPLICA, echo.port)
    silent = [
        stack.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=10)) for _ in range(8)
    ]
    assert all(is_cut(one) for one in silent)
    with site.dial(relay) as client:
        assert exchange(client, b"on") == b"on"


def test_a_replica_that_dies_or_is_not_there_ends_its_connections_and_no_others(
    site: Site, relay: Relay, stack: ExitStack
) -> None:
    mortal = Echo()
    relay.lead(OTHER_REPLICA, mortal.port)
    with site.dial(relay) as other, site.dial(relay, relay_name(OTHER_REPLICA, AGENT)) as client:
        assert exchange(client, b"alive") == b"alive"
        mortal.die()
        assert is_cut(client)
        assert exchange(other, b"unmoved") == b"unmoved"
    before = refused("replica")
    with site.dial(relay, relay_name(OTHER_REPLICA, AGENT)) as client:
        assert is_cut(client)
    until(lambda: refused("replica") == before + 1)
    assert stack


def test_a_client_that_leaves_ends_the_replicas_connection(site: Site, relay: Relay, echo: Echo) -> None:
    for leave in (ssl.SSLSocket.close, _reset):
        client = site.dial(relay)
        assert exchange(client, b"hi") == b"hi"
        replica = echo.connections[-1]
        leave(client)
        until(lambda: replica.fileno() == -1)  # noqa: B023 - used at once


def _reset(client: ssl.SSLSocket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


def test_what_a_replica_said_before_it_closed_arrives_whole(
    site: Site, relay: Relay, stack: ExitStack
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    stack.callback(listener.close)

    def say() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"y" * 3_000_000)

    threading.Thread(target=say, daemon=True).start()
    relay.lead(REPLICA, listener.getsockname()[1])
    with site.dial(relay) as client:
        got = 0
        while piece := client.recv(65_536):
            got += len(piece)
    assert got == 3_000_000


def test_idle_connections_end(site: Site, echo: Echo, stack: ExitStack) -> None:
    relay = site.relay(Bounds(idle_seconds=0.3, drain_seconds=1.0))
    stack.callback(relay.stop)
    relay.lead(REPLICA, echo.port)
    with site.dial(relay) as client:
        assert exchange(client, b"x") == b"x"
        assert is_cut(client)


def test_stopping_lets_the_busy_end_and_the_quiet_go(site: Site, echo: Echo, stack: ExitStack) -> None:
    relay = site.relay(Bounds(quiet_seconds=0.4, drain_seconds=20.0))
    stack.callback(relay.stop)
    relay.lead(REPLICA, echo.port)
    busy, quiet = stack.enter_context(site.dial(relay)), stack.enter_context(site.dial(relay))
    assert exchange(quiet, b"q") == b"q"
    assert exchange(busy, b"b") == b"b"
    stopping = threading.Thread(target=relay.stop)
    stopping.start()
    ended = threading.Event()

    def watch() -> None:
        is_cut(quiet)
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    while not ended.is_set():
        assert exchange(busy, b"more") == b"more"
    assert stopping.is_alive()
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the kernel likes
        site.dial(relay).recv(1)
    busy.close()
    stopping.join(20)
    assert not stopping.is_alive()


def test_stopping_cuts_what_does_not_end(site: Site, echo: Echo, stack: ExitStack) -> None:
    relay = site.relay(Bounds(quiet_seconds=60.0, drain_seconds=0.2))
    stack.callback(relay.stop)
    relay.lead(REPLICA, echo.port)
    with site.dial(relay) as client:
        assert exchange(client, b"x") == b"x"
        relay.stop()
        relay.stop()
        assert is_cut(client)


def test_a_renewed_certificate_is_taken_over(site: Site, relay: Relay) -> None:
    def shown() -> bytes | None:
        with site.dial(relay) as client:
            return client.getpeercert(binary_form=True)

    first = shown()
    fresh = site.agents_file(OTHER_AGENT)
    fresh.write_bytes(b"nonsense")
    fresh.replace(site.agent)  # what cannot be used changes nothing
    time.sleep(1.2)
    assert shown() == first
    again = site.folder / "new.pem"
    key = new_key()
    again.write_bytes(site.ca.sign_agent_csr(new_request(key, "a"), AGENT, HOUR).pem.encode() + key_pem(key))
    again.replace(site.agent)
    until(lambda: shown() != first)


def test_an_address_that_is_not_ours_or_a_port_that_is_taken_is_said(site: Site, relay: Relay) -> None:
    taken = ServeAt("127.0.0.1", relay.port, fixed=True)
    with pytest.raises(StartupError, match=f"127.0.0.1:{relay.port}.*--serve-at"):
        Relay(taken, AGENT, site.agent, site.authority)
    moved = Relay(ServeAt("127.0.0.1", relay.port), AGENT, site.agent, site.authority)
    assert moved.port != relay.port  # one that was only remembered may be another
    moved.stop()
    bad = site.folder / "bad.pem"
    bad.write_text("nonsense")
    with pytest.raises(StartupError, match=r"bad\.pem"):
        Relay(ServeAt(), AGENT, bad, site.authority)
