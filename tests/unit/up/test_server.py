"""A port is bound before anything is served, and a taken one is named with the option that moves it."""

import socket

import httpx
import pytest

from penstock.base.errors import StartupError
from penstock.control_plane import ControlPlane
from penstock.up.server import ApiServer, bind

GATEWAY = "http://127.0.0.1:1"


def test_a_taken_port_is_named_with_the_option_to_choose_another() -> None:
    with bind("127.0.0.1", 0, "the API", "--port") as first:
        port = first.getsockname()[1]
        with pytest.raises(StartupError) as caught:
            bind("127.0.0.1", port, "the LLM gateway", "--gateway-port")
        assert f"the LLM gateway cannot listen on 127.0.0.1:{port}" in caught.value.sentence
        assert "--gateway-port" in caught.value.sentence
    bind("127.0.0.1", port, "the API", "--port").close()  # free again at once


def test_a_client_may_connect_before_anybody_serves() -> None:
    with (
        bind("127.0.0.1", 0, "the API", "--port") as listener,
        socket.create_connection(listener.getsockname(), timeout=5),
    ):
        pass


def test_it_serves_where_it_says_and_the_port_is_free_after_stopping(control_plane: ControlPlane) -> None:
    listener = bind("127.0.0.1", 0, "the API", "--port")
    port = listener.getsockname()[1]
    server = ApiServer(control_plane, listener, lambda: GATEWAY)
    assert server.url == f"http://127.0.0.1:{port}"
    server.start()
    try:
        answer = httpx.get(f"{server.url}/healthz", timeout=20)
        assert answer.status_code == 200
        assert "server" not in answer.headers
        bare = httpx.get(server.url, timeout=20)
        assert (bare.status_code, bare.headers["location"]) == (307, "/console/")
    finally:
        server.stop()
    bind("127.0.0.1", port, "the API", "--port").close()


def test_an_ipv6_address_is_bracketed_in_the_url(control_plane: ControlPlane) -> None:
    try:
        listener = bind("::1", 0, "the API", "--port")
    except StartupError:
        pytest.skip("this machine has no IPv6 loopback")
    server = ApiServer(control_plane, listener, lambda: GATEWAY)
    assert server.url == f"http://[::1]:{listener.getsockname()[1]}"
    server.stop()  # also before it was ever started
