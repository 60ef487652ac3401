"""The HTTP protocol alone, on a real socket, with a handler of the test's own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from penstock.drivers.ctranslate2.protocol import Connection, Exchange, Site

GET = b"GET /x?y=1 HTTP/1.1\r\nhost: a\r\n\r\n"


def run(handler: Callable[[Exchange], Awaitable[None]], body: Callable[[Site, int], Awaitable[None]]) -> None:
    async def main() -> None:
        site = Site(handler)
        server = await asyncio.get_running_loop().create_server(lambda: Connection(site), "127.0.0.1", 0)
        async with asyncio.timeout(10), server:
            await body(site, server.sockets[0].getsockname()[1])

    asyncio.run(main())


async def echo(exchange: Exchange) -> None:
    exchange.send(200, exchange.request.path.encode(), content_type="text/plain")


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


def test_the_query_is_no_part_of_the_path_and_connections_are_kept() -> None:
    async def body(site: Site, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(GET)
            assert await read_answer(reader) == b"/x"
        assert len(site.connections) == 1
        writer.close()

    run(echo, body)


@pytest.mark.parametrize(("sent", "after_seconds"), [(b"", 301.0), (b"GET / HT", 31.0), (GET, 301.0)])
def test_silent_connections_are_closed(sent: bytes, after_seconds: float) -> None:
    async def body(site: Site, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if sent == GET:
            await read_answer(reader)
        await asyncio.sleep(0.1)
        assert len(site.connections) == 1
        now = asyncio.get_running_loop().time()
        site.sweep(now + after_seconds - 3)
        await asyncio.sleep(0.02)
        assert len(site.connections) == 1
        site.sweep(now + after_seconds)
        assert await reader.read() == b""
        writer.close()

    run(echo, body)


def test_a_running_request_is_never_swept_and_drains_before_the_end() -> None:
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go.wait()
        await echo(exchange)

    async def body(site: Site, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await asyncio.sleep(0.05)
        site.sweep(asyncio.get_running_loop().time() + 200)
        site.drain()
        assert await idle.read() == b""
        go.set()
        assert await read_answer(reader) == b"/x"
        assert await reader.read() == b""
        for one in (writer, idle_writer):
            one.close()

    run(slow, body)


def test_a_handler_that_breaks_gives_500_and_the_next_request_is_answered() -> None:
    async def broken(exchange: Exchange) -> None:
        raise RuntimeError(exchange.request.path)

    async def body(site: Site, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(GET)
            assert b"Internal error" in await read_answer(reader)
        assert len(site.connections) == 1
        writer.close()

    run(broken, body)


def test_a_client_that_leaves_is_noticed_at_once() -> None:
    gone = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        exchange.on_gone = gone.set
        await gone.wait()
        assert exchange.gone

    async def body(site: Site, port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await asyncio.sleep(0.05)
        assert len(site.connections) == 1
        writer.close()
        await gone.wait()

    run(wait, body)
