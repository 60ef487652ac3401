"""The first operator and the demonstration tenant of a new factory, with keys and passwords in files of mode 0600."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.actions import password as passwords
from penstock.actions.context import Context
from penstock.domain import api_key as key_text
from penstock.domain.role import Role
from penstock.store import api_key as api_key_store
from penstock.store import principal as principal_store
from penstock.store.database import SYSTEM
from penstock.store.schema import api_key, principal, project, role_binding, tenant

OPERATOR_NAME = "operator@factory.local"
DEMO_TENANT = "demo"
DEMO_PROJECT = "demo"
DEMO_ACCOUNT = "demo"
DEMO_USER = "demo@factory.local"
PASSWORD_BYTES = 15  # 120 random bits, 24 characters


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """What a person needs to begin: two keys and the project they order for."""

    operator_key: str
    demo_key: str
    demo_project_id: str


def bootstrap(context: Context, folder: Path) -> FirstKeys:
    """Make the first operator and the demonstration tenant unless they are there; return working keys.

    Keys are stored hashed in the database; the files under ``folder`` are the only copies in clear. A file
    that is lost, or whose key was revoked, is replaced by a new key.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with context.db.transaction(SYSTEM) as connection:
        operator_id = _operator(context, connection)
        operator_key = _working_key(context, connection, folder / "operator.key", operator_id, None)
        tenant_id, project_id, account_id = _demo(context, connection)
        demo_key = _working_key(context, connection, folder / "demo.key", account_id, tenant_id)
    return FirstKeys(operator_key, demo_key, project_id)


@dataclass(frozen=True, slots=True)
class FirstLogin:
    """Who may log in to the console first; ``password_file`` is None once its owner removed it."""

    name: str
    password_file: Path | None


def first_logins(context: Context, folder: Path) -> tuple[FirstLogin, ...]:
    """Let a person of the demonstration tenant and the operator log in; call it after ``bootstrap``.

    Whoever has no password yet gets one that only a file under ``folder`` knows; who has one keeps it.
    """
    with context.db.transaction(SYSTEM) as connection:
        operator_id = _operator(context, connection)
        tenant_id, _, _ = _demo(context, connection)
        user_id = _demo_user(context, connection, tenant_id)
        return (
            FirstLogin(DEMO_USER, _first_password(connection, folder / "demo.password", user_id)),
            FirstLogin(OPERATOR_NAME, _first_password(connection, folder / "operator.password", operator_id)),
        )


def _demo_user(context: Context, connection: Connection, tenant_id: str) -> str:
    """Return the person who looks at the console for the demonstration tenant, made if there is none."""
    found = connection.execute(
        sa.select(principal.c.id).where(principal.c.name == DEMO_USER, principal.c.kind == "user")
    ).scalar_one_or_none()
    if found is not None:
        return str(found)
    user_id = _principal(context, connection, tenant_id, "user", DEMO_USER)
    _bind(context, connection, user_id, tenant_id, Role.TENANT_ADMIN)
    return user_id


def _first_password(connection: Connection, file: Path, user_id: str) -> Path | None:
    """Give a user without a password one that only ``file`` knows; return the file if it is there."""
    if principal_store.password_hash(connection, user_id) is None:
        text = base64.b32encode(os.urandom(PASSWORD_BYTES)).decode().lower()
        write_secret(file, text)
        connection.execute(
            sa.update(principal).where(principal.c.id == user_id).values(password_hash=passwords.hashed(text))
        )
    return file if file.exists() else None


def _operator(context: Context, connection: Connection) -> str:
    query = sa.select(principal.c.id).where(
        principal.c.name == OPERATOR_NAME, principal.c.tenant_id.is_(None)
    )
    found = connection.execute(query).scalar_one_or_none()
    if found is not None:
        return str(found)
    operator_id = _principal(context, connection, None, "user", OPERATOR_NAME)
    _bind(context, connection, operator_id, None, Role.OPERATOR)
    return operator_id


def _demo(context: Context, connection: Connection) -> tuple[str, str, str]:
    now = context.clock.now()
    tenant_id = connection.execute(
        sa.select(tenant.c.id).where(tenant.c.name == DEMO_TENANT)
    ).scalar_one_or_none()
    if tenant_id is None:
        tenant_id = context.new_id("tenant")
        connection.execute(
            sa.insert(tenant).values(
                id=tenant_id,
                name=DEMO_TENANT,
                description="made by `penstock up` to show the factory; delete it when you like",
                state="active",
                created_at=now,
            )
        )
    query = sa.select(project.c.id).where(
        project.c.tenant_id == tenant_id, project.c.name == DEMO_PROJECT, project.c.state == "active"
    )
    project_id = connection.execute(query).scalar_one_or_none()
    if project_id is None:
        project_id = context.new_id("project")
        connection.execute(
            sa.insert(project).values(
                id=project_id, tenant_id=tenant_id, name=DEMO_PROJECT, state="active", created_at=now
            )
        )
    query = sa.select(principal.c.id).where(
        principal.c.tenant_id == tenant_id,
        principal.c.name == DEMO_ACCOUNT,
        principal.c.kind == "service_account",
    )
    account_id = connection.execute(query).scalar_one_or_none()
    if account_id is None:
        account_id = _principal(context, connection, tenant_id, "service_account", DEMO_ACCOUNT)
        _bind(context, connection, account_id, tenant_id, Role.TENANT_ADMIN)
    return str(tenant_id), str(project_id), str(account_id)


def _principal(context: Context, connection: Connection, tenant_id: str | None, kind: str, name: str) -> str:
    noun = "user" if kind == "user" else "service_account"
    principal_id = context.new_id(noun)
    connection.execute(
        sa.insert(principal).values(
            id=principal_id, tenant_id=tenant_id, kind=kind, name=name, created_at=context.clock.now()
        )
    )
    return principal_id


def _bind(
    context: Context, connection: Connection, principal_id: str, tenant_id: str | None, role: Role
) -> None:
    connection.execute(
        sa.insert(role_binding).values(
            id=context.new_id("role_binding"),
            tenant_id=tenant_id,
            principal_id=principal_id,
            role=role,
            created_at=context.clock.now(),
        )
    )


def _working_key(
    context: Context, connection: Connection, file: Path, principal_id: str, tenant_id: str | None
) -> str:
    """Return the key in ``file`` if it still works, else make one and write it there."""
    if file.exists():
        text = file.read_text().strip()
        prefix = key_text.prefix_of(text)
        row = api_key_store.find_for_authentication(connection, prefix) if prefix else None
        if (
            row is not None
            and row["secret_sha256"] == key_text.digest(text)
            and row["revoked_at"] is None
            and row["principal_id"] == principal_id
        ):
            return text
    minted = key_text.mint(os.urandom)
    connection.execute(
        sa.insert(api_key).values(
            id=context.new_id("api_key"),
            tenant_id=tenant_id,
            principal_id=principal_id,
            name="made by penstock up",
            prefix=minted.prefix,
            secret_sha256=minted.sha256,
            scopes=["*"],
            created_at=context.clock.now(),
        )
    )
    write_secret(file, minted.text)
    return minted.text


def write_secret(file: Path, text: str) -> None:
    """Write a secret for the owner's eyes only, never half."""
    partial = file.with_suffix(".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text + "\n")
    partial.replace(file)
