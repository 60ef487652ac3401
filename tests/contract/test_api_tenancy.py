"""Tenancy over HTTP: who may do what, what is shown, and what a refusal says."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from penstock.store.database import SYSTEM
from penstock.store.schema import api_key, audit, principal
from tests.support.tenancy import Caller, Tenant, make_caller, make_project

PASSWORD = "correct horse battery"


def error(answer: object) -> tuple[int, str]:
    """Return status and code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]  # pyright: ignore[reportAttributeAccessIssue] - any client's answer


def log_in(client: TestClient, email: str, password: str) -> object:
    return client.post("/v1/sessions", json={"email": email, "password": password})


def test_an_operator_makes_a_tenant_and_the_tenant_makes_the_rest(
    operator: Caller, client: TestClient, control_plane: ControlPlane
) -> None:
    tenant = operator.post("/v1/tenants", name="initech", description="paper")
    assert tenant.status_code == 201
    tenant_id = tenant.json()["id"]
    admin = operator.post("/v1/users", email="Bill@Initech.test", password=PASSWORD, tenant_id=tenant_id)
    assert admin.json()["email"] == "bill@initech.test"
    given = operator.post("/v1/role-bindings", principal_id=admin.json()["id"], role="tenant_admin")
    assert (given.status_code, given.json()["tenant_id"]) == (201, tenant_id)

    session = client.post("/v1/sessions", json={"email": "bill@INITECH.test", "password": PASSWORD})
    assert session.status_code == 201
    bill = Caller(
        control_plane,
        client,
        admin.json()["id"],
        "bill",
        tenant_id,
        session.json()["id"],
        session.json()["api_key"],
    )
    project = bill.post("/v1/projects", name="reports")
    assert project.status_code == 201
    who = bill.get("/v1/whoami").json()
    assert who["tenant"] == {"id": tenant_id, "name": "initech", "state": "active"}
    assert who["projects"] == [{"id": project.json()["id"], "name": "reports"}]
    assert who["roles"] == [{"role": "tenant_admin", "tenant_id": tenant_id, "project_id": None}]
    assert who["key"]["session"] is True

    assert bill.delete("/v1/sessions/current").status_code == 204
    assert error(bill.get("/v1/whoami")) == (401, "unauthenticated")


def test_names_are_unique_and_free_again_after_deletion(operator: Caller, acme: Tenant) -> None:
    assert error(operator.post("/v1/tenants", name="acme")) == (409, "conflict")
    assert error(acme.admin.post("/v1/projects", name="main")) == (409, "conflict")
    assert acme.admin.delete(f"/v1/projects/{acme.project_id}").status_code == 204
    assert error(acme.admin.get(f"/v1/projects/{acme.project_id}")) == (404, "not_found")
    again = acme.admin.post("/v1/projects", name="main")
    assert again.status_code == 201
    assert error(operator.delete(f"/v1/tenants/{acme.id}")) == (409, "conflict")
    acme.admin.delete(f"/v1/projects/{again.json()['id']}")
    assert operator.delete(f"/v1/tenants/{acme.id}").status_code == 204
    assert error(acme.admin.get("/v1/whoami")) == (401, "unauthenticated")
    assert operator.post("/v1/tenants", name="acme").status_code == 201


def test_a_suspended_tenant_is_shut_out_at_once_and_let_in_again(operator: Caller, acme: Tenant) -> None:
    assert operator.post(f"/v1/tenants/{acme.id}/suspend").json()["state"] == "suspended"
    assert error(acme.member.get("/v1/whoami")) == (401, "unauthenticated")
    assert operator.post(f"/v1/tenants/{acme.id}/activate").json()["state"] == "active"
    assert acme.member.get("/v1/whoami").status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "Upper"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": 7}, "name"),
        ({}, "name"),
        ({"name": "a", "colour": "red"}, "colour"),
        ({"name": "a", "description": "nul\x00"}, "description"),
        ({"name": "a", "description": "\ud800"}, "description"),
        ({"name": "a", "tenant_id": "ten_nonsense"}, "tenant_id"),
    ],
)
def test_bad_input_names_its_field(acme: Tenant, body: dict[str, object], field: str) -> None:
    answer = acme.admin.client.post(  # pyright: ignore[reportOptionalMemberAccess] - made with a client
        "/v1/projects",
        content=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {acme.admin.key}", "Content-Type": "application/json"},
    )
    assert error(answer) == (422, "invalid_input")
    assert answer.json()["error"]["field"] == field


