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
