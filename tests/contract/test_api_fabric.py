"""Where nodes are in the fabric, and partitions of it, over the API and by commands."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock.control_plane import ControlPlane
from tests.support.command_line import CommandLine
from tests.support.networks import made
from tests.support.simulated_factory import SimulatedFactory
from tests.support.tenancy import Caller, Tenant


def refused(answer: Any, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code


def test_keys_are_given_to_one_project_each(operator: Caller, acme: Tenant, globex: Tenant) -> None:
    def take(pair: tuple[int, Tenant]) -> Any:
        number, tenant = pair
        return tenant.member.post("/v1/fabric-partitions", name=f"p{number}", project_id=tenant.project_id)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(take, enumerate([acme, globex] * 6)))
    keys = [made(answer)["pkey"] for answer in answers]
    assert sorted(keys) == [f"{0x8000 | number:#06x}" for number in range(1, 13)]
    mine = acme.member.get("/v1/fabric-partitions").json()["items"]
    assert len(mine) == 6
    refused(take((0, acme)), 409, "conflict")
    refused(
        acme.auditor.post("/v1/fabric-partitions", name="x", project_id=acme.project_id), 403, "forbidden"
    )
    assert globex.admin.get(f"/v1/fabric-partitions/{mine[0]['id']}").status_code == 404
    gone = acme.member.delete(f"/v1/fabric-partitions/{mine[0]['id']}")
    assert (gone.status_code, gone.json()["state"]) == (202, "deleting")
    operator.plane.fabric.tick()
    assert made(take((99, globex)))["pkey"] == mine[0]["pkey"], "a key that was given back is given again"
    refused(acme.admin.get("/v1/fabric"), 403, "forbidden")
    gone = operator.put(f"/v1/fabric-partitions/{mine[1]['id']}/nodes", node_ids=["nod_" + "0" * 26])
    refused(gone, 404, "not_found")


def test_operators_see_the_fabric_and_fill_partitions(
    control_plane: ControlPlane, simulated: SimulatedFactory, served: str, operator: Caller, acme: Tenant
) -> None:
    del control_plane
    penstock, operate = CommandLine(served, acme.member.key), CommandLine(served, operator.key)
    places = operate.json("fabric", "nodes")["items"]
    assert len(places) == len(simulated.nodes)
    assert all(place["leaf"] and place["spine"] and place["simulated"] for place in places)
    first = operator.get("/v1/fabric", limit=1).json()
    assert first["next"] == first["items"][0]["node_id"]
    some = places[0]
    at_leaf = operate.json("fabric", "nodes", "--leaf", some["leaf"], "--spine", some["spine"])["items"]
    assert [place["name"] for place in at_leaf] == [
        place["name"] for place in places if place["leaf"] == some["leaf"]
    ]
    domain = some["nvlink_domains"][0]
    assert operate.json("fabric", "nodes", "--nvlink-domain", domain)["items"] == [
        place for place in places if domain in place["nvlink_domains"]
    ]
    assert operate.json("fabric", "nodes", "--core", "nowhere")["items"] == []
    penstock.json("fabric", "create", "training")
    assert operate.json("fabric", "nodes", "--partition", "training")["items"] == []
    assert "training" in penstock("fabric", "list").stdout
    names = [place["name"] for place in places]
    assert operate.json("fabric", "set", "training", *names)["nodes"] == len(names)
    assert penstock("fabric", "set", "training").exit_code == 3, "operators alone say who is in"
    assert penstock("fabric", "delete", "training", "--yes").exit_code == 3, "not while nodes are in it"
    assert operate.json("fabric", "set", "training")["nodes"] == 0
    assert "training" in penstock("fabric", "show", "training").stdout
    assert penstock.json("fabric", "members", "training")["items"] == [], "nothing of the project is anywhere"
    assert penstock("fabric", "delete", "training", "--yes").exit_code == 0


@pytest.mark.parametrize("field", ["name", "project_id"])
def test_a_partition_needs_name_and_project(acme: Tenant, field: str) -> None:
    body = {"name": "x", "project_id": acme.project_id}
    del body[field]
    answer = acme.member.post("/v1/fabric-partitions", **body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)
