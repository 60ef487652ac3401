"""Endpoints whose replicas follow the load, on engines that are a word in memory; gateways are what the test says."""

from collections.abc import Sequence
from typing import Any, ClassVar

import sqlalchemy as sa

from penstock.actions import gateway as gateway_actions
from penstock.actions import node as node_actions
from penstock.actions.enrolment import SiteFacts
from penstock.agent.in_process_link import InProcessLink
from penstock.agent.loop import Agent
from penstock.base.clock import Clock
from penstock.drivers.base import Capabilities, Config, Inventory, Observed, Phase, Wanted
from penstock.store.database import SYSTEM
from penstock.store.schema import model
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory

TOKEN = "gateway-token"


class Engines:
    """A driver of engines that exist as names: ready at once, unless told to be slow or to fail."""

    name: ClassVar[str] = "ctranslate2"
    simulated: ClassVar[bool] = True

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.started: list[str] = []
        self.slow = self.failing = False

    def validate(self, config: Config) -> None:
        """Take everything."""

    def inventory(self) -> Inventory:
        """Report nothing."""
        return Inventory()

    def capabilities(self) -> Capabilities:
        """Carry endpoints."""
        return Capabilities(kinds=frozenset({"llm"}), simulated=True)

    def ensure(self, wanted: Wanted) -> Observed:
        """Start an engine."""
        if wanted.allocation_id not in self.running:
            self.started.append(wanted.allocation_id)
        self.running[wanted.allocation_id] = wanted.generation
        if self.failing:
            return Observed(
                wanted.allocation_id,
                wanted.generation,
                Phase.FAILED,
                code="model_corrupt",
                message="a file is bad",
            )
        if self.slow:
            return Observed(wanted.allocation_id, wanted.generation, Phase.STARTED)
        url = f"http://127.0.0.1:{8000 + self.started.index(wanted.allocation_id)}"
        return Observed(wanted.allocation_id, wanted.generation, Phase.READY, {"ready": 1, "started": 1}, url)

    def observe(self) -> Sequence[Observed]:
        """Report nothing that nobody wants."""
        return ()

    def remove(self, allocation_id: str) -> Observed:
        """Stop an engine."""
        self.running.pop(allocation_id, None)
        return Observed(allocation_id, 0, Phase.ABSENT)


class ElasticFactory:
    """A simulated factory whose nodes also carry engines, with one gateway that says what the test says."""

    def __init__(self, simulated: SimulatedFactory) -> None:
        self.simulated = simulated
        self.plane = simulated.plane
        self.engines = Engines()
        self.clock: Clock = self.plane.clock
        facts = simulated.driver.inventory().nodes
        drivers = {node.name: ("simulated", "ctranslate2") for node in facts}
        site = SiteFacts(simulated.spec.name, simulated=True)
        node_actions.enroll(self.plane.context, simulated.agent_id, site, facts, drivers)
        every = {"simulated": simulated.driver, "ctranslate2": self.engines}
        simulated.agent = Agent(
            InProcessLink(self.plane.context, simulated.agent_id), every, self.plane.clock
        )
        gateway_actions.trust(self.plane.context, TOKEN)
        self._add_model()

    def _add_model(self) -> None:
        row = {
            "id": self.plane.context.new_id("model"),
            "name": "tiny",
            "format": "ctranslate2",
            "folder": "/nowhere",
            "size_bytes": 1 << 20,
            "parameters": 1,
            "context_tokens": 256,
            "licence": "Apache-2.0",
            "sha256": "0" * 64,
            "engines": ["ctranslate2"],
            "device_classes": ["cpu"],
            "demonstration": True,
            "state": "active",
            "created_at": self.plane.clock.now(),
        }
        with self.plane.db.transaction(SYSTEM) as connection:
            connection.execute(sa.insert(model).values(row))

    def order(self, tenant: Any, name: str = "chat", **spec: Any) -> str:
        """Order an endpoint and let it run."""
        body = {
            "offer": "llm",
            "project": self.simulated.keys.demo_project_id,
            "name": name,
            "spec": {"model": "tiny", **spec},
        }
        answer = tenant.post("/v1/services", json=body)
        assert answer.status_code == 202, answer.text
        self.turn()
        return str(answer.json()["id"])

    def turn(self, rounds: int = 3) -> None:
        """Let autoscaler, engine and agent act."""
        for _ in range(rounds):
            self.plane.autoscaler.tick()
            self.simulated.turn()

    def say(self, client: Any, service_id: str, *, gateway: str = "gw", **signal: Any) -> Any:
        """Report one endpoint as a gateway does, and let everybody act."""
        (row,) = query(self.plane.context, "SELECT tenant_id FROM service WHERE id = :id", id=service_id)
        service = {"service": service_id, "tenant": row["tenant_id"], **signal}
        headers = {"authorization": f"Bearer {TOKEN}"}
        body = {"gateway": gateway, "services": [service]}
        answer = client.post("/internal/gateway/signals", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        self.turn()
        return answer.json()

    def service(self, service_id: str) -> dict[str, Any]:
        """Return the row of a service."""
        (row,) = query(self.plane.context, "SELECT * FROM service WHERE id = :id", id=service_id)
        return row

    def replicas(self, service_id: str) -> list[dict[str, Any]]:
        """Return the replicas of a service, oldest first."""
        sql = "SELECT * FROM allocation WHERE service_id = :id ORDER BY id"
        return query(self.plane.context, sql, id=service_id)
