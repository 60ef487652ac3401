"""Issuing certificates by the authority of a project, in a transaction of the caller: first ones, and those that follow."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.base.errors import UnavailableError
from penstock.domain.certificate import authority_purpose, key_purpose, life, rotate_at
from penstock.drivers.pki import project_authority
from penstock.drivers.pki.project_authority import Authority, Content
from penstock.drivers.pki.vault import Vault
from penstock.store import certificate as certificate_store
from penstock.store.rows import Row

_LABEL = "Penstock project"
_DAMAGED = "this project's authority cannot be used: its key is damaged or its own time is over; its operator restores the database"


def ensure_authority(connection: Connection, vault: Vault, owner: Row, now: datetime) -> Authority:
    """Return the authority of ``owner``'s project, made if it has none yet; whoever of two comes first makes it.

    UnavailableError if its key cannot be opened.
    """
    project_id = owner["project_id"]
    if certificate_store.authority(connection, project_id) is None:
        made = project_authority.new(now, _LABEL)
        row = {
            "project_id": project_id,
            "tenant_id": owner["tenant_id"],
            "certificate_pem": made.certificate_pem,
            "sealed_key": vault.seal(made.key_pem, authority_purpose(project_id)),
            "created_at": now,
        }
        certificate_store.insert_authority(connection, row)
    found = certificate_store.authority(connection, project_id)
    assert found is not None  # noqa: S101 - it was there, or was added just now
    return opened(vault, found)


def opened(vault: Vault, row: Row) -> Authority:
    """Return an authority with its key; UnavailableError if that cannot be opened."""
    try:
        key = vault.open(row["sealed_key"], authority_purpose(row["project_id"]))
    except ValueError as error:
        raise UnavailableError(_DAMAGED, internal=str(error)) from error
    return Authority(row["certificate_pem"], key)


def issue(connection: Connection, vault: Vault, row: Row, now: datetime) -> dict[str, Any]:
    """Return the columns of a new content for an issued certificate: new key, new serial, which is noted.

    UnavailableError if the authority's key cannot be opened, or its own time is over.
    """
    try:
        authority = ensure_authority(connection, vault, row, now)
        content = project_authority.issue(authority, row["names"], now, life(row["life_days"]))
    except ValueError as error:
        raise UnavailableError(_DAMAGED, internal=str(error)) from error
    certificate_store.insert_serial(
        connection,
        {
            "serial": content.serial,
            "project_id": row["project_id"],
            "tenant_id": row["tenant_id"],
            "certificate_id": row["id"],
            "expires_at": content.expires_at,
        },
    )
    return {**columns(vault, row["id"], content), "rotate_at": rotate_at(now, content.expires_at)}


def columns(vault: Vault, certificate_id: str, content: Content) -> dict[str, Any]:
    """Return the columns that a content fills; its key is sealed for this certificate."""
    shown: Mapping[str, Any] = {
        name: getattr(content, name)
        for name in (
            "chain_pem",
            "serial",
            "fingerprint_sha256",
            "key_kind",
            "issuer",
            "begins_at",
            "expires_at",
        )
    }
    return {
        **shown,
        "names": list(content.names),
        "sealed_key": vault.seal(content.key_pem, key_purpose(certificate_id)),
    }
