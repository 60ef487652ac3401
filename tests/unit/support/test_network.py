"""Tests cannot leave the loopback."""

import socket
import subprocess
import sys

import httpx
import pytest

from tests.support.network import NetworkRefusedError, is_here

OUTSIDE = "192.0.2.1"  # RFC 5737: an address of documentation, belongs to nobody


@pytest.mark.parametrize("host", [None, "localhost", b"localhost", "127.0.0.1", "127.9.9.9", "::1", "::1%lo"])
def test_the_loopback_is_here(host: object) -> None:
    assert is_here(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", OUTSIDE, "10.0.0.1", "localhost.example", "example.org"],  # noqa: S104 - must be refused
)
def test_everything_else_is_not(host: object) -> None:
    assert not is_here(host)


def test_connecting_outside_is_refused_before_a_packet_leaves() -> None:
    with socket.socket() as one, pytest.raises(NetworkRefusedError, match="loopback"):
        one.connect((OUTSIDE, 80))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, pytest.raises(NetworkRefusedError):
        one.sendto(b"x", (OUTSIDE, 53))


def test_listening_to_others_is_refused() -> None:
    with socket.socket() as one, pytest.raises(NetworkRefusedError, match="Bind to 127"):
        one.bind(("0.0.0.0", 0))  # noqa: S104 - must be refused


def test_outside_names_are_not_resolved() -> None:
    with pytest.raises(NetworkRefusedError, match="resolve no outside names"):
        socket.getaddrinfo("penstock.example", 443)


def test_a_client_library_is_caught_too() -> None:
    with httpx.Client(trust_env=False) as client, pytest.raises(NetworkRefusedError):
        client.get("http://penstock.example/")


def test_a_child_process_that_obeys_proxies_reaches_nothing() -> None:
    code = f"import httpx; httpx.get('http://{OUTSIDE}/', timeout=5)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Connection refused" in done.stderr


def test_the_loopback_and_unix_sockets_work() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        peer, _ = server.accept()
        with peer:
            client.sendall(b"hello")
            assert peer.recv(5) == b"hello"
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"hello")
        assert right.recv(5) == b"hello"
