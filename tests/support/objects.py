"""One object behind every endpoint: who owns it, how to make it, and which body each change takes.

The tests of foreign objects and of missing credentials walk every route of the application. A new route needs
an entry here, else they fail and name it:

- ``OBJECTS``: for each path up to its parameter, how to make the object and whose it is.
- ``BODIES``: for each method and path with a body, one that passes validation.
- ``OPEN``: routes that need no API key, with the reason.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI

from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions import weights as weights_actions
from penstock.actions.enrolment import SiteFacts
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from penstock.domain.weights import Copy, WeightsState
from penstock.store import identity as identity_store
from penstock.store import power_budget as power_budget_store
from penstock.store import role_binding as role_binding_store
from penstock.store.database import SYSTEM
from penstock.store.schema import agent, device, join_token, model, node, power_feed, rack, site
from tests.support.batches import upload_file
from tests.support.commerce import Market, make_market
from tests.support.infrastructure import node_facts
from tests.support.knowledge import add_endpoint, make_base, upload
from tests.support.machine_objects import GONE, MACHINE_BODIES, make_image, make_ssh_key, make_vm, make_volume
from tests.support.network_objects import NETWORK_BODIES, make_peering, make_public_record
from tests.support.networks import (
    make_balancer,
    make_certificate,
    make_network,
    make_pool,
    make_port,
    make_subnet,
)
from tests.support.tenancy import Caller, Tenant, make_caller


class Whose(Enum):
    """Who owns the object behind a path."""

    TENANT = "one tenant's: to others it is not there (404)"
    FACTORY = "the operator's: tenants are refused (403) or it is not there (404)"
    SHARED = "everybody may read it; only operators change it (403)"


@dataclass(frozen=True)
class World:
    """A factory with the owner of all tenant objects."""

    plane: ControlPlane
    operator: Caller
    owner: Tenant
    made: dict[str, str] = field(default_factory=dict[str, str])

    def object_of(self, path: str) -> str:
        """Return the id of the object behind a key of ``OBJECTS``, made at first use."""
        if path not in self.made:
            self.made[path] = OBJECTS[path].make(self)
        return self.made[path]

    @cached_property
    def market(self) -> Market:
        """Return prices, offers and one simulated node with four devices."""
        return make_market(self.plane)

    def first(self, table: sa.Table) -> str:
        """Return the id of some row of the operator's."""
        assert self.market.devices  # makes the rows
        with self.plane.db.transaction(SYSTEM) as connection:
            return str(connection.execute(sa.select(table.c.id).limit(1)).scalar_one())


@dataclass(frozen=True)
class Object:
    """How to make what a path names; ``make`` returns the value of its parameter."""

    whose: Whose
    make: Callable[[World], str]


def _user(world: World) -> str:
    return make_caller(
        world.plane, None, "somebody@owner.test", Role.MEMBER, tenant_id=world.owner.id, kind="user"
    ).principal_id


def _identity(world: World) -> str:
    identity_id = world.plane.context.new_id("identity")
    with world.plane.db.transaction(SYSTEM) as connection:
        identity_store.insert(
            connection,
            identity_id=identity_id,
            tenant_id=world.owner.id,
            principal_id=world.object_of("/v1/users/{user_id}"),
            issuer="https://id.test",
            subject="somebody",
            managed=False,
            at=world.plane.clock.now(),
        )
    return identity_id


def _account(world: World) -> str:
    return make_caller(world.plane, None, "account", Role.MEMBER, tenant_id=world.owner.id).principal_id


def _binding(world: World) -> str:
    with world.plane.db.transaction(SYSTEM) as connection:
        return str(role_binding_store.of_principal(connection, world.owner.member.principal_id)[0]["id"])


def _quota(world: World) -> str:
    answer = world.operator.put("/v1/quotas", tenant_id=world.owner.id, dimension="services", limit=9)
    return str(answer.json()["id"])


def _rate_limit(world: World) -> str:
    answer = world.operator.put("/v1/rate-limits", subject_id=world.owner.project_id, tokens_per_day=9)
    return str(answer.json()["id"])


