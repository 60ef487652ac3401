"""Named ports are free, below the ephemeral range and no other worker's."""

import socket

import pytest

from tests.support import ports


def test_ports_are_free_and_differ() -> None:
    found = [ports.free_port() for _ in range(20)]
    assert len(set(found)) == 20
    assert all(port in ports.stretch() and port < 32_768 for port in found)
    with socket.create_server(("127.0.0.1", found[0])) as server:
        assert server.getsockname()[1] == found[0]


def test_a_taken_port_is_left_out() -> None:
    taken = ports.free_port()
    with socket.create_server(("127.0.0.1", taken)):
        assert taken not in {ports.free_port() for _ in range(ports.PER_WORKER)}


def test_workers_share_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    for worker in range(16):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        assert seen.isdisjoint(ports.stretch())
        seen.update(ports.stretch())
