"""PostgreSQL is killed while orders come in: 503 with a sentence, nothing half-written, and the factory mends itself."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.flows.test_kill import check_tiling, socket_folder
from tests.support.factory_process import FactoryProcess, demo_project, every_page
from tests.support.ports import free_port
from tests.support.waiting import until

KILLS = 2


class Customer(threading.Thread):
    """Orders one device after another, each once, and keeps what it was told."""

    def __init__(self, factory: FactoryProcess) -> None:
        super().__init__(daemon=True)
        self._client = factory.client(factory.keys().demo)
        self._project = demo_project(self._client)
        self.done = threading.Event()
        self.accepted: dict[str, str] = {}
        self.refused: list[tuple[int, dict[str, Any]]] = []

    def run(self) -> None:
        number = 0
        while not self.done.is_set():
            number += 1
            name = f"lost-{number}"
            body = {"offer": "gpu", "project": self._project, "name": name, "spec": {"count": 1}}
            answer = self._client.post("/v1/services", json=body)
            if answer.status_code == 202:
                self.accepted[answer.json()["id"]] = name
            else:
                self.refused.append((answer.status_code, answer.json()))
            self.done.wait(0.03)
        self._client.close()


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[FactoryProcess]:
    process = FactoryProcess(tmp_path, simulated="40x8:H100", port=free_port(), gateway_port=free_port())
    process.start()
    yield process
    process.stop()


def database_pid(factory: FactoryProcess) -> int:
    return int((factory.data / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def rows(factory: FactoryProcess, text: str) -> list[Any]:
    with psycopg.connect(f"host={socket_folder(factory)} user=postgres dbname=postgres") as database:
        return database.execute(text).fetchall()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_database_is_answered_503_and_started_again_and_nothing_is_half_written(
    factory: FactoryProcess,
) -> None:
    customer = Customer(factory)
    customer.start()
    for _ in range(KILLS):
        before, refused = len(customer.accepted), len(customer.refused)
        until(lambda n=before: len(customer.accepted) > n + 5, "orders are accepted", 60)
        pid = database_pid(factory)
        os.kill(pid, signal.SIGKILL)
        until(lambda n=refused: len(customer.refused) > n, "orders are refused", 60)
        until(lambda pid=pid: database_pid_or_none(factory) not in (None, pid), "it runs again", 60)
        after = len(customer.accepted)
        until(lambda n=after: len(customer.accepted) > n + 5, "orders are accepted again", 60)
    customer.done.set()
    customer.join(30)
    assert Counter(status for status, _ in customer.refused).keys() == {503}
    for _, document in customer.refused:
        error = document["error"]
        assert error["code"] == "unavailable"
        assert "nothing was changed" in error["message"]
    check_settled(factory, customer)


def database_pid_or_none(factory: FactoryProcess) -> int | None:
    try:
        return database_pid(factory)
    except (OSError, ValueError, IndexError):
        return None  # it is being started


def check_settled(factory: FactoryProcess, customer: Customer) -> None:
    """What was accepted runs; what was refused is not there, except one whose commit's answer was lost."""
    with factory.client(factory.keys().demo) as client:

        def services() -> dict[str, dict[str, Any]]:
            return {s["id"]: s for s in every_page(client, "/v1/services")}

        until(lambda: {s["state"] for s in services().values()} == {"running"}, "all run", 60)
        found = services()
        assert set(customer.accepted) <= set(found)
        # A commit whose answer was lost is told as refused: at most the one order in flight at each kill.
        assert len(found) - len(customer.accepted) <= KILLS
    for text in (
        "SELECT id FROM service s WHERE NOT EXISTS (SELECT FROM audit a WHERE a.subject_id = s.id)",
        "SELECT id FROM service s WHERE NOT EXISTS (SELECT FROM event e WHERE e.subject_id = s.id)",
        "SELECT id FROM service s WHERE (SELECT count(*) FROM claim c WHERE c.service_id = s.id) <> 1",
        "SELECT id FROM claim c WHERE NOT EXISTS (SELECT FROM service s WHERE s.id = c.service_id)",
    ):
        assert rows(factory, text) == [], text
    with psycopg.connect(f"host={socket_folder(factory)} user=postgres dbname=postgres") as database:
        check_tiling(database)
