"""A port is bound before anything is served, and a taken one is named with the option that moves it."""

import asyncio
import socket
import threading

import httpx
import pytest
from anyio import to_thread

from penstock.base.errors import StartupError
from penstock.control_plane import ControlPlane
from penstock.up.server import ApiServer, bind, wait_for_stragglers

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


def test_handlers_that_outlive_their_loop_are_waited_for_and_those_of_a_living_one_are_not() -> None:
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def handler() -> None:
        begun.release()
        assert go_on.wait(30)

    async def cut_off() -> None:
        task = asyncio.create_task(to_thread.run_sync(handler))
        await asyncio.to_thread(begun.acquire, timeout=30)
        task.cancel()

    async def alive() -> None:
        await asyncio.gather(to_thread.run_sync(handler))

    other = threading.Thread(target=asyncio.run, args=(alive(),))
    other.start()
    assert begun.acquire(timeout=30)
    asyncio.run(cut_off())
    assert wait_for_stragglers(0.01) == 1
    go_on.set()
    assert wait_for_stragglers(30) == 0
    other.join(30)
