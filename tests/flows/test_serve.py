"""Replicas over one database: two engines and two APIs as processes share the work and do nothing twice."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from tests.support.infrastructure import query
from tests.support.ports import free_port
from tests.support.replica import Replica, until
from tests.support.simulated_factory import SimulatedFactory

ORDERS = 24


@pytest.fixture
def clock() -> SystemClock:
    """Real time: the replicas look at it."""
    return SystemClock()


@pytest.fixture
def start(tmp_path: Path, database_url: str) -> Iterator[Callable[..., Replica]]:
    made: list[Replica] = []

    def begin(*arguments: str) -> Replica:
        made.append(Replica(tmp_path, database_url, *arguments))
        return made[-1]

    yield begin
    for replica in made:
        replica.process.kill()
        replica.process.wait(20)


def client(replica: Replica, key: str) -> httpx.Client:
    url = replica.said(r"http://127\.0\.0\.1:\d+")
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30.0)


def test_replicas_share_the_work_and_a_killed_one_is_not_missed(
    control_plane: ControlPlane, simulated: SimulatedFactory, start: Callable[..., Replica]
) -> None:
    port = free_port()
    engines = [start("engine", "--metrics-port", str(port)), start("engine")]
    apis = [start("api", "--port", "0"), start("api", "--port", str(free_port()))]
    for engine in engines:
        engine.said("engine_started")
    with (
        client(apis[0], simulated.keys.demo_key) as first,
        client(apis[1], simulated.keys.demo_key) as second,
    ):
        body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": 1, "slices": 1}}
        ids: set[str] = set()
        for number in range(ORDERS):
            answer = (first, second)[number % 2].post("/v1/services", json=body)
            assert answer.status_code == 202, answer.text
            ids.add(answer.json()["id"])

        def running() -> bool:
            simulated.agent.step(0.0)
            rows = query(
                control_plane.context, "SELECT count(*) AS total FROM service WHERE state = 'running'"
            )
            return bool(rows[0]["total"] == len(ids))

        until("all run", running, *engines)
        assert len(ids) == ORDERS
        masks = query(control_plane.context, "SELECT device_id, mask FROM claim WHERE released_at IS NULL")
        assert len(masks) == ORDERS
        assert len({(row["device_id"], row["mask"]) for row in masks}) == ORDERS
        assert "penstock_service_moves_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text

        engines[0].process.kill()
        engines[0].process.wait(20)
        victim = ids.pop()
        assert first.delete(f"/v1/services/{victim}").status_code == 202

        def released() -> bool:
            simulated.agent.step(0.0)
            return bool(second.get(f"/v1/services/{victim}").json()["state"] == "released")

        until("the other engine releases it", released, engines[1])
    assert engines[1].end() == 0
    assert [api.end() for api in apis] == [0, 0]


def test_a_device_class_that_one_replica_adds_may_be_ordered_at_another(
    simulated: SimulatedFactory, start: Callable[..., Replica]
) -> None:
    apis = [start("api", "--port", "0"), start("api", "--port", str(free_port()))]
    with (
        client(apis[0], simulated.keys.operator_key) as first,
        client(apis[1], simulated.keys.demo_key) as second,
    ):
        order = {
            "offer": "gpu",
            "project": simulated.keys.demo_project_id,
            "spec": {"count": 1, "device_class": "ACME9"},
        }
        before = second.post("/v1/services", params={"dry_run": True}, json=order)
        assert before.status_code == 422, before.text
        body = {
            "vendor": "Acme",
            "model": "Accelerator 9",
            "memory_bytes": 1 << 34,
            "slices": 1,
            "slice_memory_bytes": 1 << 34,
            "power_watts": 300,
            "match": ["Acme Accelerator 9"],
            "source": "https://acme.example/9",
        }
        assert first.put("/v1/device-classes/ACME9", json=body).status_code == 200

        def known() -> bool:
            answer = second.post("/v1/services", params={"dry_run": True}, json=order)
            return answer.status_code == 200 and answer.json()["reason"] != ""

        until("the other replica knows the class", known, apis[1])


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["engine"], {"PENSTOCK_DATABASE_URL": ""}, "name it in PENSTOCK_DATABASE_URL"),
        (
            ["engine"],
            {"PENSTOCK_DATABASE_URL": "mysql://u:secret@h/d"},
            "Penstock keeps its state in PostgreSQL",
        ),
        (["api", "--host", "0.0.0.0"], {}, "listens on loopback only"),  # noqa: S104 - what must be refused
    ],
)
def test_a_bad_start_is_one_sentence(
    database_url: str, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "penstock", "serve", *arguments],
        env={**os.environ, "PENSTOCK_DATABASE_URL": database_url, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "secret" not in ended.stderr
    assert "Traceback" not in ended.stderr
