"""Which OpenID providers people may sign in through, and which of their groups may do what: one TOML file.

public_url = "https://factory.example"          # where browsers reach the console; the provider knows
                                                # <public_url>/console/oidc/<name>/callback
[[provider]]
name = "corp"                                   # part of addresses
title = "Example ID"                            # on the button
issuer = "https://id.example"
client_id = "penstock"
client_secret_file = "oidc.secret"              # beside this file unless absolute; mode 0600
scopes = ["openid", "email", "groups"]          # the default
groups_claim = "groups"                         # the default
[[provider.grant]]
group = "gpu-admins"
role = "tenant_admin"                           # operator, tenant_admin, member, auditor
tenant = "acme"                                 # left out for roles in the whole factory
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from penstock.base.errors import StartupError
from penstock.domain.role import Binding, Role, misplaced

PROVIDERS_MAX = 8
GRANTS_MAX = 1_000
SCOPES = ("openid", "email", "groups")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Grant:
    """Whoever is in ``group`` has ``role`` in the tenant of that name (None: in the factory) or one project of it."""

    group: str
    role: Role
    tenant: str | None
    project: str | None


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One provider, as its factory is registered there."""

    name: str
    title: str
    issuer: str
    client_id: str
    client_secret: str | None
    redirect_url: str
    grants: tuple[Grant, ...]
    scopes: tuple[str, ...] = SCOPES
    groups_claim: str = "groups"
    verifies_emails: bool = False  # the provider confirms every address though it does not say so in a claim
    ca_file: Path | None = None


def load(path: Path) -> list[ProviderSettings]:
    """Return the providers in a file; StartupError names what is wrong in it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"{path} is no TOML: {error}") from error
    try:
        return _providers(document, path)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise StartupError(f"{path}: {what}; docs/reference/console.md has an example") from error


def _providers(document: Mapping[str, Any], path: Path) -> list[ProviderSettings]:
    _only(document, {"public_url", "provider"}, "the file")
    public_url = _web_address(document["public_url"], "public_url").rstrip("/")
    tables = cast("list[dict[str, Any]]", document["provider"])
    if not 1 <= len(tables) <= PROVIDERS_MAX:
        raise ValueError(f"give 1 to {PROVIDERS_MAX} providers")
    found = [_provider(table, public_url, path) for table in tables]
    if len({one.name for one in found}) < len(found) or len({one.issuer for one in found}) < len(found):
        raise ValueError("two providers have the same name or issuer")
    return found


_FIELDS = {
    "name",
    "title",
    "issuer",
    "client_id",
    "client_secret_file",
    "scopes",
    "groups_claim",
    "verifies_emails",
    "ca_file",
    "grant",
}


def _provider(table: Mapping[str, Any], public_url: str, path: Path) -> ProviderSettings:
    _only(table, _FIELDS, "a provider")
    name = _text(table["name"], "name")
    if not (name.isascii() and name.replace("-", "").isalnum() and name.islower() and len(name) <= 32):
        raise ValueError("the name of a provider has up to 32 small letters, digits and hyphens")
    grants = tuple(_grant(one) for one in table.get("grant", []))
    if len(grants) > GRANTS_MAX:
        raise ValueError(f"a provider has at most {GRANTS_MAX} grants")
    secret = table.get("client_secret_file")
    ca_file = table.get("ca_file")
    scopes = tuple(_text(one, "scopes") for one in table.get("scopes", SCOPES))
    if "openid" not in scopes:
        raise ValueError("the scopes must contain openid")
    return ProviderSettings(
        name=name,
        title=_text(table.get("title", name), "title"),
        issuer=_web_address(table["issuer"], "issuer"),
        client_id=_text(table["client_id"], "client_id"),
        client_secret=None if secret is None else _secret(path.parent / _text(secret, "client_secret_file")),
        redirect_url=f"{public_url}/console/oidc/{name}/callback",
        grants=grants,
        scopes=scopes,
        groups_claim=_text(table.get("groups_claim", "groups"), "groups_claim"),
        verifies_emails=table.get("verifies_emails", False) is True,
        ca_file=None if ca_file is None else path.parent / _text(ca_file, "ca_file"),
    )


def _grant(table: Mapping[str, Any]) -> Grant:
    _only(table, {"group", "role", "tenant", "project"}, "a grant")
    tenant, project = table.get("tenant"), table.get("project")
    made = Grant(
        _text(table["group"], "group"),
        Role(table["role"]),
        None if tenant is None else _text(tenant, "tenant"),
        None if project is None else _text(project, "project"),
    )
    wrong = misplaced(Binding(made.role, made.tenant, made.project))
    if wrong is not None:
        raise ValueError(f"grant of '{made.group}': {wrong}")
    return made


def _only(table: Mapping[str, Any], known: set[str], what: str) -> None:
    for name in table:
        if name not in known:
            raise ValueError(f"{what} has no field '{name}'")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 500 or not value.isprintable():
        raise ValueError(f"{name} must be a text")
    return value


def _web_address(value: object, name: str) -> str:
    """Return an address that is safe to send secrets to: https, or plain on this very machine."""
    text = _text(value, name)
    parts = urlsplit(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError(f"{name} must begin with https://")
    if not parts.hostname or parts.username is not None or parts.fragment or parts.query:
        raise ValueError(f"{name} must be an address without user, query and fragment")
    return text


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"client_secret_file {path} cannot be read") from error
