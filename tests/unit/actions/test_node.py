"""Enrolment: everything in one transaction, nothing when nothing changed, nothing ever deleted."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from penstock.actions import agent as agent_actions
from penstock.actions import device_class as device_class_actions
from penstock.actions import node as node_actions
from penstock.actions.context import Context
from penstock.actions.enrolment import schedulable_memory_bytes
from penstock.actions.node import SiteFacts
from penstock.base.clock import ManualClock
from penstock.base.errors import ConflictError, InvalidInputError, UnauthenticatedError
from penstock.control_plane import ControlPlane
from penstock.drivers.base import DeviceFacts, NodeFacts
from penstock.store import agent as agent_store
from penstock.store.database import SYSTEM
from tests.support.infrastructure import GIB, add_allocation, add_service, change, enroll, node_facts, query

SITE = SiteFacts("sim", simulated=True)


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    device_class_actions.seed(control_plane.context)
    return control_plane.context


def generations(context: Context) -> list[int]:
    rows = query(context, "SELECT generation FROM node UNION ALL SELECT generation FROM device")
    return [row["generation"] for row in rows]


def open_states(context: Context) -> list[tuple[str, str | None, int]]:
    rows = query(
        context,
        "SELECT state, cause, count(*) AS n FROM segment WHERE end_at IS NULL GROUP BY 1, 2 ORDER BY 1",
    )
    return [(row["state"], row["cause"], row["n"]) for row in rows]


def test_nodes_devices_racks_feeds_and_first_segments_appear_together(context: Context) -> None:
    enrolled = enroll(context)
    (site,) = query(context, "SELECT * FROM site")
    (rack,) = query(
        context, "SELECT r.name, f.name AS feed FROM rack r JOIN power_feed f ON f.id = r.power_feed_id"
    )
    assert (site["name"], site["simulated"], rack["name"], rack["feed"]) == ("sim", True, "r1", "feed-r1")
    nodes = query(context, "SELECT * FROM node ORDER BY name")
    assert {row["name"]: row["id"] for row in nodes} == enrolled.nodes
    assert nodes[0]["cpu_millis"] == 144_000
    assert nodes[0]["memory_bytes"] == 952 * GIB
    assert nodes[0]["notes"] == ["made up by a test"]
    assert nodes[0]["simulated"] is True
    devices = query(context, "SELECT * FROM device")
    assert {(d["device_class"], d["slices"], d["simulated"]) for d in devices} == {("GB200", 7, True)}
    segments = query(context, "SELECT * FROM segment")
    assert {
        (s["slice_low"], s["slice_high"], s["state"], s["device_class"], s["simulated"]) for s in segments
    } == {(0, 7, "free", "GB200", True)}
    assert len(segments) == 8


def test_same_facts_again_write_nothing(context: Context) -> None:
    enroll(context)
    before = query(context, "SELECT xmin::text, id FROM node UNION ALL SELECT xmin::text, id FROM device")
    events = query(context, "SELECT count(*) AS n FROM event")
    enroll(context)
    assert (
        query(context, "SELECT xmin::text, id FROM node UNION ALL SELECT xmin::text, id FROM device")
        == before
    )
    assert query(context, "SELECT count(*) AS n FROM event") == events
    assert set(generations(context)) == {1}


def test_changed_facts_change_only_what_they_are_about(context: Context) -> None:
    enrolled = enroll(context)
    facts = [node_facts("n1"), replace(node_facts("n2"), cpu_model="Grace 2")]
    drivers = {"n1": ("simulated",), "n2": ("simulated",)}
    node_actions.enroll(context, enrolled.agent_id, SITE, facts, drivers)
    assert sorted(generations(context)) == [1] * 9 + [2]
    (row,) = query(context, "SELECT cpu_model FROM node WHERE name = 'n2'")
    assert row["cpu_model"] == "Grace 2"


def test_device_that_vanished_stays_as_failed_and_comes_back(context: Context) -> None:
    enrolled = enroll(context, ["n1"])
    drivers = {"n1": ("simulated",)}
    node_actions.enroll(context, enrolled.agent_id, SITE, [node_facts("n1", devices=3)], drivers)
    (row,) = query(context, "SELECT * FROM device WHERE health = 'failed'")
    assert row["position"] == 3
    assert open_states(context) == [("free", None, 3), ("repair", "device_failed", 1)]
    node_actions.enroll(context, enrolled.agent_id, SITE, [node_facts("n1")], drivers)
    assert open_states(context) == [("free", None, 4)]
    kinds = [
        row["kind"] for row in query(context, "SELECT kind FROM event WHERE kind LIKE 'device.%' ORDER BY id")
    ]
    assert kinds == ["device.failed", "device.ok"]


def test_failed_device_wakes_the_service_that_holds_it(context: Context) -> None:
    enrolled = enroll(context, ["n1"])
    add_service(context, "svc_1", state="running")
    change(
        context,
        "INSERT INTO claim (id, service_id, allocation_id, tenant_id, project_id, node_id, device_id, mask, held_from) "
        "SELECT 'clm_1', 'svc_1', 'alc_1', 'ten_1', 'prj_1', node_id, id, 127, :at FROM device WHERE position = 3",
        at=context.clock.now(),
    )
    facts = [node_facts("n1", devices=3)]
    node_actions.enroll(context, enrolled.agent_id, SITE, facts, {"n1": ("simulated",)})
    (service,) = query(context, "SELECT due_at FROM service")
    assert service["due_at"] == context.clock.now()


def test_unknown_accelerator_is_enrolled_as_such_and_joins_its_class_later(context: Context) -> None:
    agent_id = agent_actions.ensure_in_process(context, "a")
    odd = NodeFacts(
        "n1", "x86_64", "c", 1, 2, GIB, devices=[DeviceFacts(0, "unknown", "Abacus 9000", "abacus", 8 * GIB)]
    )
    node_actions.enroll(context, agent_id, SITE, [odd], {})
    (row,) = query(context, "SELECT device_class, slices, slice_memory_bytes FROM device")
    assert (row["device_class"], row["slices"], row["slice_memory_bytes"]) == ("unknown", 1, 8 * GIB)
    change(
        context,
        "INSERT INTO device_class (name, data) SELECT 'Abacus', jsonb_set(jsonb_set(data, '{match}', "
        "'[\"abacus\"]'), '{slices}', '4') FROM device_class WHERE name = 'GB200'",
    )
    node_actions.enroll(context, agent_id, SITE, [odd], {})
    (row,) = query(context, "SELECT device_class, slices FROM device")
    assert (row["device_class"], row["slices"]) == ("Abacus", 4)
    rows = query(context, "SELECT device_class, slice_high FROM segment WHERE end_at IS NULL")
    assert [(r["device_class"], r["slice_high"]) for r in rows] == [("Abacus", 4)]


def test_device_in_use_keeps_its_class(context: Context) -> None:
    enrolled = enroll(context, ["n1"], devices=1)
    change(context, "UPDATE device SET used_mask = 1")
    facts = replace(
        node_facts("n1", devices=1), devices=[DeviceFacts(0, "L40S", "NVIDIA L40S", "nvidia", 48 * GIB)]
    )
    node_actions.enroll(context, enrolled.agent_id, SITE, [facts], {"n1": ("simulated",)})
    (row,) = query(context, "SELECT device_class, slices, model FROM device")
    assert (row["device_class"], row["slices"], row["model"]) == ("GB200", 7, "NVIDIA L40S")


def test_node_that_its_agent_no_longer_lists_is_lost_until_it_is_listed_again(
    context: Context, control_plane: ControlPlane
) -> None:
    del control_plane
    enrolled = enroll(context)
    enroll(context, ["n1"])
    (row,) = query(context, "SELECT state, state_message FROM node WHERE name = 'n2'")
    assert row["state"] == "unreachable"
    assert "inventory" in row["state_message"]
    agent_actions.push(context, enrolled.agent_id, ())
    assert query(context, "SELECT state FROM node WHERE name = 'n2'")[0]["state"] == "unreachable"
    enroll(context)
    assert query(context, "SELECT state FROM node WHERE name = 'n2'")[0]["state"] == "recovering"


def test_node_of_a_living_agent_is_refused_and_of_a_silent_one_taken_over(
    context: Context, clock: ManualClock
) -> None:
    enrolled = enroll(context, ["n1"])
    add_service(context, "svc_1")
    allocation_id = add_allocation(context, "svc_1", enrolled.nodes["n1"], enrolled.agent_id)
    with pytest.raises(ConflictError, match="alive"):
        enroll(context, ["n1"], agent="other")
    assert query(context, "SELECT agent_id FROM node")[0]["agent_id"] == enrolled.agent_id
    clock.advance(timedelta(seconds=31))
    with context.db.transaction(SYSTEM) as connection:
        agent_store.mark_silent(connection, clock.now() - timedelta(seconds=30))
    other = enroll(context, ["n1"], agent="other")
    assert other.nodes == enrolled.nodes
    pulled = agent_actions.pull(context, other.agent_id, 0, 0)
    assert [row["id"] for row in pulled.allocations] == [allocation_id]


def test_site_keeps_its_nature(context: Context) -> None:
    enroll(context)
    with pytest.raises(ConflictError, match="simulated"):
        enroll(context, ["real1"], agent="real", simulated=False)
    assert query(context, "SELECT count(*) AS n FROM node")[0]["n"] == 2


def test_revoked_agent_enrols_nothing(context: Context) -> None:
    agent_id = agent_actions.ensure_in_process(context, "a")
    with context.db.transaction(SYSTEM) as connection:
        agent_store.revoke(connection, agent_id)
    with pytest.raises(UnauthenticatedError):
        node_actions.enroll(context, agent_id, SITE, [node_facts("n1")], {})
    assert query(context, "SELECT count(*) AS n FROM node")[0]["n"] == 0


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ([node_facts("n1"), node_facts("n1")], "nodes"),
        ([replace(node_facts("n1"), name="")], "nodes.0.name"),
        ([replace(node_facts("n1"), memory_bytes=-1)], "nodes.0.memory_bytes"),
        ([replace(node_facts("n1"), rack="x" * 200)], "nodes.0.rack"),
        ([replace(node_facts("n1"), devices=[node_facts("x").devices[0]] * 2)], "nodes.0.devices"),
        (
            [replace(node_facts("n1"), devices=[replace(node_facts("x").devices[0], health="fine")])],
            "nodes.0.devices.0.health",
        ),
        (
            [replace(node_facts("n1"), devices=[replace(node_facts("x").devices[0], serial="a\0b")])],
            "nodes.0.devices.0.serial",
        ),
    ],
)
def test_facts_that_cannot_be_name_their_field(context: Context, facts: list[NodeFacts], field: str) -> None:
    agent_id = agent_actions.ensure_in_process(context, "a")
    with pytest.raises(InvalidInputError) as caught:
        node_actions.enroll(context, agent_id, SITE, facts, {})
    assert caught.value.field == field
    assert query(context, "SELECT count(*) AS n FROM site")[0]["n"] == 0


def test_reserve_is_a_sixteenth_and_at_most_8_gib() -> None:
    assert schedulable_memory_bytes(16 * GIB) == 15 * GIB
    assert schedulable_memory_bytes(2_048 * GIB) == 2_040 * GIB


def test_1008_devices_are_enrolled_in_under_a_second_of_work(context: Context) -> None:
    agent_id = agent_actions.ensure_in_process(context, "sim")
    facts = [node_facts(f"r{rack}-n{n}", rack=f"r{rack}") for rack in range(14) for n in range(18)]
    before = time.process_time()
    ids = node_actions.enroll(context, agent_id, SITE, facts, {node.name: ("simulated",) for node in facts})
    assert time.process_time() - before < 1.0
    assert len(ids) == 252
    assert open_states(context) == [("free", None, 1008)]
