"""The autoscaler on a control plane: signals in, one decision, kept over looks, over gateways and over engines."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.engine.autoscale import Autoscaler
from penstock.store import autoscale as autoscale_store
from penstock.store.database import SYSTEM
from tests.support.elastic import ElasticFactory
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory


@pytest.fixture
def factory(simulated: SimulatedFactory) -> ElasticFactory:
    return ElasticFactory(simulated)


def events(factory: ElasticFactory, service_id: str) -> list[dict[str, Any]]:
    sql = "SELECT data FROM event WHERE subject_id = :id AND kind = 'service.scaled' ORDER BY id"
    return [row["data"] for row in query(factory.plane.context, sql, id=service_id)]


def asleep(factory: ElasticFactory, tenant: TestClient, clock: ManualClock, **spec: Any) -> str:
    policy = {"replicas_min": 0, "replicas_max": 4, "idle_seconds": 60, **spec}
    service_id = factory.order(tenant, **policy)
    clock.advance(timedelta(seconds=60))
    factory.turn()
    clock.advance(limits.DRAIN_GRACE + limits.QUEUED_RECHECK)
    factory.turn()
    assert factory.service(service_id)["state"] == "asleep"
    return service_id


def test_an_endpoint_sleeps_wakes_once_for_all_who_wait_and_says_why(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = asleep(factory, tenant, clock)
    started = len(factory.engines.started)
    factory.engines.slow = True
    for waiting in (1, 64, 128):
        factory.say(tenant, service_id, waiting=waiting, tokens=10_000_000)
        assert factory.say(tenant, service_id, gateway="other", waiting=waiting)["known"] == 1
    assert len(factory.engines.started) == started + 1, "one start for all who wait"
    assert factory.service(service_id)["state"] == "starting"
    told = tenant.get(f"/v1/services/{service_id}/scaling").json()
    assert (told["waiting"], told["gateways"], told["replicas_starting"]) == (256, 2, 1)
    assert (told["last_step"]["from"], told["last_step"]["to"], told["last_step"]["reason"]) == (0, 1, "wake")
    explained = tenant.get(f"/v1/services/{service_id}/explain").json()
    assert explained["scaling"]["last_step"]["sentence"] == "somebody asked and no replica was there"
    assert [(one["from"], one["to"], one["reason"]) for one in events(factory, service_id)] == [
        (1, 0, "idle"),
        (0, 1, "wake"),
    ]


def test_load_starts_more_and_its_end_takes_them_away_one_by_one(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = factory.order(
        tenant, replicas_max=4, tokens_target=100, scale_up_seconds=10, scale_down_seconds=30
    )
    factory.say(tenant, service_id, in_flight=9, tokens=900)
    assert len(factory.replicas(service_id)) == 2
    clock.advance(timedelta(seconds=10))
    factory.say(tenant, service_id, in_flight=9, tokens=900)
    assert len(factory.replicas(service_id)) == 4
    assert factory.service(service_id)["state"] == "running"
    names = [row["id"] for row in factory.replicas(service_id)]
    for left in (3, 2, 1):
        factory.say(tenant, service_id, upstreams=[])
        clock.advance(timedelta(seconds=30))
        factory.turn()
        clock.advance(limits.DRAIN_GRACE)
        factory.say(tenant, service_id, upstreams=[])
        assert [row["id"] for row in factory.replicas(service_id)] == names[:left]


def test_what_a_silent_gateway_said_last_counts_no_more(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = factory.order(tenant, replicas_min=0, replicas_max=4, idle_seconds=60)
    factory.say(tenant, service_id, in_flight=7, upstreams=[factory.replicas(service_id)[0]["id"]])
    for _ in range(40):  # it was killed and never took it back
        clock.advance(timedelta(seconds=2))
        factory.turn(1)
    assert factory.service(service_id)["state"] == "asleep"


def test_a_kept_gateway_keeps_its_word(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = factory.order(tenant, replicas_min=0, replicas_max=4, idle_seconds=60)
    factory.say(tenant, service_id, in_flight=1)
    for _ in range(40):
        clock.advance(timedelta(seconds=2))
        body = {"gateway": "gw", "services": []}
        headers = {"authorization": "Bearer gateway-token"}
        assert tenant.post("/internal/gateway/signals", json=body, headers=headers).json() == {"known": 0}
        factory.turn(1)
    assert factory.service(service_id)["replicas_wanted"] in (None, 1)


def test_an_endpoint_with_a_fixed_number_is_left_alone(factory: ElasticFactory, tenant: TestClient) -> None:
    service_id = factory.order(tenant, replicas=2)
    factory.say(tenant, service_id, waiting=1_000, tokens=1 << 30)
    assert len(factory.replicas(service_id)) == 2
    assert factory.service(service_id)["replicas_wanted"] is None


def test_a_released_endpoint_is_forgotten(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock, control_plane: ControlPlane
) -> None:
    service_id = asleep(factory, tenant, clock)
    assert tenant.delete(f"/v1/services/{service_id}").status_code == 202
    factory.say(tenant, service_id, waiting=1)
    assert factory.service(service_id)["state"] == "released"
    clock.advance(limits.RETRY_MAX)
    factory.turn()
    assert query(control_plane.context, "SELECT service_id FROM autoscale") == []
    assert query(control_plane.context, "SELECT gateway FROM gateway_signal") == []


def test_two_autoscalers_make_one_step(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = asleep(factory, tenant, clock)
    (row,) = query(factory.plane.context, "SELECT tenant_id FROM service WHERE id = :id", id=service_id)
    body = {"gateway": "gw", "services": [{"service": service_id, "tenant": row["tenant_id"], "waiting": 9}]}
    tenant.post("/internal/gateway/signals", json=body, headers={"authorization": "Bearer gateway-token"})
    plane = factory.plane
    second = Autoscaler(plane.db, plane.clock, plane.wakeups)
    assert [plane.autoscaler.tick(), second.tick()] == [1, 0]
    factory.turn()
    assert len(factory.replicas(service_id)) == 1


def test_a_part_of_the_factory_wakes_an_endpoint_and_keeps_it_awake(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = asleep(factory, tenant, clock)
    fixed = factory.order(tenant, name="fixed")

    def demand(which: str) -> bool:
        with factory.plane.db.transaction(SYSTEM) as connection:
            return autoscale_store.demand(connection, which, clock.now())

    assert demand(service_id)
    assert not demand(service_id), "it is known"
    assert not demand(fixed)
    factory.turn()
    assert factory.service(service_id)["state"] == "running"
    clock.advance(timedelta(seconds=70))
    assert demand(service_id)
    factory.turn()
    assert factory.service(service_id)["replicas_wanted"] == 1
    clock.advance(limits.DEMAND_TIME + timedelta(seconds=1))
    factory.turn()
    clock.advance(timedelta(seconds=60))
    factory.turn()
    assert factory.service(service_id)["replicas_wanted"] == 0
