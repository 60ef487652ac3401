"""The engine of the fabric over an imagined manager: who joins, who waits, who leaves before others come, what is mended."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.fabric_partition import NEVER_MADE
from penstock.store import fabric_member as member_store
from penstock.store import floor as floor_store
from penstock.store.database import SYSTEM
from tests.support.fabric import FabricFactory
from tests.support.infrastructure import change, query
from tests.support.tenancy import Caller, Tenant


@pytest.fixture
def fabric(control_plane: ControlPlane, clock: ManualClock, tmp_path: Path) -> Iterator[FabricFactory]:
    made = FabricFactory(control_plane, clock, tmp_path)
    yield made
    made.factory.close()


def events(fabric: FabricFactory) -> list[str]:
    sql = "SELECT kind FROM event WHERE kind LIKE 'fabric_partition.%' ORDER BY id"
    return [row["kind"].removeprefix("fabric_partition.") for row in query(fabric.plane.context, sql)]


def test_reports_that_concern_no_fabric_cost_one_look(
    fabric: FabricFactory, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    fabric.engine()
    woken: list[object] = []
    wake = member_store.wake
    monkeypatch.setattr(member_store, "wake", lambda *a: (woken.append(a), wake(*a)))
    fabric.order(acme, 4)
    fabric.engine()
    assert woken == [], "this order names no partition"
    fabric.order(acme, 4, "training")
    fabric.engine()
    assert woken != []


def test_what_asks_for_the_fabric_starts_once_its_nodes_are_in_and_frees_them_once_they_are_out(
    fabric: FabricFactory, acme: Tenant, globex: Tenant
) -> None:
    service = fabric.order(acme, 4, "training")
    fabric.engine()
    nodes = fabric.nodes_of(service)
    assert len(nodes) == 2
    assert fabric.members("training") == dict.fromkeys(nodes, "joining")
    assert fabric.state(service) == (
        "starting",
        "it waits for the fabric partition 'training': its nodes join it",
    )
    fabric.factory.agent.step(0.0)
    pkey = fabric.partition("training")["pkey"]
    assert fabric.manager.partitions() == {pkey: nodes}, "told at once"
    fabric.engine()
    assert fabric.members("training") == dict.fromkeys(nodes, "member")
    fabric.turn(2)
    assert fabric.state(service) == ("running", "")
    assert fabric.leaks() == []
    others = fabric.order(globex, 6)
    fabric.turn(2)
    assert fabric.state(others)[0] == "queued", (
        "four devices are free, and those of the partition are not for others"
    )
    acme.member.delete(f"/v1/services/{service}")
    fabric.engine()
    fabric.factory.agent.step(0.0)
    fabric.engine()
    assert fabric.state(service)[0] == "released"
    assert fabric.members("training") == dict.fromkeys(nodes, "leaving")
    assert fabric.state(others)[0] == "queued", (
        "free, and not for others before the manager has said that they are out"
    )
    fabric.turn(3)
    assert fabric.state(others)[0] in ("starting", "running")
    assert fabric.partition("training") is None, "what was made for a service goes with it"
    assert fabric.manager.partitions() == {}
    assert fabric.leaks() == []
    assert events(fabric) == [
        "created",
        "member_joined",
        "member_joined",
        "member_left",
        "member_left",
        "deleted",
    ]


def test_a_partition_made_by_hand_stays_and_takes_several_services(
    fabric: FabricFactory, acme: Tenant, operator: Caller
) -> None:
    made = acme.member.post("/v1/fabric-partitions", name="training", project_id=acme.project_id).json()
    fabric.turn(2)
    assert (fabric.partition("training")["state"], list(fabric.manager.partitions().values())) == (
        "ready",
        [set()],
    )
    one, two = fabric.order(acme, 2, "training"), fabric.order(acme, 2, "training")
    fabric.turn()
    both = fabric.nodes_of(one) | fabric.nodes_of(two)
    assert set(fabric.members("training")) == both
    path = f"/v1/fabric-partitions/{made['id']}"
    shown = acme.member.get(path).json()
    assert (shown["state"], shown["members"], shown["automatic"]) == ("ready", len(both), False)
    rows = acme.member.get(f"{path}/members").json()["items"]
    assert {(row["node"], row["state"]) for row in rows} == {(name, "member") for name in both}
    node = operator.get(f"/v1/nodes/{rows[0]['node_id']}").json()
    assert [(one["name"], one["pkey"], one["state"]) for one in node["partitions"]] == [
        ("training", made["pkey"], "member")
    ]
    refused = acme.member.delete(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    for service in (one, two):
        acme.member.delete(f"/v1/services/{service}")
    fabric.turn()
    assert fabric.members("training") == {}
    assert acme.member.delete(path).status_code == 202
    fabric.turn(2)
    assert (fabric.partition("training"), fabric.manager.partitions(), fabric.leaks()) == (None, {}, [])


def test_nobody_joins_where_somebody_else_is_or_comes_where_somebody_joined(
    fabric: FabricFactory, acme: Tenant, globex: Tenant
) -> None:
    theirs = [fabric.order(globex, 1) for _ in range(2)]
    fabric.turn(2)
    taken = set[str]().union(*map(fabric.nodes_of, theirs))
    mine = fabric.order(acme, 4, "training")
    fabric.turn()
    assert not fabric.nodes_of(mine) & taken
    assert fabric.state(mine)[0] == "running"
    more = fabric.order(acme, 4, "training")
    fabric.turn()
    assert fabric.state(more)[0] == "queued", (
        "where others hold a device nothing joins, though devices are free"
    )
    beside = fabric.order(acme, 1)
    fabric.turn(3)
    assert fabric.state(beside)[0] == "running"
    assert fabric.leaks() == []


def before_anybody_came(*_: object) -> frozenset[str]:
    return frozenset()


def test_the_gate_refuses_a_plan_made_before_somebody_else_came(
    fabric: FabricFactory, acme: Tenant, globex: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    fabric.order(globex, 1)
    fabric.turn(2)
    monkeypatch.setattr(member_store, "shared_nodes", before_anybody_came)
    mine = fabric.order(acme, 7, "training")
    fabric.plane.services.tick()
    assert fabric.state(mine)[0] == "queued"
    assert query(fabric.plane.context, "SELECT id FROM node WHERE kept_for IS NOT NULL") == []


def test_a_node_that_is_shared_after_all_is_refused_with_the_reason(
    fabric: FabricFactory, acme: Tenant, globex: Tenant
) -> None:
    theirs = fabric.order(globex, 1)
    fabric.turn(2)
    mine = fabric.order(acme, 4, "training")
    fabric.plane.services.tick()
    (node,) = sorted(fabric.nodes_of(mine))[:1]
    change(  # as if it had slipped in
        fabric.plane.context,
        "UPDATE claim SET node_id = (SELECT id FROM node WHERE name = :name) WHERE service_id = :id",
        name=node,
        id=theirs,
    )
    fabric.turn(3)
    assert fabric.members("training")[node] == "refused"
    state, message = fabric.state(mine)
    assert state == "starting"
    assert "another project holds something of the node" in message
    acme_sees = acme.member.get("/v1/fabric-partitions").json()["items"][0]
    rows = acme.member.get(f"/v1/fabric-partitions/{acme_sees['id']}/members").json()["items"]
    assert [row["reason"] for row in rows if row["state"] == "refused"] == [
        "another project holds something of the node; it joins when nobody else does"
    ]
    globex.member.delete(f"/v1/services/{theirs}")
    fabric.turn(8)
    assert fabric.state(mine)[0] == "running"
    assert fabric.leaks() == []


def resting(fabric: FabricFactory, nodes: set[str]) -> set[tuple[str, str | None]]:
    """Return what the ledger says now of the devices on nodes that no service has."""
    sql = (
        "SELECT s.state, s.cause FROM segment s JOIN device d ON d.id = s.device_id JOIN node n ON n.id = d.node_id "
        "WHERE s.end_at IS NULL AND s.service_id IS NULL AND n.name = ANY(:names)"
    )
    found = query(fabric.plane.context, sql, names=sorted(nodes))
    return {(row["state"], row["cause"]) for row in found}


def test_what_is_kept_for_a_partition_is_not_free_until_its_manager_has_said_that_it_is_out(
    fabric: FabricFactory, acme: Tenant, operator: Caller
) -> None:
    acme.member.post("/v1/fabric-partitions", name="training", project_id=acme.project_id)
    service = fabric.order(acme, 3, "training")
    fabric.turn(3)
    nodes = fabric.nodes_of(service)
    fabric.plane.nodes.tick()
    kept = {("stranded", "fabric_kept")}
    assert resting(fabric, nodes) == kept, "one device is beside those that are sold"
    fabric.manager.trouble = "the manager is in maintenance"
    ended = fabric.clock.now()
    acme.member.delete(f"/v1/services/{service}")
    fabric.turn(5)
    assert fabric.state(service)[0] == "released"
    fabric.plane.nodes.tick()
    assert resting(fabric, nodes) == kept
    with fabric.plane.context.db.transaction(SYSTEM) as connection:
        floor = {row["name"]: set(row["states"]) for row in floor_store.read(connection, fabric.clock.now())}
    assert [floor[name] for name in nodes] == [{"stranded"}] * 2
    (capacity,) = operator.get("/v1/capacity").json()["classes"]
    assert (capacity["devices_free"], capacity["devices_kept"]) == (4, 4)
    sql = "SELECT count(*) AS begun FROM segment WHERE state = 'free' AND start_at >= :since"
    (row,) = query(fabric.plane.context, sql, since=ended)
    assert row["begun"] == 0, "not for a moment"
    fabric.manager.trouble = None
    fabric.turn(8, seconds=limits.FABRIC_RETRY_MAX.total_seconds() / 3)
    assert resting(fabric, nodes) == {("free", None)}
    ledger = operator.get("/v1/reports/ledger").json()
    assert ledger["conservation_error_us"] == 0
    assert "fabric_kept" in {one["cause"] for one in ledger["items"]}


def test_a_manager_that_fails_is_tried_again_with_pauses_and_says_why(
    fabric: FabricFactory, acme: Tenant
) -> None:
    fabric.manager.trouble = "the manager is in maintenance"
    service = fabric.order(acme, 4, "training")
    fabric.turn(12)
    row = fabric.partition("training")
    assert (row["state"], row["reason"]) == ("failed", "the manager is in maintenance")
    assert 3 <= row["attempts"] <= 7, "each pause is twice the one before"
    assert row["due_at"] - fabric.clock.now() > timedelta(seconds=4)
    state, message = fabric.state(service)
    assert (state, message.endswith("the manager is in maintenance")) == ("starting", True)
    fabric.manager.trouble = None
    fabric.turn(6, seconds=limits.FABRIC_RETRY_MAX.total_seconds() / 3)
    assert fabric.state(service) == ("running", "")
    assert (fabric.partition("training")["state"], fabric.partition("training")["attempts"]) == ("ready", 0)
    assert [kind for kind in events(fabric) if kind in ("failed", "recovered")] == ["failed", "recovered"]


def test_what_somebody_changed_in_the_manager_is_mended_and_said(fabric: FabricFactory, acme: Tenant) -> None:
    service = fabric.order(acme, 4, "training")
    fabric.turn()
    pkey, nodes = fabric.partition("training")["pkey"], fabric.nodes_of(service)
    for found in (set[str](), {*nodes, "r01t04"}, set(sorted(nodes)[:1])):
        fabric.tampered = frozenset({*found, *nodes})
        fabric.manager.tamper(pkey, found)
        fabric.turn(5)
        assert fabric.manager.partitions() == {pkey: nodes}
    fabric.tampered = frozenset()
    assert fabric.partition("training")["repairs"] == 3
    fabric.manager.lose_everything()
    fabric.turn(3)
    assert (fabric.manager.partitions(), fabric.leaks()) == ({pkey: nodes}, [])
    assert events(fabric).count("repaired") == 3


def test_policy_says_whose_partition_is_made(fabric: FabricFactory, acme: Tenant, operator: Caller) -> None:
    alone = fabric.order(acme, 1, "alone")
    fabric.turn()
    assert (fabric.partition("alone"), fabric.state(alone)[0]) == (None, "running"), (
        "one node needs no partition"
    )
    operator.put("/v1/policy", fabric="always")
    second = fabric.order(acme, 1, "second")
    fabric.turn()
    assert (fabric.partition("second")["automatic"], fabric.state(second)[0]) == (True, "running")
    waits = fabric.order(acme, 4, "never")
    operator.put("/v1/policy", fabric="never")
    fabric.turn(2)
    assert fabric.state(waits) == ("starting", NEVER_MADE)
    body: dict[str, Any] = {"offer": "gpu", "project": acme.project_id}
    answer = acme.member.post(
        "/v1/services", **body, spec={"count": 4, "device_class": "H100", "fabric": "absent"}
    )
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "spec.fabric")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"fabric": "x", "slices": 1}, "slices"),
        ({"fabric": "x", "preemptible": True}, "preemptible"),
        ({"fabric": "Not a name"}, "fabric"),
        ({"fabric": "x\n"}, "fabric"),
        ({"fabric": 7}, "fabric"),
    ],
)
def test_orders_that_cannot_join_are_refused(
    fabric: FabricFactory, acme: Tenant, more: dict[str, Any], field: str
) -> None:
    spec = {"count": 1, "device_class": "H100", **more}
    answer = acme.member.post("/v1/services", offer="gpu", project=acme.project_id, spec=spec)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, f"spec.{field}"), answer.text
    assert fabric.partition("x") is None


def test_the_lost_node_that_told_the_manager_is_followed_by_another_one(
    fabric: FabricFactory, acme: Tenant
) -> None:
    service = fabric.order(acme, 2, "training")
    operator_sql = "SELECT n.name FROM allocation a JOIN node n ON n.id = a.node_id WHERE a.fabric_partition_id IS NOT NULL"
    acme.member.post("/v1/fabric-partitions", name="training", project_id=acme.project_id)
    fabric.turn()
    (carrier,) = [row["name"] for row in query(fabric.plane.context, operator_sql)]
    fabric.factory.driver.fail_node(carrier)
    fabric.turn(14)
    (now,) = [row["name"] for row in query(fabric.plane.context, operator_sql)]
    assert now != carrier
    assert fabric.state(service)[0] == "running"
    assert set(fabric.members("training")) == fabric.nodes_of(service)
    assert fabric.leaks() == []