def _model(world: World) -> str:
    model_id = world.plane.context.new_id("model")
    row = {
        "id": model_id,
        "name": "tiny",
        "format": "ctranslate2",
        "folder": "/nowhere",
        "size_bytes": 1,
        "parameters": 1,
        "context_tokens": 256,
        "licence": "Apache-2.0",
        "sha256": "0" * 64,
        "engines": ["ctranslate2"],
        "device_classes": ["cpu"],
        "demonstration": True,
        "state": "active",
        "created_at": world.plane.clock.now(),
    }
    with world.plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.insert(model).values(row))
    return model_id


def _power_budget(world: World) -> str:
    budget_id = world.plane.context.new_id("power_budget")
    row = {"level": "site", "subject_id": world.first(site), "name": "x", "limit_watts": 1 << 30}
    with world.plane.db.transaction(SYSTEM) as connection:
        return power_budget_store.put(
            connection, {**row, "id": budget_id, "site_id": row["subject_id"]}, world.plane.clock.now()
        )


def _join_token(world: World) -> str:
    token_id = world.plane.context.new_id("join_token")
    now = world.plane.clock.now()
    with world.plane.db.transaction(SYSTEM) as connection:
        connection.execute(
            sa.insert(join_token).values(
                id=token_id,
                secret_sha256="0" * 64,
                created_by=world.operator.principal_id,
                created_at=now,
                expires_at=now + timedelta(hours=1),
            )
        )
    return token_id


def _invoice(world: World) -> str:
    assert world.market.devices  # makes the prices
    now = world.plane.clock.now()
    answer = world.operator.post("/v1/invoices", tenant_id=world.owner.id, period=f"{now:%Y-%m}")
    return str(answer.json()["id"])


def _offer(world: World) -> str:
    assert world.market.devices  # makes the offers
    return str(world.operator.get("/v1/offers").json()["items"][0]["id"])


def _base(world: World) -> str:
    add_endpoint(world.market, world.owner, "embedding", None)
    return make_base(world.owner.member, world.owner)


def _document(world: World) -> str:
    base_id = world.object_of("/v1/knowledge_bases/{knowledge_base_id}")
    return str(upload(world.owner.member, base_id, "a.txt", "Bees make honey.", "text/plain")["id"])


def _proof(world: World) -> str:
    base_id = world.object_of("/v1/knowledge_bases/{knowledge_base_id}")
    made = upload(world.owner.member, base_id, "b.txt", "Wasps make none.", "text/plain")
    return str(world.owner.member.delete(f"/v1/documents/{made['id']}").json()["proof_id"])


def _network(world: World) -> str:
    return make_network(world.owner, "net")


def _subnet(world: World) -> str:
    return make_subnet(world.owner, world.object_of("/v1/networks/{network_id}"), "front", "10.0.0.0/24")


def _port(world: World) -> str:
    return str(make_port(world.owner, world.object_of("/v1/subnets/{subnet_id}"), "web-1")["id"])


def _security_group(world: World) -> str:
    network_id = world.object_of("/v1/networks/{network_id}")
    answer = world.owner.member.post("/v1/security-groups", network_id=network_id, name="web")
    return str(answer.json()["id"])


def _pool(world: World) -> str:
    return make_pool(world.operator, "public", "198.51.100.0/24")


def _floating(world: World) -> str:
    body = {
        "name": "www",
        "project_id": world.owner.project_id,
        "pool_id": world.object_of("/v1/address-pools/{pool_id}"),
    }
    return str(world.owner.member.post("/v1/floating-addresses", **body).json()["id"])


def _record(world: World) -> str:
    network_id = world.object_of("/v1/networks/{network_id}")
    body = {"network_id": network_id, "name": "www", "type": "A", "value": "10.0.0.9"}
    return str(world.owner.member.post("/v1/dns-records", **body).json()["id"])


def _route(world: World) -> str:
    body = {
        "network_id": world.object_of("/v1/networks/{network_id}"),
        "name": "office",
        "prefix": "192.168.0.0/16",
    }
    answer = world.owner.member.post(
        "/v1/network-routes", port_id=world.object_of("/v1/ports/{port_id}"), **body
    )
    return str(answer.json()["id"])


def _reservation(world: World) -> str:
    assert world.market.devices  # makes the offers and a node
    answer = world.owner.member.post(
        "/v1/reservations", offer="gpu", project=world.owner.project_id, spec={"count": 1}, duration_s=3600
    )
    return str(answer.json()["id"])


