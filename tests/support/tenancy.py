"""Tenants and callers for tests: principals with a role and a key, and a client that uses it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from fastapi.testclient import TestClient

from penstock.actions.authenticate import authenticate
from penstock.actions.context import Actor
from penstock.control_plane import ControlPlane
from penstock.domain import api_key as key_text
from penstock.domain.role import Role
from penstock.store import api_key as api_key_store
from penstock.store import principal as principal_store
from penstock.store import project as project_store
from penstock.store import role_binding as role_binding_store
from penstock.store import tenant as tenant_store
from penstock.store.database import SYSTEM


@dataclass(frozen=True)
class Caller:
    """Somebody with a key; the request methods send it and return the answer."""

    plane: ControlPlane
    client: TestClient | None
    principal_id: str
    name: str
    tenant_id: str | None
    key_id: str
    key: str

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request with the key."""
        assert self.client is not None, "make this caller with a client to send requests"
        return self.client.request(method, path, headers={"Authorization": f"Bearer {self.key}"}, **more)

    def get(self, path: str, **params: Any) -> httpx.Response:
        """GET with query parameters."""
        return self.request("GET", path, params=params)

    def post(self, path: str, **body: Any) -> httpx.Response:
        """POST the keyword arguments as the body."""
        return self.request("POST", path, json=body)

    def put(self, path: str, **body: Any) -> httpx.Response:
        """PUT the keyword arguments as the body."""
        return self.request("PUT", path, json=body)

    def delete(self, path: str) -> httpx.Response:
        """DELETE."""
        return self.request("DELETE", path)

    def actor(self) -> Actor:
        """Return the authenticated actor, for tests that call actions."""
        return authenticate(
            self.plane.context,
            self.key,
            source_address="127.0.0.1",
            user_agent="test",
            request_id="req_test",
        )


@dataclass(frozen=True)
class Tenant:
    """A tenant with one project and one caller for each role."""

    id: str
    project_id: str
    admin: Caller
    member: Caller
    auditor: Caller


def make_caller(
    plane: ControlPlane,
    client: TestClient | None,
    name: str,
    role: Role | None,
    *,
    tenant_id: str | None = None,
    project_id: str | None = None,
    scopes: Sequence[str] = ("*",),
    key_project_id: str | None = None,
    kind: str = "service_account",
) -> Caller:
    """Make a principal with ``role`` (None: without any) and a key of a year."""
    context = plane.context
    now = plane.clock.now()
    principal_id = context.new_id(kind)
    with plane.db.transaction(SYSTEM) as connection:
        assert principal_store.insert(
            connection,
            principal_id=principal_id,
            tenant_id=tenant_id,
            kind=kind,
            name=name,
            password_hash=None,
            at=now,
        )
        if role is not None:
            role_binding_store.insert(
                connection,
                binding_id=context.new_id("role_binding"),
                principal_id=principal_id,
                role=role,
                tenant_id=tenant_id,
                project_id=project_id,
                at=now,
            )
        minted = key_text.mint(os.urandom)
        key_id = context.new_id("api_key")
        api_key_store.insert(
            connection,
            {
                "id": key_id,
                "tenant_id": tenant_id,
                "project_id": key_project_id,
                "principal_id": principal_id,
                "name": "test",
                "prefix": minted.prefix,
                "secret_sha256": minted.sha256,
                "scopes": list(scopes),
                "session": False,
                "requests_per_minute": None,
                "tokens_per_minute": None,
                "created_at": now,
                "expires_at": now + timedelta(days=365),
                "revoked_at": None,
            },
        )
    return Caller(plane, client, principal_id, name, tenant_id, key_id, minted.text)


def make_tenant(plane: ControlPlane, client: TestClient | None, name: str) -> Tenant:
    """Make a tenant with a project ``main`` and an administrator, a member and an auditor."""
    context = plane.context
    tenant_id = context.new_id("tenant")
    with plane.db.transaction(SYSTEM) as connection:
        assert tenant_store.insert(
            connection, tenant_id=tenant_id, name=name, description="", at=plane.clock.now()
        )
    project_id = make_project(plane, tenant_id, "main")

    def of(role: Role) -> Caller:
        return make_caller(plane, client, f"{name}-{role.value.replace('_', '-')}", role, tenant_id=tenant_id)

    return Tenant(tenant_id, project_id, of(Role.TENANT_ADMIN), of(Role.MEMBER), of(Role.AUDITOR))


def make_project(plane: ControlPlane, tenant_id: str, name: str) -> str:
    """Make a project and return its id."""
    project_id = plane.context.new_id("project")
    with plane.db.transaction(SYSTEM) as connection:
        assert project_store.insert(
            connection,
            project_id=project_id,
            tenant_id=tenant_id,
            name=name,
            description="",
            at=plane.clock.now(),
        )
    return project_id
