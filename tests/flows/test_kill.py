"""SIGKILL at random moments while 200 orders come in: nothing is lost, doubled, stuck or unmetered."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from penstock.domain.segment import Holding, Segment, SegmentState, conservation_error_us
from tests.support.factory_process import FactoryProcess, demo_project, every_page, journal_world
from tests.support.ports import free_port

ORDERS = 200
KILLS = 20
SETTLE_SECONDS = 90.0


class Customer(threading.Thread):
    """Orders one device 200 times and releases every fourth; asks again, with the same key, until it has an answer."""

    def __init__(self, factory: FactoryProcess, key: str, project: str) -> None:
        super().__init__(daemon=True)
        self._client = factory.client(key)
        self._project = project
        self.accepted: dict[str, str] = {}
        self.released: set[str] = set()

    def run(self) -> None:
        with self._client:
            for number in range(ORDERS):
                service = self._insist("POST", "/v1/services", number)
                self.accepted[service["id"]] = f"kill-{number}"
                if number % 4 == 0:
                    self._insist("DELETE", f"/v1/services/{service['id']}", number)
                    self.released.add(service["id"])

    def _insist(self, method: str, path: str, number: int) -> dict[str, Any]:
        body = {
            "offer": "gpu",
            "project": self._project,
            "name": f"kill-{number}",
            "spec": {"count": 1 + number % 3},
        }
        while True:
            try:
                answer = self._client.request(
                    method,
                    path,
                    json=body if method == "POST" else None,
                    headers={"idempotency-key": f"kill-{number}"},
                )
                if answer.status_code < 400:
                    return answer.json()
                assert answer.status_code == 503, answer.text
            except httpx.TransportError:
                pass  # the control plane was killed: that is the point
            time.sleep(0.05)


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[FactoryProcess]:
    process = FactoryProcess(tmp_path, simulated="100x8:H100", port=free_port(), gateway_port=free_port())
    process.start()
    yield process
    process.stop()


def settled(client: httpx.Client) -> bool:
    return not list(every_page(client, "/v1/services", state=["queued", "starting", "degraded", "releasing"]))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_stuck_or_unmetered(factory: FactoryProcess) -> None:
    chance = random.Random(20)  # noqa: S311 - a test that can be run again
    keys = factory.keys()
    with factory.client(keys.demo) as client:
        project = demo_project(client)
    customer = Customer(factory, keys.demo, project)
    customer.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.0, 0.5))
        factory.kill()
        factory.launch()
        if chance.random() < 0.6:
            factory.wait_up()  # else it is killed while it starts
        else:
            time.sleep(chance.uniform(0.0, 2.0))
    if factory.process is not None and factory.process.poll() is None:
        factory.wait_up()
    customer.join(SETTLE_SECONDS)
    assert not customer.is_alive(), "orders are stuck"
    with factory.client(keys.demo) as client:
        deadline = time.monotonic() + SETTLE_SECONDS
        while not settled(client) and time.monotonic() < deadline:
            time.sleep(0.2)
        services = {s["id"]: s for s in every_page(client, "/v1/services")}
    assert set(services) == set(customer.accepted), "lost or doubled orders"
    for service_id, service in services.items():
        wanted = "released" if service_id in customer.released else "running"
        assert service["state"] == wanted, service
    check_books(factory, {key for key in services if key not in customer.released})


def check_books(factory: FactoryProcess, running: set[str]) -> None:
    """The database, the simulated hardware and the ledger must tell the same story."""
    with psycopg.connect(
        f"host={socket_folder(factory)} user=postgres dbname=postgres", autocommit=True
    ) as database:
        held = database.execute(
            "SELECT c.allocation_id, c.service_id, n.name, d.position, c.mask FROM claim c "
            "JOIN device d ON d.id = c.device_id JOIN node n ON n.id = d.node_id WHERE c.released_at IS NULL"
        ).fetchall()
        assert {row[1] for row in held} == running
        world = {
            (told["id"], told["node"], index, mask)
            for told in journal_world(factory.data).values()
            for index, mask in told["pieces"]
        }
        assert {(row[0], row[2], row[3], row[4]) for row in held} == world
        check_tiling(database)
        metered = database.execute(
            "SELECT count(*) FROM segment WHERE end_at IS NULL AND state IN ('sold_busy', 'sold_idle')"
        ).fetchone()
        assert metered is not None
        assert metered[0] == len(held)


def check_tiling(database: psycopg.Connection[Any]) -> None:
    """For every device, each slice has exactly one state at every instant since it was enrolled."""
    now = database.execute("SELECT now()").fetchone()
    assert now is not None
    by_device: dict[str, list[Segment]] = {}
    slices: dict[str, int] = {}
    for row in database.execute(
        "SELECT device_id, slice_low, slice_high, start_at, end_at, state, device_slices FROM segment"
    ):
        segment = Segment(row[0], row[1], row[2], row[3], row[4], Holding(SegmentState(row[5])))
        by_device.setdefault(row[0], []).append(segment)
        slices[row[0]] = row[6]
    for device, segments in by_device.items():
        start = min(segment.start for segment in segments)
        assert conservation_error_us(segments, slices[device], start, now[0]) == 0, device


def socket_folder(factory: FactoryProcess) -> str:
    """Return where the embedded database listens: the fifth line of PostgreSQL's own pid file."""
    return (factory.data / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[4]