def _partition(world: World) -> str:
    body = {"name": "training", "project_id": world.owner.project_id}
    return str(world.owner.member.post("/v1/fabric-partitions", **body).json()["id"])


def _secret(world: World) -> str:
    body = {"project": world.owner.project_id, "name": "theirs", "value": "sk-theirs"}
    return str(world.owner.member.put("/v1/secrets", **body).json()["id"])


def _certificate(world: World) -> str:
    return make_certificate(world.owner, "www", "www.prod.internal")


def _balancer(world: World) -> str:
    subnet_id = world.object_of("/v1/subnets/{subnet_id}")
    return str(make_balancer(world.owner, subnet_id, "balancer")["id"])


def _file(world: World) -> str:
    return upload_file(world.owner.member, b'{"custom_id": "a"}')


def _batch(world: World) -> str:
    body = {"input_file_id": _file(world), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return str(world.owner.member.post("/v1/batches", **body).json()["id"])


def _maintenance(world: World) -> str:
    start = world.plane.clock.now() + timedelta(days=30)  # out of the way of the reservation on the same node
    answer = world.operator.post(
        "/v1/maintenance", nodes=[world.first(node)], start_at=start.isoformat(), duration_s=3600
    )
    return str(answer.json()["id"])


def _weights(world: World) -> str:
    agent_id = agent_actions.ensure_in_process(world.plane.context, "weights")
    facts = [node_facts("with-weights")]
    site_facts = SiteFacts("weights", simulated=True)
    node_actions.enroll(world.plane.context, agent_id, site_facts, facts, {"with-weights": ("simulated",)})
    weights_actions.take(world.plane.context, agent_id, [Copy("0" * 64, WeightsState.HELD, 1, 1)])
    return str(world.operator.get("/v1/weights").json()["items"][0]["id"])


OBJECTS: dict[str, Object] = {
    "/v1/weights/{weights_id}": Object(Whose.FACTORY, _weights),
    "/v1/secrets/{secret_id}": Object(Whose.TENANT, _secret),
    "/v1/certificates/{certificate_id}": Object(Whose.TENANT, _certificate),
    "/v1/load-balancers/{load_balancer_id}": Object(Whose.TENANT, _balancer),
    "/v1/files/{file_id}": Object(Whose.TENANT, _file),
    "/v1/batches/{batch_id}": Object(Whose.TENANT, _batch),
    "/v1/fabric-partitions/{partition_id}": Object(Whose.TENANT, _partition),
    "/v1/address-pools/{pool_id}": Object(Whose.FACTORY, _pool),
    "/v1/floating-addresses/{address_id}": Object(Whose.TENANT, _floating),
    "/v1/dns-records/{record_id}": Object(Whose.TENANT, _record),
    "/v1/network-routes/{route_id}": Object(Whose.TENANT, _route),
    "/v1/network-peerings/{peering_id}": Object(
        Whose.TENANT, lambda w: make_peering(w.owner, w.object_of("/v1/networks/{network_id}"))
    ),
    "/v1/public-records/{record_id}": Object(Whose.TENANT, lambda w: make_public_record(w.operator, w.owner)),
    "/v1/ssh-keys/{ssh_key_id}": Object(Whose.TENANT, lambda w: make_ssh_key(w.owner, "laptop")),
    "/v1/images/{image_id}": Object(Whose.TENANT, lambda w: make_image(w.owner, "tiny")),
    "/v1/volumes/{volume_id}": Object(Whose.TENANT, lambda w: make_volume(w.owner, "data")),
    "/v1/vms/{vm_id}": Object(Whose.TENANT, lambda w: make_vm(w.plane, w.owner, "web-1")),
    "/v1/maintenance/{maintenance_id}": Object(Whose.FACTORY, _maintenance),
    "/v1/networks/{network_id}": Object(Whose.TENANT, _network),
    "/v1/subnets/{subnet_id}": Object(Whose.TENANT, _subnet),
    "/v1/ports/{port_id}": Object(Whose.TENANT, _port),
    "/v1/security-groups/{security_group_id}": Object(Whose.TENANT, _security_group),
    "/v1/network-hosts/{node_id}": Object(Whose.FACTORY, lambda w: w.first(node)),
    "/v1/reservations/{reservation_id}": Object(Whose.TENANT, _reservation),
    "/v1/knowledge_bases/{knowledge_base_id}": Object(Whose.TENANT, _base),
    "/v1/documents/{document_id}": Object(Whose.TENANT, _document),
    "/v1/deletion_proofs/{proof_id}": Object(Whose.TENANT, _proof),
    "/v1/services/{service_id}": Object(Whose.TENANT, lambda w: w.market.service(w.owner)),
    "/v1/tenants/{tenant_id}": Object(Whose.TENANT, lambda w: w.owner.id),
    "/v1/projects/{project_id}": Object(Whose.TENANT, lambda w: w.owner.project_id),
    "/v1/users/{user_id}": Object(Whose.TENANT, _user),
    "/v1/identities/{identity_id}": Object(Whose.TENANT, _identity),
    "/v1/service-accounts/{account_id}": Object(Whose.TENANT, _account),
    "/v1/role-bindings/{binding_id}": Object(Whose.TENANT, _binding),
    "/v1/api-keys/{key_id}": Object(Whose.TENANT, lambda w: w.owner.member.key_id),
    "/v1/quotas/{quota_id}": Object(Whose.TENANT, _quota),
    "/v1/rate-limits/{rate_limit_id}": Object(Whose.TENANT, _rate_limit),
    "/v1/invoices/{invoice_id}": Object(Whose.TENANT, _invoice),
    "/v1/sites/{site_id}": Object(Whose.FACTORY, lambda w: w.first(site)),
    "/v1/racks/{rack_id}": Object(Whose.FACTORY, lambda w: w.first(rack)),
    "/v1/power-budgets/{budget_id}": Object(Whose.FACTORY, _power_budget),
    "/v1/power-feeds/{feed_id}": Object(Whose.FACTORY, lambda w: w.first(power_feed)),
    "/v1/nodes/{node_id}": Object(Whose.FACTORY, lambda w: w.first(node)),
    "/v1/agents/{agent_id}": Object(Whose.FACTORY, lambda w: w.first(agent)),
    "/v1/join-tokens/{token_id}": Object(Whose.FACTORY, _join_token),
    "/v1/simulated/nodes/{node_id}": Object(Whose.FACTORY, lambda w: w.first(node)),
    "/v1/devices/{device_id}": Object(Whose.FACTORY, lambda w: w.first(device)),
    "/v1/device-classes/{name}": Object(Whose.SHARED, lambda w: "GB200"),  # noqa: ARG005 - one of the makers
    "/v1/models/{model_id}": Object(Whose.SHARED, _model),
    "/v1/offers/{offer_id}": Object(Whose.SHARED, _offer),
    "/v1/price-books/{which}": Object(Whose.SHARED, lambda w: str(len(w.market.devices) and "latest")),
}

PASSWORD = "correct horse battery"
BODIES: dict[str, dict[str, Any]] = {
    **MACHINE_BODIES,
    **NETWORK_BODIES,
    "POST /v1/maintenance": {"nodes": [f"nod_{GONE}"], "duration_s": 60},
    "POST /v1/reservations": {
        "offer": "gpu",
        "project": f"prj_{GONE}",
        "spec": {"count": 1},
        "duration_s": 60,
    },
    "POST /v1/services": {"offer": "gpu", "project": f"prj_{GONE}", "spec": {"count": 1}},
    "POST /v1/sessions": {"email": "nobody@nowhere.test", "password": PASSWORD},
    "POST /v1/tenants": {"name": "initech"},
    "POST /v1/projects": {"name": "reports"},
    "POST /v1/users": {"email": "ada@initech.test"},
    "PUT /v1/users/{user_id}/password": {"password": PASSWORD},
    "POST /v1/users/{user_id}/second-factor/confirm": {"code": "123456"},
    "POST /v1/service-accounts": {"name": "ci"},
    "POST /v1/role-bindings": {"principal_id": f"sva_{GONE}", "role": "member"},
    "POST /v1/api-keys": {"name": "laptop"},
    "PUT /v1/quotas": {"dimension": "services", "limit": 100},
    "PUT /v1/policy": {"reclaim": "yielding"},
    "PUT /v1/power-budgets": {"level": "rack", "subject_id": f"rck_{GONE}", "limit_watts": 1_000},
    "PUT /v1/racks/{rack_id}/row": {"row": "a"},
    "PUT /v1/power-feeds/{feed_id}/budget": {"budget_watts": 1_000_000},
    "PUT /v1/device-classes/{name}": {
        "vendor": "nvidia",
        "model": "GB200",
        "memory_bytes": 1,
        "power_watts": 1,
        "match": ["GB200"],
        "source": "test",
    },
    "POST /v1/join-tokens": {"life_seconds": 60},
    "POST /v1/models": {"folder": "/nowhere"},
    "PUT /v1/models/{model_id}/approvals/{tenant_id}": {"note": "x"},
    "POST /v1/invoices": {"tenant_id": f"ten_{GONE}", "period": "2026-10"},
    "POST /v1/offers": {"name": "x", "kind": "gpu", "title": "X"},
    "PATCH /v1/offers/{offer_id}": {"generation": 1, "title": "Y"},
    "POST /v1/price-books": {"note": "x"},
    "POST /v1/knowledge_bases": {"name": "x", "project_id": f"prj_{GONE}", "service": "embedding"},
    "POST /v1/knowledge_bases/{knowledge_base_id}/search": {"query": "x"},
    "POST /v1/knowledge_bases/{knowledge_base_id}/answers": {"question": "x", "service": "writer"},
    "POST /v1/knowledge_bases/{knowledge_base_id}/urls": {"urls": ["https://example.org/a.html"]},
    "PUT /v1/secrets": {"project": f"prj_{GONE}", "name": "x", "value": "y"},
    "POST /v1/batches": {
        "input_file_id": f"fil_{GONE}",
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    },
    "PUT /v1/services/{service_id}/scaling": {"replicas_max": 2},
    "PUT /v1/services/{service_id}/objective": {"ttft_ms": 500},
    "PUT /v1/rate-limits": {"subject_id": f"prj_{GONE}", "tokens_per_day": 1_000},
    "POST /v1/fabric-partitions": {"name": "x", "project_id": f"prj_{GONE}"},
    "PUT /v1/fabric-partitions/{partition_id}/nodes": {"node_ids": []},
    "POST /internal/gateway/usage": {"records": []},
    "POST /internal/gateway/signals": {"gateway": "gw", "services": []},
    "POST /internal/gateway/grounding": {
        "key_id": "key_1",
        "service_id": "svc_1",
        "knowledge_base": "handbook",
        "question": "valve",
        "tokens_max": 1,
        "request_id": "use_1",
    },
}

OPEN: dict[str, str] = {
    "GET /v1/openapi.json": "the description of the API, the same for everybody",
    "GET /healthz": "asked by load balancers, says nothing but whether it works",
    "GET /metrics": "read by Prometheus, which has no key; numbers of the factory without names of tenants",
}


@dataclass(frozen=True)
class Route:
    """One method of one path of the application."""

    method: str
    path: str

    @property
    def name(self) -> str:
        """Return for example ``GET /v1/projects/{project_id}``."""
        return f"{self.method} {self.path}"

    @property
    def object_path(self) -> str | None:
        """Return the path up to its first parameter, None if it has none."""
        return self.path[: self.path.index("}") + 1] if "{" in self.path else None

    @property
    def has_body(self) -> bool:
        """Tell whether a body must be given for this route to be understood."""
        return self.name in BODIES


def routes(app: FastAPI) -> list[Route]:
    """Return every route of the application, those that are not in its description too."""
    return sorted(set(_walk(app.routes)), key=lambda route: (route.path, route.method))


def _walk(found: list[Any]) -> Iterator[Route]:
    for route in found:
        if getattr(route, "methods", None):
            for method in route.methods - {"HEAD", "OPTIONS"}:
                yield Route(method, route.path)
        elif getattr(route, "path", None) is not None:
            yield Route("ANY", route.path)  # a mounted application: whoever mounts one must explain it


def address(route: Route, world: World) -> str:
    """Return the route's path with the id of an object of the owner's; KeyError names a path without a maker."""
    if route.object_path is None:
        return route.path
    made = world.object_of(route.object_path)
    head, _, tail = route.path.partition("{")
    # A second parameter names something within the object, which is not there.
    return head + made + re.sub(r"\{[^}]*\}", f"non_{GONE}", tail.partition("}")[2])
