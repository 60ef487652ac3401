"""The operator's view of hardware over HTTP: what is shown, what may be changed, and who may not look."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from penstock.actions.context import Context
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.drivers.base import InjectsFaults
from penstock.engine.node import NodeEngine
from tests.support.infrastructure import Enrolled, add_allocation, add_service, change, enroll, query
from tests.support.tenancy import Caller, Tenant

GIB = 1 << 30


class Switch:
    """A fault injector that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def fail_node(self, node_name: str) -> None:
        self.told.append(("fail", node_name))

    def heal_node(self, node_name: str) -> None:
        self.told.append(("heal", node_name))


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    control_plane.seed()
    return control_plane.context


@pytest.fixture
def fleet(context: Context) -> Enrolled:
    return enroll(context, ["n1", "n2", "n3"])


def good(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error["code"] == code
    return error


def test_site_rack_feed_and_class_are_shown_as_simulated(operator: Caller, fleet: Enrolled) -> None:
    del fleet
    (site,) = good(operator.get("/v1/sites"))["items"]
    assert (site["name"], site["simulated"], site["nodes"]) == ("sim", True, 3)
    assert good(operator.get(f"/v1/sites/{site['id']}")) == site
    assert good(operator.get("/v1/sites", simulated=False))["items"] == []
    (rack,) = good(operator.get("/v1/racks", site=site["id"]))["items"]
    assert (rack["nodes"], rack["devices"], rack["devices_used"], rack["simulated"]) == (3, 12, 0, True)
    assert good(operator.get(f"/v1/racks/{rack['id']}")) == rack
    (feed,) = good(operator.get("/v1/power-feeds", site=site["id"]))["items"]
    assert feed["budget_watts"] is None
    changed = good(operator.put(f"/v1/power-feeds/{feed['id']}/budget", budget_watts=132_000))
    assert changed["budget_watts"] == 132_000
    assert good(operator.get(f"/v1/power-feeds/{feed['id']}")) == changed
    refused(operator.put(f"/v1/power-feeds/{feed['id']}/budget", budget_watts=-1), 422, "invalid_input")


def test_nodes_are_listed_in_pages_and_filtered(operator: Caller, fleet: Enrolled) -> None:
    first = good(operator.get("/v1/nodes", limit=2))
    assert len(first["items"]) == 2
    second = good(operator.get("/v1/nodes", limit=2, after=first["next"]))
    assert second["next"] is None
    assert {row["id"] for row in first["items"] + second["items"]} == set(fleet.nodes.values())
    (row,) = good(operator.get("/v1/nodes", name="n2"))["items"]
    assert row["id"] == fleet.nodes["n2"]
    assert good(operator.get("/v1/nodes", state="unreachable"))["items"] == []
    assert (
        len(good(operator.get("/v1/nodes", simulated=True, cordoned=False, agent=fleet.agent_id))["items"])
        == 3
    )
    refused(operator.get("/v1/nodes", state="gone"), 422, "invalid_input")


def test_node_shows_devices_what_is_free_its_agent_its_notes_and_its_work(
    operator: Caller, context: Context, fleet: Enrolled
) -> None:
    add_service(context, "svc_1")
    allocation = add_allocation(context, "svc_1", fleet.nodes["n1"], fleet.agent_id)
    change(
        context, "UPDATE device SET used_mask = 3 WHERE node_id = :id AND position = 0", id=fleet.nodes["n1"]
    )
    change(
        context,
        "UPDATE device SET health = 'failed' WHERE node_id = :id AND position = 1",
        id=fleet.nodes["n1"],
    )
    change(context, "UPDATE node SET memory_used_bytes = 2 WHERE id = :id", id=fleet.nodes["n1"])
    node = good(operator.get(f"/v1/nodes/{fleet.nodes['n1']}"))
    assert (node["devices_total"], node["devices_used"], node["devices_free"], node["devices_unhealthy"]) == (
        4,
        1,
        2,
        1,
    )
    assert node["memory_free_bytes"] == 952 * GIB - 2
    assert (node["agent_state"], node["notes"], node["simulated"]) == ("active", ["made up by a test"], True)
    assert [device["slices_used"] for device in node["devices"]] == [2, 0, 0, 0]
    assert [(a["id"], a["wanted"], a["phase"]) for a in node["allocations"]] == [
        (allocation, "present", "pending")
    ]
    (listed,) = good(operator.get("/v1/nodes", name="n1"))["items"]
    assert {key: node[key] for key in listed} == listed


def test_devices_and_capacity_count_the_same(operator: Caller, context: Context, fleet: Enrolled) -> None:
    change(
        context,
        "UPDATE device SET used_mask = 127 WHERE node_id = :id AND position = 0",
        id=fleet.nodes["n1"],
    )
    change(
        context, "UPDATE device SET used_mask = 1 WHERE node_id = :id AND position = 1", id=fleet.nodes["n1"]
    )
    change(
        context,
        "UPDATE device SET health = 'failed' WHERE node_id = :id AND position = 2",
        id=fleet.nodes["n1"],
    )
    change(context, "UPDATE node SET cordoned = true WHERE name = 'n2'")
    capacity = good(operator.get("/v1/capacity"))
    assert (capacity["real_devices"], capacity["simulated_devices"]) == (0, 12)
    (row,) = capacity["classes"]
    assert {key: row[key] for key in row if key != "memory_bytes"} == {
        "device_class": "GB200",
        "simulated": True,
        "devices": 12,
        "devices_sold": 2,
        "devices_free": 5,
        "devices_kept": 0,
        "devices_unhealthy": 5,
        "slices": 84,
        "slices_sold": 8,
        "slices_free": 41,
    }
    assert len(good(operator.get("/v1/devices", used=True))["items"]) == 2
    (failed,) = good(operator.get("/v1/devices", health="failed", node=fleet.nodes["n1"]))["items"]
    assert good(operator.get(f"/v1/devices/{failed['id']}")) == failed
    assert good(operator.get("/v1/devices", device_class="H100"))["items"] == []


def test_cordon_is_repeatable_audited_and_named_in_the_ledger(
    operator: Caller, context: Context, fleet: Enrolled
) -> None:
    path = f"/v1/nodes/{fleet.nodes['n1']}"
    for _ in range(2):
        assert good(operator.post(f"{path}/cordon"))["cordoned"] is True
    states = query(
        context,
        "SELECT DISTINCT s.state, s.cause FROM segment s JOIN device d ON d.id = s.device_id "
        "WHERE d.node_id = :id AND s.end_at IS NULL",
        id=fleet.nodes["n1"],
    )
    assert states == [{"state": "stranded", "cause": "cordoned"}]
    assert good(operator.post(f"{path}/uncordon"))["cordoned"] is False
    actions = [row["action"] for row in query(context, "SELECT action FROM audit ORDER BY id")]
    assert actions == ["node.cordon", "node.uncordon"]
    free = query(context, "SELECT count(*) AS n FROM segment WHERE end_at IS NULL AND state = 'free'")
    assert free[0]["n"] == 12


def test_retiring_waits_for_the_last_claim_and_keeps_the_history(
    operator: Caller, context: Context, fleet: Enrolled
) -> None:
    path = f"/v1/nodes/{fleet.nodes['n1']}"
    add_service(context, "svc_1")
    add_allocation(context, "svc_1", fleet.nodes["n1"], fleet.agent_id)
    error = refused(operator.post(f"{path}/retire"), 409, "conflict")
    assert error["data"] == {"held": 1}
    change(context, "DELETE FROM allocation")
    assert good(operator.post(f"{path}/retire"))["state"] == "retired"
    assert good(operator.post(f"{path}/retire"))["state"] == "retired"
    assert good(operator.get("/v1/capacity"))["simulated_devices"] == 8
    rows = query(context, "SELECT DISTINCT cause FROM segment WHERE state = 'dark'")
    assert rows == [{"cause": "node_retired"}]
    enroll(context, ["n1", "n2", "n3"])
    assert good(operator.get(path))["state"] == "retired"


def test_writing_off_is_for_unreachable_nodes_only_and_wakes_what_waits(
    operator: Caller, context: Context, fleet: Enrolled
) -> None:
    path = f"/v1/nodes/{fleet.nodes['n1']}"
    add_service(context, "svc_1", state="releasing")
    add_allocation(context, "svc_1", fleet.nodes["n1"], fleet.agent_id, wanted="absent", generation=2)
    refused(operator.post(f"{path}/write-off"), 409, "conflict")
    assert query(context, "SELECT phase FROM allocation") == [{"phase": "pending"}]
    change(context, "UPDATE node SET state = 'unreachable' WHERE name = 'n1'")
    good(operator.post(f"{path}/write-off"))
    assert query(context, "SELECT phase, phase_generation FROM allocation") == [
        {"phase": "absent", "phase_generation": 2}
    ]
    assert query(context, "SELECT due_at FROM service") == [{"due_at": context.clock.now()}]


def test_rehearsal_reaches_simulated_nodes_only(
    operator: Caller, control_plane: ControlPlane, context: Context, fleet: Enrolled
) -> None:
    switch = Switch()
    assert isinstance(switch, InjectsFaults)
    (site,) = query(context, "SELECT id FROM site")
    path = f"/v1/simulated/nodes/{fleet.nodes['n1']}"
    refused(operator.post(f"{path}/fail"), 503, "unavailable")
    control_plane.fault_injectors[site["id"]] = switch
    good(operator.post(f"{path}/fail"))
    good(operator.post(f"{path}/heal"))
    assert switch.told == [("fail", "n1"), ("heal", "n1")]
    real = enroll(context, ["real1"], agent="local", site="home", simulated=False)
    error = refused(operator.post(f"/v1/simulated/nodes/{real.nodes['real1']}/fail"), 409, "conflict")
    assert "real" in error["message"]
    assert len(switch.told) == 2


def test_simulated_site_fails_and_heals_for_the_whole_factory(
    operator: Caller, client: TestClient, control_plane: ControlPlane, simulated: Any
) -> None:
    del client
    (site,) = good(operator.get("/v1/sites"))["items"]
    control_plane.fault_injectors[site["id"]] = simulated.driver
    name, node_id = next(iter(simulated.nodes.items()))
    good(operator.post(f"/v1/simulated/nodes/{node_id}/fail"))
    simulated.turn(2)
    assert good(operator.get(f"/v1/nodes/{node_id}"))["state"] == "unreachable", name
    good(operator.post(f"/v1/simulated/nodes/{node_id}/heal"))
    simulated.turn(3)
    assert good(operator.get(f"/v1/nodes/{node_id}"))["state"] == "ready"


def test_device_classes_are_data(operator: Caller, acme: Tenant, context: Context, fleet: Enrolled) -> None:
    del fleet
    names = {row["name"] for row in good(acme.member.get("/v1/device-classes"))["items"]}
    assert {"GB200", "H100", "MI300X", "unknown"} <= names
    body = {
        "vendor": "abacus",
        "model": "Abacus 9000",
        "memory_bytes": 64 * GIB,
        "slices": 4,
        "power_watts": 300,
        "match": ["Abacus"],
        "source": "data sheet",
    }
    made = good(operator.put("/v1/device-classes/Abacus", **body))
    assert made["slice_memory_bytes"] == 16 * GIB
    assert good(acme.member.get("/v1/device-classes/Abacus")) == made
    refused(acme.admin.put("/v1/device-classes/Abacus", **body), 403, "forbidden")
    refused(operator.put("/v1/device-classes/Abacus", **{**body, "slices": 0}), 422, "invalid_input")
    refused(operator.put("/v1/device-classes/Abacus", **body, colour="red"), 422, "invalid_input")
    error = refused(operator.put("/v1/device-classes/GB200", **body), 409, "conflict")
    assert error["data"] == {"devices": 12, "slices": 7}
    refused(operator.put("/v1/device-classes/unknown", **body), 409, "conflict")
    refused(operator.get("/v1/device-classes/none"), 404, "not_found")
    outcomes = query(context, "SELECT outcome FROM audit WHERE subject_id = 'Abacus' ORDER BY id")
    assert [row["outcome"] for row in outcomes] == ["done", "refused:forbidden"]


READS = ("/v1/sites", "/v1/racks", "/v1/power-feeds", "/v1/nodes", "/v1/devices", "/v1/capacity")


def test_hardware_is_the_operators_to_see(acme: Tenant, fleet: Enrolled, client: TestClient) -> None:
    for path in READS:
        for caller in (acme.admin, acme.member, acme.auditor):
            refused(caller.get(path), 403, "forbidden")
        assert client.get(path).status_code == 401
    node = f"/v1/nodes/{fleet.nodes['n1']}"
    refused(acme.admin.get(node), 404, "not_found")
    for change_ in ("cordon", "uncordon", "retire", "write-off"):
        refused(acme.admin.post(f"{node}/{change_}"), 404, "not_found")
    refused(acme.admin.post(f"/v1/simulated/nodes/{fleet.nodes['n1']}/fail"), 404, "not_found")


@pytest.mark.parametrize("noun", ["sites", "racks", "power-feeds", "nodes", "devices", "models"])
def test_what_is_not_there_is_not_found(operator: Caller, context: Context, noun: str) -> None:
    prefix = {
        "sites": "site",
        "racks": "rack",
        "power-feeds": "power_feed",
        "nodes": "node",
        "devices": "device",
    }
    id_ = context.new_id(prefix.get(noun, "model"))
    refused(operator.get(f"/v1/{noun}/{id_}"), 404, "not_found")
    refused(operator.get(f"/v1/{noun}/%00"), 422, "invalid_input")


def test_lost_node_is_shown_with_its_reason(
    operator: Caller, control_plane: ControlPlane, fleet: Enrolled, clock: ManualClock
) -> None:
    clock.advance(timedelta(seconds=31))
    NodeEngine(control_plane.db, control_plane.clock, control_plane.wakeups).tick()
    node = good(operator.get(f"/v1/nodes/{fleet.nodes['n1']}"))
    assert (node["state"], node["agent_state"]) == ("unreachable", "silent")
    assert "silent" in node["state_message"]
    assert node["devices_free"] == 4
