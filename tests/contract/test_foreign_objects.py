"""Another tenant's object is not there, whatever is done to it: every route of the application is walked."""

import pytest
from fastapi.testclient import TestClient

from penstock.api.app import create_app
from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM
from penstock.store.schema import metadata
from tests.support.objects import BODIES, OBJECTS, PASSWORD, Route, Whose, World, address, routes
from tests.support.tenancy import Caller, Tenant


@pytest.fixture
def world(control_plane: ControlPlane, operator: Caller, acme: Tenant) -> World:
    """A factory in which acme owns everything that is a tenant's."""
    return World(control_plane, operator, acme)


def with_parameters(plane: ControlPlane) -> list[Route]:
    return [route for route in routes(create_app(plane)) if route.object_path is not None]


def send(caller: Caller, route: Route, path: str) -> tuple[int, str]:
    """Call a route with its valid body; return status and error code."""
    body = BODIES.get(route.name)
    more = {"json": body} if body is not None else {}
    answer = caller.request(route.method, path, **more)
    return answer.status_code, answer.json()["error"]["code"] if answer.status_code >= 400 else ""


def rows(plane: ControlPlane) -> dict[str, list[str]]:
    """Return everything in the database but the audit trail, which may grow by refusals."""
    with plane.db.transaction(SYSTEM) as connection:
        return {
            table.name: sorted(str(row) for row in connection.execute(table.select()))
            for table in metadata.sorted_tables
            if table.name != "audit"
        }


def test_every_route_with_a_parameter_has_a_maker_and_every_maker_a_route(
    control_plane: ControlPlane,
) -> None:
    paths = {route.object_path for route in with_parameters(control_plane)}
    missing = sorted(str(path) for path in paths - set(OBJECTS))
    assert not missing, f"add to OBJECTS of tests/support/objects.py: {missing}"
    assert not set(OBJECTS) - paths, "these paths are gone: take them out of OBJECTS"


def test_no_tenant_reaches_what_is_not_its_own(world: World, globex: Tenant) -> None:
    walked = [(route, address(route, world)) for route in with_parameters(world.plane)]
    before = rows(world.plane)
    wrong: list[str] = []
    for route, path in walked:
        assert route.object_path is not None
        whose = OBJECTS[route.object_path].whose
        for caller in (globex.admin, globex.member, globex.auditor):
            status, code = send(caller, route, path)
            allowed = {
                Whose.TENANT: {404},
                Whose.FACTORY: {403, 404},
                Whose.SHARED: {200} if route.method == "GET" else {403, 404},
            }[whose]
            if status not in allowed:
                wrong.append(f"{caller.name}: {route.name} -> {status} {code}, not {sorted(allowed)}")
    assert not wrong, "\n".join(wrong)
    changed = [name for name, content in rows(world.plane).items() if content != before[name]]
    assert not changed, f"a foreign call changed {changed}"


def test_the_objects_of_the_walk_are_really_there(world: World) -> None:
    """Otherwise a 404 would prove nothing."""
    wrong: list[str] = []
    for route in with_parameters(world.plane):
        if route.method != "GET":
            continue
        path = address(route, world)
        assert route.object_path is not None
        owners = [world.operator]
        if OBJECTS[route.object_path].whose is Whose.TENANT:
            owners.append(world.owner.admin)
        wrong += [
            f"{owner.name}: {route.name} -> {status}"
            for owner in owners
            if (status := send(owner, route, path)[0]) not in {200, 403, 409}
        ]
    assert not wrong, "\n".join(wrong)


def test_an_absent_object_looks_like_a_foreign_one(world: World, globex: Tenant) -> None:
    there = globex.admin.get(f"/v1/projects/{world.owner.project_id}").json()["error"]
    gone_id = world.plane.context.new_id("project")
    gone = globex.admin.get(f"/v1/projects/{gone_id}").json()["error"]
    for error in (there, gone):
        error.pop("request_id")
    assert there["message"].replace(world.owner.project_id, "X") == gone["message"].replace(gone_id, "X")
    assert {**there, "message": "", "data": {}} == {**gone, "message": "", "data": {}}


def test_foreign_ids_in_a_body_or_a_filter_are_not_there_either(world: World, globex: Tenant) -> None:
    owner = world.owner
    bodies = {
        "POST /v1/projects": {"name": "x", "tenant_id": owner.id},
        "POST /v1/users": {"email": "x@x.test", "tenant_id": owner.id, "password": PASSWORD},
        "POST /v1/service-accounts": {"name": "x", "tenant_id": owner.id},
        "POST /v1/role-bindings": {"principal_id": owner.member.principal_id, "role": "member"},
        "POST /v1/api-keys": {"name": "x", "principal_id": owner.member.principal_id},
        "PUT /v1/quotas": {"dimension": "services", "limit": 1, "project_id": owner.project_id},
        "POST /v1/knowledge_bases": {"name": "x", "project_id": owner.project_id, "service": "embedding"},
        "POST /v1/services": {"offer": "gpu", "project": owner.project_id, "spec": {"count": 1}},
        "POST /v1/networks": {"name": "x", "project_id": owner.project_id},
        "POST /v1/subnets": {
            "name": "x",
            "network_id": world.object_of("/v1/networks/{network_id}"),
            "prefix": "10.9.0.0/24",
        },
        "POST /v1/ports": {"name": "x", "subnet_id": world.object_of("/v1/subnets/{subnet_id}")},
        "POST /v1/security-groups": {"name": "x", "network_id": world.object_of("/v1/networks/{network_id}")},
    }
    assert world.market.devices  # an order needs offers
    before = rows(world.plane)
    for name, body in bodies.items():
        method, _, path = name.partition(" ")
        assert globex.admin.request(method, path, json=body).status_code == 404, name
    for body in (
        {"name": "x", "project_id": owner.project_id},
        {"name": "x", "principal_id": world.operator.principal_id},
    ):
        assert globex.admin.request("POST", "/v1/api-keys", json=body).status_code == 404
    own_account = globex.admin.post("/v1/service-accounts", name="own").json()["id"]
    answer = globex.admin.post(
        "/v1/role-bindings", principal_id=own_account, role="member", project_id=owner.project_id
    )
    assert answer.status_code == 404
    for path in ("projects", "users", "service-accounts", "role-bindings", "api-keys", "quotas", "audit"):
        assert globex.admin.get(f"/v1/{path}", tenant_id=owner.id).status_code == 404, path
    after = rows(world.plane)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"principal", "event"}, "only the account that globex made for itself"


def test_lists_show_nothing_of_others(world: World, globex: Tenant, client: TestClient) -> None:
    del client
    for path in OBJECTS:
        if OBJECTS[path].whose is Whose.TENANT:
            world.object_of(path)
    foreign = (world.owner.id, world.owner.project_id, world.owner.member.principal_id)
    for path in (
        "services",
        "tenants",
        "projects",
        "users",
        "knowledge_bases",
        "documents",
        "deletion_proofs",
        "networks",
        "subnets",
        "ports",
        "security-groups",
        "floating-addresses",
        "dns-records",
        "network-routes",
        "certificates",
        "load-balancers",
    ):
        text = globex.admin.get(f"/v1/{path}").text
        assert not [object_id for object_id in foreign if object_id in text], path
    for path in ("api-keys", "quotas", "audit", "events"):
        text = globex.admin.get(f"/v1/{path}").text
        assert not [object_id for object_id in foreign if object_id in text], path
