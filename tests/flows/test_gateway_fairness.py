"""Tenants that share an engine: whose turn it is, seen by the engine, while one of them floods the gateway.

The engine has one slot, and a stream holds it until all requests wait; so their order is the gateway's alone.
"""

import concurrent.futures
import http.client
import json
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.gateway_peers import Engine, Gateway, ask, completions, configuration, ledger
from tests.support.waiting import until

TENANTS = """
[[tenants]]
id = "paid"
weight = 3
[[keys]]
key = "sk-paid"
tenant = "paid"
[[keys]]
key = "sk-small"
tenant = "small"
[[keys]]
key = "sk-small-low"
tenant = "small"
priority = "low"
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    process = Engine(tmp_path)
    yield process
    process.stop()


def started(folder: Path, engine: Engine, settings: str = "") -> Gateway:
    """Start a gateway whose tenants default, paid and small have the same model on the same engine."""
    one = f'{{ url = "{engine.base}", cancel = true, slots = 1 }}'
    models = "".join(
        f'[[models]]\nname = "test-model"\nmodel = "engine-model"\ntenant = "{tenant}"\nupstreams = [{one}]\n'
        for tenant in ("paid", "small")
    )
    path = configuration(folder, [one], more=TENANTS + models, settings=settings)
    return Gateway(folder, "--config", str(path))


@contextmanager
def taken(gateway: Gateway, engine: Engine) -> Generator[None]:
    """Hold the engine's slot; its client leaves at the end, which frees it."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    body = json.dumps(ask(stream=True, mock={"tokens": 1_000_000, "itl_ms": 20}))
    connection.request("POST", "/v1/chat/completions", body, {"authorization": "Bearer sk-test"})
    answer = connection.getresponse()
    try:
        until(lambda: len(engine.counts()) == 1, "the engine is taken")
        yield
    finally:
        answer.close()
        connection.close()


class Clients:
    """Requests that are asked at the same time, each by a client of its own."""

    def __init__(self, gateway: Gateway, pool: concurrent.futures.Executor) -> None:
        self._gateway = gateway
        self._pool = pool

    def ask(self, key: str, count: int) -> list[concurrent.futures.Future[int]]:
        """Begin ``count`` requests with a key; each future has the status of one's answer."""

        def status() -> int:
            return completions(self._gateway.port, ask(max_tokens=2), key=key)[0]

        return [self._pool.submit(status) for _ in range(count)]

    def wait(self, in_flight: int) -> None:
        """Wait until so many are at the gateway."""
        until(lambda: self._gateway.get("/healthz")["in_flight"] == in_flight, f"{in_flight} are in flight")


def served(folder: Path, engine: Engine) -> list[tuple[str, str]]:
    """Return tenant and key of what was served, in the order in which the engine was asked; without the first."""
    records = ledger(folder / "ledger")
    asked = list(engine.counts())[1:]
    return [(records[one]["tenant"], records[one]["key"]) for one in asked]


def test_a_flood_leaves_every_tenant_its_share_by_weight_whatever_its_classes(
    tmp_path: Path, engine: Engine
) -> None:
    gateway = started(tmp_path, engine)
    try:
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            clients = Clients(gateway, pool)
            with taken(gateway, engine):
                answers = clients.ask("sk-test", 30)
                clients.wait(1 + 30)
                answers += clients.ask("sk-small-low", 3)
                clients.wait(1 + 33)
                answers += clients.ask("sk-small", 3) + clients.ask("sk-paid", 18)
                clients.wait(1 + 54)
            assert [one.result() for one in answers] == [200] * 54
    finally:
        assert gateway.stop() == 0
    order = served(tmp_path, engine)
    shares = Counter(tenant for tenant, _ in order[:30])
    assert all(abs(shares[name] - share) <= 1 for name, share in (("paid", 18), ("small", 6), ("default", 6)))
    assert {tenant for tenant, _ in order[32:]} == {"default"}, "the flood waits for the others"
    small = [key for tenant, key in order if tenant == "small"]
    assert small == [small[0]] * 3 + [small[3]] * 3, "a tenant's low class goes behind its normal one"
    assert small[0] != small[3]


def test_a_flood_that_fills_the_line_is_refused_itself(tmp_path: Path, engine: Engine) -> None:
    gateway = started(tmp_path, engine, "queue_max = 10")
    try:
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            clients = Clients(gateway, pool)
            with taken(gateway, engine):
                flood = clients.ask("sk-test", 16)
                until(lambda: sum(one.done() for one in flood) == 6, "the line is full")
                small = clients.ask("sk-small", 4)
                until(lambda: sum(one.done() for one in flood) == 10, "others have come in")
                assert not any(one.done() for one in small)
            assert [one.result() for one in small] == [200] * 4
            assert Counter(one.result() for one in flood) == {200: 6, 503: 10}
    finally:
        assert gateway.stop() == 0
    order = [tenant for tenant, _ in served(tmp_path, engine)]
    assert order == ["default", "small"] * 4 + ["default"] * 2
