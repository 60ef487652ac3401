"""Nobody gets in without a key, and each role may do what the table says: every route is walked."""

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from penstock.api.app import create_app
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from penstock.store import api_key as api_key_store
from penstock.store.database import SYSTEM
from tests.support.objects import BODIES, OPEN, Route, World, address, routes
from tests.support.tenancy import Caller, Tenant, make_caller


@pytest.fixture
def world(control_plane: ControlPlane, operator: Caller, acme: Tenant) -> World:
    """A factory in which acme owns everything that is a tenant's."""
    return World(control_plane, operator, acme)


def call(client: TestClient, route: Route, path: str, key: str | None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if route.method == "ANY":  # a web socket has no method
        with (
            pytest.raises(WebSocketDenialResponse) as caught,
            client.websocket_connect(path, headers=headers),
        ):
            pass
        assert isinstance(caught.value, WebSocketDenialResponse)
        return caught.value.status_code
    body = BODIES.get(route.name)
    more = {"json": body} if body is not None else {}
    return client.request(route.method, path, headers=headers, **more).status_code


def test_open_routes_are_listed_with_a_reason(control_plane: ControlPlane) -> None:
    names = {route.name for route in routes(create_app(control_plane))}
    assert all(len(reason) > 20 for reason in OPEN.values())
    assert "GET /v1/whoami" in names, "the walk finds the routes"


def test_every_body_belongs_to_a_route(control_plane: ControlPlane) -> None:
    names = {route.name for route in routes(create_app(control_plane))}
    assert not set(BODIES) - names, "these routes are gone: take them out of BODIES"


def test_without_a_valid_key_everything_answers_401(world: World, client: TestClient) -> None:
    revoked = make_caller(world.plane, client, "revoked", Role.OPERATOR)
    with world.plane.db.transaction(SYSTEM) as connection:
        api_key_store.revoke(connection, revoked.key_id, world.plane.clock.now())
    never_made = "psk_" + "a" * 10 + "_" + "a" * 40
    wrong: list[str] = []
    for route in routes(create_app(world.plane)):
        if route.name in OPEN:
            continue
        path = address(route, world)
        for key in (None, "nonsense", never_made, revoked.key):
            status = call(client, route, path, key)
            if status != 401:
                hint = " (add its body to BODIES of tests/support/objects.py)" if status == 422 else ""
                wrong.append(f"{route.name} -> {status} with {(key or 'no key')[:12]}{hint}")
    assert not wrong, "\n".join(wrong)


# What each role may do, from the outside. Every row is one request; the columns are
# operator, factory auditor, tenant administrator, member, tenant auditor, member of one project, viewer.
MATRIX: dict[tuple[str, str], tuple[bool, bool, bool, bool, bool, bool, bool]] = {
    ("GET", "/v1/tenants/{tenant}"): (True, True, True, True, True, True, True),
    ("POST", "/v1/tenants"): (True, False, False, False, False, False, False),
    ("POST", "/v1/tenants/{tenant}/suspend"): (True, False, False, False, False, False, False),
    ("GET", "/v1/projects"): (True, True, True, True, True, True, True),
    ("GET", "/v1/projects/{project}"): (True, True, True, True, True, True, True),
    ("POST", "/v1/projects"): (True, False, True, False, False, False, False),
    ("GET", "/v1/users"): (True, True, True, False, True, False, False),
    ("POST", "/v1/users"): (True, False, True, False, False, False, False),
    ("POST", "/v1/service-accounts"): (True, False, True, False, False, False, False),
    ("GET", "/v1/role-bindings"): (True, True, True, False, True, False, False),
    ("GET", "/v1/api-keys"): (True, True, True, True, True, True, True),
    ("POST", "/v1/api-keys"): (True, False, True, True, False, True, False),
    ("GET", "/v1/quotas"): (True, True, True, True, True, True, True),
    ("PUT", "/v1/quotas#tenant"): (True, False, False, False, False, False, False),
    ("PUT", "/v1/quotas#project"): (True, False, True, False, False, False, False),
    ("GET", "/v1/audit"): (True, True, True, False, True, False, False),
    ("GET", "/v1/events"): (True, True, True, True, True, True, True),
    ("GET", "/v1/services"): (True, True, True, True, True, True, True),
    ("POST", "/v1/services"): (True, False, True, True, False, True, False),
    ("GET", "/v1/nodes"): (True, True, False, False, False, False, False),
    ("GET", "/v1/whoami"): (True, True, True, True, True, True, True),
}


def body_for(world: World, caller: Caller, method: str, path: str, variant: str) -> dict[str, object]:
    """Return a body that the caller could send for acme, with names of its own."""
    body: dict[str, object] = dict(BODIES.get(f"{method} {path}", {}))
    own = f"x-{caller.principal_id[-8:]}"
    if "name" in body or path == "/v1/services":
        body["name"] = own
    if "email" in body:
        body["email"] = f"{own}@acme.test"
    if path in {"/v1/projects", "/v1/users", "/v1/service-accounts", "/v1/quotas"}:
        body["tenant_id"] = world.owner.id
    if path == "/v1/services":
        body["project"] = world.owner.project_id
    if variant == "project":
        body["project_id"] = world.owner.project_id
    return body


def test_roles_may_do_what_the_table_says(world: World, client: TestClient) -> None:
    assert world.market.devices  # an order needs offers and prices
    acme = world.owner
    callers = (
        world.operator,
        make_caller(world.plane, client, "watcher", Role.AUDITOR),
        acme.admin,
        acme.member,
        acme.auditor,
        make_caller(world.plane, client, "one", Role.MEMBER, tenant_id=acme.id, project_id=acme.project_id),
        make_caller(world.plane, client, "looks", Role.VIEWER, tenant_id=acme.id),
    )
    wrong: list[str] = []
    for (method, row), columns in MATRIX.items():
        path, _, variant = row.partition("#")
        for caller, allowed in zip(callers, columns, strict=True):
            if "suspend" in path and caller is world.operator:
                continue  # it works, and would shut the others out of this test
            body = body_for(world, caller, method, path, variant)
            more = {"json": body} if body else {}
            answer = caller.request(method, path.format(tenant=acme.id, project=acme.project_id), **more)
            fine = answer.status_code < 300 if allowed else answer.status_code in {403, 404}
            if not fine:
                wrong.append(f"{caller.name}: {method} {row} -> {answer.text}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("scope", "reads", "orders", "administers"),
    [
        ("*", True, True, True),
        ("read", True, False, False),
        ("services", True, True, False),
        ("llm", False, False, False),
    ],
)
def test_a_key_narrows_what_its_owner_may_do(
    scope: str, world: World, client: TestClient, *, reads: bool, orders: bool, administers: bool
) -> None:
    assert world.market.devices  # an order needs offers and prices
    acme = world.owner
    caller = make_caller(world.plane, client, "narrow", Role.TENANT_ADMIN, tenant_id=acme.id, scopes=(scope,))
    assert (caller.get("/v1/quotas").status_code == 200) == reads
    order = caller.post("/v1/services", offer="gpu", project=acme.project_id, spec={"count": 1})
    assert (order.status_code == 202) == orders
    assert (caller.post("/v1/projects", name="x").status_code == 201) == administers
    assert caller.get("/v1/whoami").status_code == 200
