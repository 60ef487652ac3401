"""Second factors over HTTP: set up, asked for, taken away by their owner or an administrator, and by nobody else."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from penstock.base import limits
from penstock.base.clock import ManualClock, to_epoch_us
from penstock.control_plane import ControlPlane
from penstock.domain import totp as codes
from tests.support.tenancy import Caller, Tenant, make_tenant

EMAIL, PASSWORD = "ada@acme.test", "correct horse battery"


@pytest.fixture
def tenant(control_plane: ControlPlane, client: TestClient) -> Tenant:
    return make_tenant(control_plane, client, "acme")


@pytest.fixture
def user_id(tenant: Tenant) -> str:
    return str(tenant.admin.post("/v1/users", email=EMAIL, password=PASSWORD).json()["id"])


def log_in(client: TestClient, **more: str) -> httpx.Response:
    return client.post("/v1/sessions", json={"email": EMAIL, "password": PASSWORD, **more})


def ask(client: TestClient, key: str, method: str, path: str, **more: Any) -> httpx.Response:
    return client.request(method, path, headers={"Authorization": f"Bearer {key}"}, **more)


def code_of(secret: str, clock: ManualClock) -> str:
    return codes.code_at(secret, to_epoch_us(clock.now()) // 30_000_000)


def test_a_second_factor_is_set_up_used_shown_and_taken_away(
    client: TestClient, user_id: str, clock: ManualClock, tenant: Tenant
) -> None:
    path = f"/v1/users/{user_id}/second-factor"
    key = log_in(client).json()["api_key"]
    assert ask(client, key, "GET", path).json() == {"active": False, "since": None, "recovery_codes_left": 0}
    begun = ask(client, key, "POST", path)
    assert begun.status_code == 201
    secret = begun.json()["secret"]
    assert secret in begun.json()["address"]
    assert log_in(client).status_code == 201, "nothing is asked for before it is confirmed"
    wrong = ask(client, key, "POST", f"{path}/confirm", json={"code": "000000"})
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "code")
    done = ask(client, key, "POST", f"{path}/confirm", json={"code": code_of(secret, clock)})
    recovery = done.json()["recovery_codes"]
    assert len(recovery) == limits.RECOVERY_CODES
    assert ask(client, key, "POST", path).status_code == 409
    assert log_in(client).json()["error"]["code"] == "second_factor_required"
    clock.advance(timedelta(seconds=30))
    assert log_in(client, code=code_of(secret, clock)).status_code == 201
    key = log_in(client, code=recovery[0]).json()["api_key"]
    shown = ask(client, key, "GET", path).json()
    assert (shown["active"], shown["recovery_codes_left"]) == (True, limits.RECOVERY_CODES - 1)
    assert tenant.admin.get(path).json() == shown
    assert ask(client, key, "DELETE", path).status_code == 204
    assert log_in(client).status_code == 201
    trail = [row["action"] for row in tenant.admin.get("/v1/audit").json()["items"]]
    assert {"totp.confirm", "totp.remove"} <= set(trail)


def test_only_its_owner_in_a_fresh_session_sets_one_up(
    client: TestClient, user_id: str, clock: ManualClock, tenant: Tenant
) -> None:
    path = f"/v1/users/{user_id}/second-factor"
    assert tenant.admin.post(path).status_code == 403, "somebody else"
    assert tenant.member.post(path).status_code == 404, "who may not see the user"
    account = tenant.admin.principal_id
    assert tenant.admin.post(f"/v1/users/{account}/second-factor").status_code == 404, "a program"
    key = log_in(client).json()["api_key"]
    long_lived = ask(client, key, "POST", "/v1/api-keys", json={"name": "laptop", "scopes": ["*"]})
    if long_lived.status_code == 201:
        refused = ask(client, long_lived.json()["api_key"], "POST", path)
        assert refused.status_code == 403, "a key is not enough"
    clock.advance(limits.PROOF_LIFE)
    assert ask(client, key, "POST", path).status_code == 403, "the session is too old"


def test_an_administrator_helps_who_is_locked_out_and_a_stranger_does_not(
    client: TestClient, user_id: str, clock: ManualClock, tenant: Tenant, control_plane: ControlPlane
) -> None:
    path = f"/v1/users/{user_id}/second-factor"
    key = log_in(client).json()["api_key"]
    secret = ask(client, key, "POST", path).json()["secret"]
    ask(client, key, "POST", f"{path}/confirm", json={"code": code_of(secret, clock)})
    stranger: Caller = make_tenant(control_plane, client, "globex").admin
    for method in ("GET", "DELETE"):
        assert stranger.request(method, path).status_code == 404
    assert tenant.auditor.delete(path).status_code == 403
    assert tenant.admin.delete(path).status_code == 204
    assert log_in(client).status_code == 201


@pytest.mark.parametrize("code", ["", "12345", "abcdef", "1" * 17, None, 123456])
def test_a_code_that_is_none_is_named(client: TestClient, user_id: str, code: object) -> None:
    key = log_in(client).json()["api_key"]
    refused = ask(client, key, "POST", f"/v1/users/{user_id}/second-factor/confirm", json={"code": code})
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "code")
