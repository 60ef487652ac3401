"""Guaranteed shares through the public API: borrowed, claimed back within the bound, and nobody below his own."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.base.limits import QUEUED_RECHECK
from penstock.domain.role import Role
from tests.support.simulated_factory import SimulatedFactory
from tests.support.tenancy import Caller, Tenant, make_caller, make_tenant


@pytest.fixture
def operator(client: TestClient, simulated: SimulatedFactory) -> Caller:
    return make_caller(simulated.plane, client, "op", Role.OPERATOR)


@pytest.fixture
def tenants(client: TestClient, simulated: SimulatedFactory) -> tuple[Tenant, Tenant]:
    """Two tenants on a site of 8 H100 on two nodes."""
    return make_tenant(simulated.plane, client, "owner"), make_tenant(simulated.plane, client, "borrower")


def guarantee(operator: Caller, who: Tenant, devices: int, dimension: str = "devices:H100") -> None:
    answer = operator.put("/v1/quotas", dimension=dimension, limit=64, guaranteed=devices, tenant_id=who.id)
    assert answer.status_code == 200, answer.text
    assert answer.json()["guaranteed"] == devices


def order(who: Tenant, count: int = 1, **spec: Any) -> str:
    body = {
        "offer": "gpu",
        "project": who.project_id,
        "spec": {"count": count, "device_class": "H100", **spec},
    }
    answer = who.admin.post("/v1/services", **body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def shown(who: Tenant, service_id: str) -> tuple[str, str]:
    service = who.admin.get(f"/v1/services/{service_id}").json()
    return service["state"], service["reason"]


def settle(simulated: SimulatedFactory, clock: ManualClock, seconds: int = 8) -> None:
    for _ in range(seconds // 2):
        simulated.turn()
        clock.advance(QUEUED_RECHECK)


def test_what_is_borrowed_comes_back_in_the_shape_that_was_asked_for(
    operator: Caller, tenants: tuple[Tenant, Tenant], simulated: SimulatedFactory, clock: ManualClock
) -> None:
    owner, borrower = tenants
    guarantee(operator, owner, 4)
    guarantee(operator, borrower, 2)
    held = [order(borrower) for _ in range(8)]
    settle(simulated, clock)
    assert {shown(borrower, one)[0] for one in held} == {"running"}
    clock.advance(timedelta(hours=1))  # none has just started

    gang = order(owner, 4, same_nvlink_domain=True)
    late = order(borrower)
    settle(simulated, clock)
    assert shown(owner, gang) == ("queued", "no_capacity")  # patience first
    assert shown(borrower, late) == ("queued", "share_first")
    words = borrower.admin.get(f"/v1/services/{late}/explain").json()
    assert "another tenant's guaranteed share comes first" in words["message"]
    assert words["decision"]["behind_tenant"] is None  # whose it is, is for the operator
    assert operator.get(f"/v1/services/{late}/explain").json()["decision"]["behind_tenant"] == "owner"

    clock.advance(timedelta(seconds=600))
    settle(simulated, clock, 16)
    assert shown(owner, gang)[0] == "running"
    states = [shown(borrower, one)[0] for one in held]
    assert states.count("running") == 4  # one node was freed, and nobody beside it stopped
    assert states.count("queued") == 4
    reasons = {shown(borrower, one)[1] for one in held if shown(borrower, one)[0] == "queued"}
    assert reasons <= {"reclaimed", "share_first", "no_capacity"}
    events = operator.get("/v1/events", limit=200, tenant_id=borrower.id).json()["items"]
    assert "reclaimed" in {one["data"].get("reason") for one in events}


def test_a_share_is_never_taken_below_its_own(
    operator: Caller, tenants: tuple[Tenant, Tenant], simulated: SimulatedFactory, clock: ManualClock
) -> None:
    owner, borrower = tenants
    guarantee(operator, owner, 4)
    guarantee(operator, borrower, 4)
    for who in tenants:
        for _ in range(4):
            order(who)
    settle(simulated, clock)
    more = order(owner)  # above its share
    clock.advance(timedelta(hours=2))
    settle(simulated, clock, 16)
    assert shown(owner, more) == ("queued", "no_capacity")


def test_an_operator_can_turn_reclaim_off(
    operator: Caller, tenants: tuple[Tenant, Tenant], simulated: SimulatedFactory, clock: ManualClock
) -> None:
    owner, borrower = tenants
    guarantee(operator, owner, 4)
    assert operator.get("/v1/policy").json()["reclaim"] == "borrowed"
    answer = operator.put("/v1/policy", reclaim="yielding")
    assert answer.status_code == 200, answer.text
    assert answer.json()["reclaim"] == "yielding"
    for _ in range(8):
        order(borrower)
    settle(simulated, clock)
    waits = order(owner)
    clock.advance(timedelta(hours=2))
    settle(simulated, clock, 16)
    assert shown(owner, waits)[0] == "queued"
    operator.put("/v1/policy", reclaim="borrowed")
    settle(simulated, clock, 16)
    assert shown(owner, waits)[0] == "running"


def test_within_the_share_is_served_first_and_then_who_is_expected_to_be_done_soonest(
    operator: Caller, tenants: tuple[Tenant, Tenant], simulated: SimulatedFactory, clock: ManualClock
) -> None:
    owner, borrower = tenants
    guarantee(operator, owner, 2)
    full = order(borrower, 8)
    settle(simulated, clock)
    first = [order(borrower) for _ in range(6)]
    mine = [order(owner) for _ in range(3)]
    borrower.admin.delete(f"/v1/services/{full}")
    settle(simulated, clock, 20)
    assert [shown(owner, one)[0] for one in mine[:2]] == ["running", "running"]
    states = [shown(borrower, one)[0] for one in first] + [shown(owner, mine[2])[0]]
    assert states.count("running") == 6


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"dimension": "services", "limit": 9, "guaranteed": 1}, "guaranteed"),
        ({"dimension": "devices:H100", "limit": 2, "guaranteed": 3}, "guaranteed"),
        ({"dimension": "devices:H100", "limit": 9, "guaranteed": -1}, "guaranteed"),
        ({"dimension": "devices", "limit": 99, "guaranteed": 9}, "guaranteed"),
    ],
)
def test_a_share_that_cannot_be_kept_is_refused(
    operator: Caller, tenants: tuple[Tenant, Tenant], body: dict[str, Any], field: str
) -> None:
    answer = operator.put("/v1/quotas", tenant_id=tenants[0].id, **body)
    assert answer.status_code in (409, 422)
    assert answer.json()["error"]["field"].endswith(field)


def test_no_more_is_guaranteed_than_there_is(operator: Caller, tenants: tuple[Tenant, Tenant]) -> None:
    guarantee(operator, tenants[0], 5)
    asked = {"dimension": "devices:H100", "limit": 8, "guaranteed": 4}
    answer = operator.put("/v1/quotas", tenant_id=tenants[1].id, **asked)
    assert answer.status_code == 409
    assert answer.json()["error"]["data"] == {"capacity": 8, "guaranteed_to_others": 5}
    project = {"dimension": "devices:H100", "limit": 8, "project_id": tenants[0].project_id}
    assert tenants[0].admin.put("/v1/quotas", **project, guaranteed=6).status_code == 409
    assert tenants[0].admin.put("/v1/quotas", **project, guaranteed=5).status_code == 200


@pytest.mark.parametrize(
    "body", [{"reclaim": "everything"}, {"bound_s": -1}, {"patience_s": 700}, {"nonsense": 1}]
)
def test_a_policy_that_cannot_be_is_refused(operator: Caller, body: dict[str, Any]) -> None:
    before = operator.get("/v1/policy").json()
    answer = operator.put("/v1/policy", **body)
    assert answer.status_code == 422
    assert operator.get("/v1/policy").json() == before
