"""An endpoint on accelerators through the API: a simulated vLLM on devices that placement chose, in the books."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions.enrolment import SiteFacts
from penstock.actions.gateway import read_snapshot
from penstock.agent.in_process_link import InProcessLink
from penstock.agent.loop import Agent
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.drivers.vllm.driver import VllmDriver
from penstock.store.database import SYSTEM
from tests.support.infrastructure import node_facts
from tests.support.simulated_vllm import make_adapter, make_checkpoint, make_program
from tests.support.tenancy import Caller, Tenant


class Site:
    """Two nodes of four devices, whose agent drives a simulated vLLM."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.driver = VllmDriver(folder / "vllm", SystemClock(), make_program(folder))
        self.agent_id = agent_actions.ensure_in_process(plane.context, "gpus")
        facts = [node_facts("n1"), node_facts("n2")]
        drivers = {node.name: ("vllm",) for node in facts}
        node_actions.enroll(plane.context, self.agent_id, SiteFacts("gpus", simulated=False), facts, drivers)
        self.agent = Agent(InProcessLink(plane.context, self.agent_id), {"vllm": self.driver}, SystemClock())

    def until(self, done: Callable[[], bool]) -> None:
        """Let engine and agent act until ``done``."""
        for _ in range(2_000):
            while self.plane.services.tick():
                pass
            self.agent.step(0.01)
            if done():
                return
        pytest.fail("it does not come about")


@pytest.fixture
def site(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Site]:
    control_plane.seed()
    made = Site(control_plane, tmp_path)
    yield made
    left = [one.allocation_id for one in made.driver.observe()]
    while left:
        left = [key for key in left if made.driver.remove(key).phase != "absent"]


def test_from_order_to_release(site: Site, operator: Caller, acme: Tenant, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "llama")
    added = operator.post("/v1/models", folder=str(folder), name="llama")
    assert added.status_code == 201, added.text
    assert (added.json()["engines"], "cpu" in added.json()["device_classes"]) == (["vllm"], False)
    order = {"offer": "llm", "project": acme.project_id, "name": "chat"}
    spec = {"model": "llama", "device_class": "GB200", "devices": 2, "replicas": 1}
    planned = acme.member.post("/v1/services?dry_run=true", **order, spec=spec).json()
    assert planned["would_start_now"], planned
    assert planned["price"]["microeur_per_hour"] == 14_000_000
    service = acme.member.post("/v1/services", **order, spec=spec).json()

    def shown() -> dict[str, Any]:
        return acme.member.get(f"/v1/services/{service['id']}").json()

    site.until(lambda: shown()["state"] == "running")
    with site.plane.db.transaction(SYSTEM) as connection:
        (row,) = connection.execute(sa.text("SELECT config, endpoint, driver FROM allocation")).all()
        snapshot = read_snapshot(connection, site.plane.clock.now())
        held = connection.execute(
            sa.text("SELECT count(*) FROM claim WHERE released_at IS NULL")
        ).scalar_one()
    assert (row.driver, row.config["device_class"], len(row.config["devices"]), held) == (
        "vllm",
        "GB200",
        2,
        2,
    )
    listed = httpx.get(f"{row.endpoint}/v1/models").json()["data"]
    assert [(one["id"], one["owned_by"]) for one in listed] == [("chat", "simulated-vllm")]
    assert all(not up["cancel"] for model in snapshot["models"] for up in model["upstreams"])
    too_much = acme.member.post(
        "/v1/services?dry_run=true", **order, spec={**spec, "devices": 4, "replicas": 2}
    )
    assert not too_much.json()["would_start_now"]
    assert acme.member.delete(f"/v1/services/{service['id']}").status_code == 202
    site.until(lambda: shown()["state"] == "released")
    assert site.driver.observe() == []


def test_adapters_are_models_of_their_endpoint(
    site: Site, operator: Caller, acme: Tenant, tmp_path: Path
) -> None:
    operator.post("/v1/models", folder=str(make_checkpoint(tmp_path / "llama")), name="llama")
    adapter = str(make_adapter(tmp_path / "sql"))
    alone = operator.post("/v1/models", folder=adapter)
    assert (alone.status_code, alone.json()["error"]["field"]) == (422, "base_model")
    shipped = operator.post("/v1/models", folder=adapter, base_model="penstock-demo-5m").json()["error"]
    assert "serves no adapters" in shipped["message"]
    added = operator.post(
        "/v1/models", folder=adapter, name="sql", base_model="llama", needs_approval=True
    ).json()
    assert (added["kind"], added["base_model"], added["engines"]) == ("adapter", "llama", ["vllm"])
    spec = {"model": "llama", "device_class": "GB200", "devices": 1, "adapters": ["sql"]}
    order = {"offer": "llm", "project": acme.project_id, "name": "chat", "spec": spec}
    refused = acme.member.post("/v1/services", **order).json()["error"]
    assert (refused["code"], refused["field"]) == ("model_not_approved", "spec.adapters")
    operator.put(f"/v1/models/{added['id']}/approvals/{acme.id}")
    service = acme.member.post("/v1/services", **order).json()
    site.until(lambda: acme.member.get(f"/v1/services/{service['id']}").json()["state"] == "running")
    with site.plane.db.transaction(SYSTEM) as connection:
        models = read_snapshot(connection, site.plane.clock.now())["models"]
    shown = {model["name"]: model for model in models}
    assert set(shown) == {"chat", "chat:sql"}
    assert shown["chat:sql"]["model"] == "chat:sql"
    (upstream,) = shown["chat:sql"]["upstreams"]
    body = {"model": "chat:sql", "prompt": "x", "max_tokens": 2}
    assert httpx.post(f"{upstream['url']}/v1/completions", json=body).json()["model"] == "chat:sql"
