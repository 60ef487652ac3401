"""What nodes say of weights: who sees it, who may give copies up, what agents may fetch, where engines go."""

from pathlib import Path
from typing import Any

import pytest

from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions import weights as weights_actions
from penstock.actions.enrolment import SiteFacts
from penstock.base import limits
from penstock.base.errors import InvalidInputError, NotFoundError, UnavailableError
from penstock.control_plane import ControlPlane
from penstock.domain.weights import Copy, WeightsState
from penstock.store import weights as weights_store
from penstock.store.database import SYSTEM
from tests.support.infrastructure import enroll, node_facts, query
from tests.support.simulated_vllm import make_checkpoint
from tests.support.tenancy import Caller, Tenant


@pytest.fixture
def model(control_plane: ControlPlane, operator: Caller, tmp_path: Path) -> dict[str, Any]:
    control_plane.seed()
    answer = operator.post(
        "/v1/models", folder=str(make_checkpoint(tmp_path / "big")), url="https://mirror.test/big/"
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["url"] == "https://mirror.test/big/"
    found: dict[str, Any] = answer.json()
    return found


def enrolled(plane: ControlPlane, name: str) -> tuple[str, str]:
    """Return agent and node of a machine with accelerators that vLLM is installed on."""
    agent_id = agent_actions.ensure_in_process(plane.context, name)
    site = SiteFacts("gpus", simulated=False)
    ids = node_actions.enroll(plane.context, agent_id, site, [node_facts(name)], {name: ("vllm",)})
    return agent_id, ids[name]


def run(plane: ControlPlane) -> None:
    """Let the engine act until nothing is due."""
    while plane.services.tick():
        pass


def held(model: dict[str, Any], **values: Any) -> Copy:
    size = model["size_bytes"]
    return Copy(model["sha256"], WeightsState.HELD, size, values.pop("held_bytes", size), **values)


def test_operators_see_copies_and_give_them_up_and_tenants_do_not(
    control_plane: ControlPlane, operator: Caller, acme: Tenant, model: dict[str, Any]
) -> None:
    agent = enroll(control_plane.context, ["n9"], agent="far", site="far")
    assert weights_actions.take(control_plane.context, agent.agent_id, [held(model)]) == []
    (copy,) = operator.get("/v1/weights").json()["items"]
    assert (copy["node_name"], copy["models"], copy["state"]) == ("n9", ["big"], "held")
    assert operator.get("/v1/weights", model="big").json()["items"] == [copy]
    assert operator.get("/v1/weights", model="none").status_code == 404
    assert operator.get("/v1/weights", node_id=agent.nodes["n9"]).json()["items"] == [copy]
    path = f"/v1/weights/{copy['id']}"
    assert acme.admin.get("/v1/weights").status_code == 403
    assert acme.admin.get(path).status_code == 404
    assert acme.admin.delete(path).status_code == 404
    for _ in range(2):
        answer = operator.delete(path)
        assert (answer.status_code, answer.json()["unwanted"]) == (202, True)
    assert weights_actions.take(control_plane.context, agent.agent_id, [held(model)]) == [model["sha256"]]
    assert weights_actions.take(control_plane.context, agent.agent_id, []) == []
    assert operator.get(path).status_code == 404
    kinds = [
        row["kind"]
        for row in query(
            control_plane.context, "SELECT kind FROM event WHERE kind LIKE 'weights%' ORDER BY id"
        )
    ]
    assert kinds == ["weights.held", "weights.unwanted", "weights.dropped"]


def test_the_folder_that_a_model_was_added_from_is_no_copy(
    control_plane: ControlPlane, operator: Caller, model: dict[str, Any]
) -> None:
    agent = enroll(control_plane.context, ["n9"], agent="far", site="far")
    weights_actions.take(control_plane.context, agent.agent_id, [held(model, in_place=True)])
    (copy,) = operator.get("/v1/weights").json()["items"]
    refused = operator.delete(f"/v1/weights/{copy['id']}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")


def test_what_an_agent_says_is_bounded_and_one_with_several_nodes_is_not_believed(
    control_plane: ControlPlane, model: dict[str, Any]
) -> None:
    several = enroll(control_plane.context, ["n8", "n9"], agent="far", site="far")
    assert weights_actions.take(control_plane.context, several.agent_id, [held(model)]) == []
    assert query(control_plane.context, "SELECT * FROM weights") == []
    with pytest.raises(InvalidInputError):
        weights_actions.take(
            control_plane.context, several.agent_id, [held(model)] * (limits.WEIGHTS_COPIES_PER_NODE_MAX + 1)
        )
    with pytest.raises(InvalidInputError):
        weights_actions.take(control_plane.context, several.agent_id, [held({**model, "sha256": "../x"})])


def test_an_agent_fetches_what_its_engines_need_and_nothing_else(
    control_plane: ControlPlane, acme: Tenant, model: dict[str, Any], tmp_path: Path
) -> None:
    context = control_plane.context
    spec = {"model": "big", "device_class": "GB200"}
    agent_id, _ = enrolled(control_plane, "w1")
    with pytest.raises(NotFoundError):
        weights_actions.listing(context, agent_id, model["sha256"])
    answer = acme.member.post("/v1/services", offer="llm", project=acme.project_id, spec=spec)
    assert answer.status_code == 202, answer.text
    run(control_plane)
    (allocation,) = query(context, "SELECT config FROM allocation")
    assert allocation["config"]["weights"] == [
        {"folder": str(tmp_path / "big"), "sha256": model["sha256"], "size_bytes": model["size_bytes"]}
    ]
    listing = weights_actions.listing(context, agent_id, model["sha256"])
    assert (listing.sha256, listing.url) == (model["sha256"], "https://mirror.test/big/")
    name = listing.files[0].name
    path, file = weights_actions.file(context, agent_id, model["sha256"], name)
    assert (path.parent, path.stat().st_size) == (tmp_path / "big", file.size_bytes)
    for other, digest in (("../../etc/passwd", model["sha256"]), (name, "0" * 64), (name, "..")):
        with pytest.raises(NotFoundError):
            weights_actions.file(context, agent_id, digest, other)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UnavailableError, match="its folder has changed"):
        weights_actions.file(context, agent_id, model["sha256"], name)


def test_orders_go_where_the_weights_are_and_say_so(
    control_plane: ControlPlane, operator: Caller, acme: Tenant, model: dict[str, Any]
) -> None:
    context = control_plane.context
    (_, _), (agent_id, node_id), (_, _) = (enrolled(control_plane, name) for name in ("w1", "w2", "w3"))
    weights_actions.take(context, agent_id, [held(model)])
    with context.db.transaction(SYSTEM) as connection:
        assert weights_store.holders(connection, [model["sha256"]]) == {model["sha256"]: frozenset({node_id})}
    spec = {"model": "big", "device_class": "GB200", "devices": 1}
    body = {"offer": "llm", "project": acme.project_id, "spec": spec}
    plan = acme.member.post("/v1/services?dry_run=true", **body).json()
    assert plan["placement"][0]["reasons"][0]["sentence"] == "this node holds the weights already"
    answer = acme.member.post("/v1/services", **body)
    assert answer.status_code == 202, answer.text
    run(control_plane)
    (allocation,) = query(context, "SELECT node_id FROM allocation")
    assert allocation["node_id"] == node_id
    assert operator.post(f"/v1/nodes/{node_id}/cordon").status_code == 200
    plan = acme.member.post("/v1/services?dry_run=true", **body).json()
    said = [one["sentence"] for one in plan["placement"][0]["reasons"]]
    assert said[0] == "no node that holds the weights has room, so they are fetched"
