"""The listener's address and the refusal of a wrong one; serving itself is in tests/flows."""

import socket

import pytest

from penstock.base.errors import StartupError
from penstock.gateway.server import bind


@pytest.mark.parametrize("listen", ["", "7071", ":7071", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_must_be_whole(listen: str) -> None:
    with pytest.raises(StartupError, match="host:port"):
        bind(listen)


def test_a_port_in_use_is_said() -> None:
    with bind("127.0.0.1:0") as first:
        port = first.getsockname()[1]
        with pytest.raises(StartupError, match=f"cannot listen on 127.0.0.1:{port}"):
            bind(f"127.0.0.1:{port}")


def test_brackets_make_an_address_of_version_6() -> None:
    with bind("[::1]:0") as listener:
        assert listener.family == socket.AF_INET6


def test_the_kernel_is_told_to_notice_clients_that_are_gone_without_a_word() -> None:
    with bind("127.0.0.1:0") as listener, socket.create_connection(listener.getsockname()) as client:
        own, _ = listener.accept()
        with own:
            told = {
                name: own.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"))
                for name in ("KEEPIDLE", "KEEPINTVL", "KEEPCNT", "USER_TIMEOUT")
            }
            assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert told["KEEPIDLE"] + told["KEEPINTVL"] * told["KEEPCNT"] <= 30
        assert told["USER_TIMEOUT"] == 30_000
        assert client.getpeername() == listener.getsockname()