def test_ids_that_cannot_be_stored_are_refused(acme: Tenant) -> None:
    assert acme.admin.get("/v1/projects/prj_%00").status_code == 422
    assert acme.admin.get("/v1/projects", name="a\x00").status_code == 422
    assert acme.admin.get("/v1/audit", subject="\x00").status_code == 422
    assert acme.admin.get("/v1/events", after="9" * 30).status_code == 422


def test_pages_follow_each_other_without_gap(acme: Tenant) -> None:
    for number in range(4):
        acme.admin.post("/v1/projects", name=f"p{number}")
    seen: list[str] = []
    after = None
    while True:
        page = acme.admin.get("/v1/projects", limit=2, **({"after": after} if after else {})).json()
        seen += [item["name"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert sorted(seen) == ["main", "p0", "p1", "p2", "p3"]
    assert [p["name"] for p in acme.admin.get("/v1/projects", name="p2").json()["items"]] == ["p2"]


def test_log_in_is_slowed_down_per_name_and_per_address_and_looks_the_same(
    operator: Caller, client: TestClient, clock: ManualClock
) -> None:
    operator.post("/v1/users", email="ada@factory.test", password=PASSWORD)
    wrong = log_in(client, "ada@factory.test", "wrong")
    unknown = log_in(client, "nobody@factory.test", "wrong")
    assert error(wrong) == error(unknown) == (401, "unauthenticated")
    messages = {a.json()["error"]["message"] for a in (wrong, unknown)}  # pyright: ignore[reportAttributeAccessIssue] - as above
    assert len(messages) == 1
    for number in range(8):
        assert error(log_in(client, f"x{number}@factory.test", "wrong"))[0] == 401
    refused = client.post("/v1/sessions", json={"email": "ada@factory.test", "password": PASSWORD})
    assert error(refused) == (429, "rate_limited")
    assert refused.headers["Retry-After"] == "60"
    clock.advance(timedelta(seconds=61))
    assert client.post(
        "/v1/sessions", json={"email": "ada@factory.test", "password": PASSWORD}
    ).status_code == (201)


def test_a_user_without_password_or_disabled_cannot_log_in(operator: Caller, client: TestClient) -> None:
    user = operator.post("/v1/users", email="eve@factory.test").json()
    assert error(log_in(client, "eve@factory.test", PASSWORD)) == (401, "unauthenticated")
    assert operator.put(f"/v1/users/{user['id']}/password", password=PASSWORD).status_code == 204
    key = client.post("/v1/sessions", json={"email": "eve@factory.test", "password": PASSWORD}).json()
    operator.post(f"/v1/users/{user['id']}/disable")
    assert error(log_in(client, "eve@factory.test", PASSWORD)) == (401, "unauthenticated")
    header = {"Authorization": f"Bearer {key['api_key']}"}
    assert error(client.get("/v1/whoami", headers=header)) == (401, "unauthenticated")
    operator.post(f"/v1/users/{user['id']}/enable")
    assert client.get("/v1/whoami", headers=header).status_code == 200


def test_changing_a_password_needs_the_current_one_and_ends_other_sessions(
    operator: Caller, client: TestClient, control_plane: ControlPlane
) -> None:
    user = operator.post("/v1/users", email="ada@factory.test", password=PASSWORD).json()
    first, second = (
        client.post("/v1/sessions", json={"email": "ada@factory.test", "password": PASSWORD}).json()
        for _ in range(2)
    )
    ada = Caller(control_plane, client, user["id"], "ada", None, first["id"], first["api_key"])
    path = f"/v1/users/{user['id']}/password"
    new = "another long password"
    assert error(ada.put(path, password=new)) == (422, "invalid_input")
    assert error(ada.put(path, password=new, current_password="wrong")) == (403, "forbidden")
    assert error(ada.put(path, password="short", current_password=PASSWORD)) == (422, "invalid_input")
    assert ada.put(path, password=new, current_password=PASSWORD).status_code == 204
    assert ada.get("/v1/whoami").status_code == 200
    header = {"Authorization": f"Bearer {second['api_key']}"}
    assert error(client.get("/v1/whoami", headers=header)) == (401, "unauthenticated")
    assert error(log_in(client, "ada@factory.test", PASSWORD)) == (401, "unauthenticated")
    for _ in range(9):
        assert error(ada.put(path, password=PASSWORD, current_password="wrong"))[0] == 403
    assert error(ada.put(path, password=PASSWORD, current_password=new)) == (429, "rate_limited")


def test_secrets_are_shown_once_and_stored_hashed(acme: Tenant, control_plane: ControlPlane) -> None:
    made = acme.member.post("/v1/api-keys", name="laptop")
    assert made.status_code == 201
    text = made.json()["api_key"]
    assert text.startswith("psk_" + made.json()["prefix"])
    shown = acme.member.get(f"/v1/api-keys/{made.json()['id']}").json()
    assert "api_key" not in shown
    with control_plane.db.transaction(SYSTEM) as connection:
        rows = str(connection.execute(sa.select(api_key)).all())
        rows += str(connection.execute(sa.select(audit)).all())
    assert text not in rows
    assert text.rsplit("_", 1)[1] not in rows


def test_a_password_is_stored_as_argon2id(operator: Caller, control_plane: ControlPlane) -> None:
    operator.post("/v1/users", email="ada@factory.test", password=PASSWORD)
    with control_plane.db.transaction(SYSTEM) as connection:
        stored = connection.execute(
            sa.select(principal.c.password_hash).where(principal.c.name == "ada@factory.test")
        ).scalar_one()
    assert str(stored).startswith("$argon2id$")


def test_a_key_stops_working_when_it_is_revoked_or_expires(acme: Tenant, clock: ManualClock) -> None:
    made = acme.member.post("/v1/api-keys", name="short", expires_in_seconds=60).json()
    other = acme.member.post("/v1/api-keys", name="other").json()
    one = Caller(
        acme.member.plane,
        acme.member.client,
        acme.member.principal_id,
        "",
        acme.id,
        made["id"],
        made["api_key"],
    )
    two = Caller(
        acme.member.plane,
        acme.member.client,
        acme.member.principal_id,
        "",
        acme.id,
        other["id"],
        other["api_key"],
    )
    assert two.get("/v1/whoami").status_code == 200
    revoked = acme.member.delete(f"/v1/api-keys/{other['id']}")
    assert revoked.json()["revoked_at"] is not None
    assert acme.member.delete(f"/v1/api-keys/{other['id']}").json() == revoked.json()
    assert error(two.get("/v1/whoami")) == (401, "unauthenticated")
    assert one.get("/v1/whoami").status_code == 200
    clock.advance(timedelta(seconds=60))
    assert error(one.get("/v1/whoami")) == (401, "unauthenticated")


def test_members_make_their_own_keys_and_administrators_those_of_service_accounts(acme: Tenant) -> None:
    account = acme.admin.post("/v1/service-accounts", name="ci").json()
    assert acme.admin.post("/v1/api-keys", name="ci", principal_id=account["id"]).status_code == 201
    assert error(acme.member.post("/v1/api-keys", name="x", principal_id=account["id"])) == (
        404,
        "not_found",
    )
    user = acme.admin.post("/v1/users", email="ada@acme.test").json()
    assert error(acme.admin.post("/v1/api-keys", name="x", principal_id=user["id"])) == (403, "forbidden")
    assert error(acme.auditor.post("/v1/api-keys", name="x")) == (403, "forbidden")
    own = acme.member.get("/v1/api-keys").json()["items"]
    assert {key["principal_id"] for key in own} == {acme.member.principal_id}
    assert len(acme.admin.get("/v1/api-keys").json()["items"]) == 4


def test_a_key_never_gives_more_than_its_maker_has(
    acme: Tenant, control_plane: ControlPlane, client: TestClient
) -> None:
    other = make_project(control_plane, acme.id, "other")
    confined = make_caller(
        control_plane,
        client,
        "confined",
        Role.MEMBER,
        tenant_id=acme.id,
        key_project_id=acme.project_id,
    )
    made = confined.post("/v1/api-keys", name="x")
    assert made.json()["project_id"] == acme.project_id
    assert error(confined.post("/v1/api-keys", name="x", project_id=other)) == (404, "not_found")
    narrow = make_caller(
        control_plane, client, "narrow", Role.TENANT_ADMIN, tenant_id=acme.id, scopes=("services",)
    )
    assert error(narrow.post("/v1/api-keys", name="x")) == (403, "forbidden")
    day = 24 * 3600
    assert acme.admin.post("/v1/api-keys", name="x", expires_in_seconds=366 * 2 * day).status_code == 201
    assert error(acme.admin.post("/v1/api-keys", name="x", expires_in_seconds=366 * 2 * day + 1)) == (
        422,
        "invalid_input",
    )


def test_nobody_gives_a_role_above_his_own(acme: Tenant, operator: Caller) -> None:
    account = acme.admin.post("/v1/service-accounts", name="ci").json()["id"]
    assert error(acme.admin.post("/v1/role-bindings", principal_id=account, role="operator"))[0] == 422
    assert (
        acme.admin.post(
            "/v1/role-bindings", principal_id=account, role="member", project_id=acme.project_id
        ).status_code
        == 201
    )
    again = acme.admin.post(
        "/v1/role-bindings", principal_id=account, role="member", project_id=acme.project_id
    )
    assert again.status_code == 200
    assert error(acme.member.post("/v1/role-bindings", principal_id=account, role="member"))[0] in {403, 404}
    # An operator's account of the factory cannot be made anything by a tenant: it is not even there.
    assert error(
        acme.admin.post("/v1/role-bindings", principal_id=operator.principal_id, role="tenant_admin")
    ) == (404, "not_found")


def test_the_last_administrator_and_the_last_operator_stay(acme: Tenant, operator: Caller) -> None:
    bindings = operator.get("/v1/role-bindings").json()["items"]
    last_operator = next(b["id"] for b in bindings if b["role"] == "operator")
    last_admin = next(b["id"] for b in bindings if b["role"] == "tenant_admin")
    assert error(operator.delete(f"/v1/role-bindings/{last_operator}")) == (409, "conflict")
    assert error(acme.admin.delete(f"/v1/role-bindings/{last_admin}")) == (409, "conflict")
    path = f"/v1/service-accounts/{acme.admin.principal_id}/disable"
    assert error(operator.post(path)) == (409, "conflict")
    assert error(acme.admin.post(path)) == (409, "conflict")
    second = acme.admin.post("/v1/service-accounts", name="second").json()["id"]
    acme.admin.post("/v1/role-bindings", principal_id=second, role="tenant_admin")
    acme.admin.post(f"/v1/service-accounts/{second}/disable")
    assert error(acme.admin.delete(f"/v1/role-bindings/{last_admin}")) == (409, "conflict"), (
        "a disabled administrator does not count"
    )
    acme.admin.post(f"/v1/service-accounts/{second}/enable")
    assert acme.admin.delete(f"/v1/role-bindings/{last_admin}").status_code == 204


def test_quotas_are_set_by_operators_and_divided_by_administrators(
    acme: Tenant, operator: Caller, control_plane: ControlPlane
) -> None:
    other = make_project(control_plane, acme.id, "other")
    assert error(acme.admin.put("/v1/quotas", dimension="services", limit=5)) == (403, "forbidden")
    mine = operator.put("/v1/quotas", tenant_id=acme.id, dimension="services", limit=10)
    assert mine.json() | {"id": "", "created_at": ""} == {
        "id": "",
        "created_at": "",
        "tenant_id": acme.id,
        "project_id": None,
        "dimension": "services",
        "limit": 10,
        "used": 0,
        "left": 10,
        "guaranteed": None,
    }
    assert acme.admin.put(
        "/v1/quotas", project_id=acme.project_id, dimension="services", limit=7
    ).status_code == (200)
    too_much = acme.admin.put("/v1/quotas", project_id=other, dimension="services", limit=4)
    assert error(too_much) == (409, "conflict")
    assert too_much.json()["error"]["data"]["left"] == 3
    assert acme.admin.put("/v1/quotas", project_id=other, dimension="services", limit=3).status_code == 200
    assert error(acme.member.put("/v1/quotas", project_id=other, dimension="services", limit=1))[0] == 403
    assert len(acme.member.get("/v1/quotas").json()["items"]) == 3
    assert error(acme.admin.delete(f"/v1/quotas/{mine.json()['id']}")) == (403, "forbidden")
    assert operator.delete(f"/v1/quotas/{mine.json()['id']}").status_code == 204
    for bad in ("colours", "services:H100", "devices:NOPE"):
        assert error(operator.put("/v1/quotas", tenant_id=acme.id, dimension=bad, limit=1))[0] == 422


def test_every_change_is_audited_and_so_is_every_refusal(acme: Tenant, operator: Caller) -> None:
    acme.admin.post("/v1/projects", name="audited")
    acme.member.post("/v1/projects", name="refused")
    rows = acme.admin.get("/v1/audit").json()["items"]
    assert [(r["action"], r["outcome"], r["principal_id"]) for r in rows] == [
        ("project.create", "refused:forbidden", acme.member.principal_id),
        ("project.create", "done", acme.admin.principal_id),
    ]
    assert rows[0]["source_address"]
    assert rows[0]["request_id"].startswith("req_")
    assert rows[1]["detail"] == {"name": "audited"}
    assert error(acme.member.get("/v1/audit")) == (403, "forbidden")
    assert acme.auditor.get("/v1/audit").status_code == 200
    operator.post("/v1/tenants", name="initech")
    assert len(acme.admin.get("/v1/audit").json()["items"]) == 2, "another tenant's changes are not shown"
    first = operator.get("/v1/audit", limit=1).json()
    assert first["items"][0]["action"] == "tenant.create"
    second = operator.get("/v1/audit", limit=1, before=first["next"]).json()
    assert second["items"][0]["outcome"] == "refused:forbidden"
    subject = rows[1]["subject_id"]
    assert [r["id"] for r in operator.get("/v1/audit", subject=subject).json()["items"]] == [rows[1]["id"]]


def test_events_show_what_happened_to_whom(acme: Tenant, globex: Tenant, operator: Caller) -> None:
    made = acme.admin.post("/v1/projects", name="seen").json()
    events = acme.member.get("/v1/events").json()["items"]
    assert [(e["kind"], e["subject_id"], e["project_id"]) for e in events] == [
        ("project.created", made["id"], made["id"])
    ]
    assert globex.admin.get("/v1/events").json()["items"] == []
    assert len(operator.get("/v1/events", kind="project.").json()["items"]) == 1
    assert operator.get("/v1/events", kind="tenant.").json()["items"] == []
    assert operator.get("/v1/events", after=events[0]["id"]).json()["items"] == []


def test_somebody_confined_to_a_project_sees_that_project_only(
    acme: Tenant, control_plane: ControlPlane, client: TestClient
) -> None:
    other = make_project(control_plane, acme.id, "other")
    confined = make_caller(
        control_plane, client, "confined", Role.MEMBER, tenant_id=acme.id, project_id=acme.project_id
    )
    assert [p["id"] for p in confined.get("/v1/projects").json()["items"]] == [acme.project_id]
    assert error(confined.get(f"/v1/projects/{other}")) == (404, "not_found")
    assert confined.get(f"/v1/tenants/{acme.id}").status_code == 200
    assert [p["id"] for p in confined.get("/v1/whoami").json()["projects"]] == [acme.project_id]
