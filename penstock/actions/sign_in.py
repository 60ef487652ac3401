"""Signing in through an OpenID provider: leave for it with a sealed note, come back with a code.

The note (state, nonce, PKCE verifier, what for) is sealed by the vault and kept by the browser in a cookie, so any
replica can finish what another began, and nobody else's answer fits it. Who comes back is known by issuer and
subject. An unknown one whose groups a grant names gets a user of its own; one whose e-mail address is a user's
already is told to link the two, and takes nothing over.
"""

import hmac
import os
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from enum import StrEnum

import orjson
import structlog
from sqlalchemy.engine import Connection

from penstock.actions import identity as identity_actions
from penstock.actions import session as session_actions
from penstock.actions.context import Actor, Context
from penstock.actions.session import Origin
from penstock.base import limits
from penstock.base.clock import to_epoch_us
from penstock.base.errors import (
    ConflictError,
    ForbiddenError,
    PenstockError,
    RateLimitedError,
    UnauthenticatedError,
)
from penstock.base.units import US_PER_SECOND
from penstock.domain.role import Role
from penstock.drivers.oidc.provider import Person, Provider
from penstock.store import api_key as api_key_store
from penstock.store import audit as audit_store
from penstock.store import event as event_store
from penstock.store import identity as identity_store
from penstock.store import principal as principal_store
from penstock.store import project as project_store
from penstock.store import role_binding as role_binding_store
from penstock.store import tenant as tenant_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

log = structlog.get_logger(__name__)

_PURPOSE = "sign-in note"
_STALE = "this sign-in was begun too long ago, or in another browser; begin again"
CLOCKS_APART_SECONDS = 60


class Aim(StrEnum):
    """What somebody goes to a provider for."""

    LOG_IN = "log_in"
    LINK = "link"  # let the identity open one's own account
    PROVE = "prove"  # show that it is really oneself, before something dangerous


@dataclass(frozen=True, slots=True)
class Return:
    """What came back from the provider; ``code`` or ``error`` is set."""

    state: str
    code: str | None
    error: str | None
    issuer: str | None


def begin(
    context: Context, provider_name: str, aim: Aim, wanted: str, actor: Actor | None
) -> tuple[str, str]:
    """Return where to send the browser, and the sealed note that it keeps. ``wanted``: the page to see afterwards."""
    provider = identity_actions.provider_named(context, provider_name)
    state, nonce, verifier = (urlsafe_b64encode(os.urandom(32)).decode().rstrip("=") for _ in range(3))
    note = {
        "provider": provider_name,
        "aim": aim.value,
        "wanted": wanted,
        "principal": actor.principal_id if actor else None,
        "state": state,
        "nonce": nonce,
        "verifier": verifier,
        "at": _seconds(context),
    }
    sealed = context.vault.seal(orjson.dumps(note).decode(), _PURPOSE)
    address = provider.address(state=state, nonce=nonce, verifier=verifier, sign_in_again=aim is Aim.PROVE)
    return address, sealed


@dataclass(frozen=True, slots=True)
class Note:
    """What was noted when somebody left for a provider."""

    aim: Aim
    wanted: str
    principal_id: str | None
    at: int
    person: Person
    provider: Provider


def redeem(context: Context, origin: Origin, provider_name: str, sealed: str, back: Return) -> Note:
    """Return who came back and what for.

    ForbiddenError if the note is not of this sign-in, UnauthenticatedError if the provider does not vouch for it,
    RateLimitedError after too many failures from one address.
    """
    provider = identity_actions.provider_named(context, provider_name)
    counted = (f"address:{origin.source_address}",)
    wait = context.login_failures.seconds_until_free(counted, context.clock.monotonic())
    if wait:
        raise RateLimitedError(
            f"too many failed log-ins from this address; try again in {wait} s",
            data={"retry_after_seconds": wait},
        )
    try:
        note = orjson.loads(context.vault.open(sealed, _PURPOSE))
    except ValueError:
        raise ForbiddenError(_STALE) from None
    life = limits.SIGN_IN_LIFE.total_seconds()
    if (
        note["provider"] != provider_name
        or not hmac.compare_digest(str(note["state"]).encode(), back.state.encode())
        or not 0 <= _seconds(context) - note["at"] <= life
    ):
        raise ForbiddenError(_STALE)
    if back.code is None:
        raise UnauthenticatedError(
            f"{provider.settings.title} did not sign you in; begin again", internal=back.error
        )
    try:
        person = provider.redeem(
            back.code, nonce=note["nonce"], verifier=note["verifier"], issuer=back.issuer
        )
    except UnauthenticatedError:
        context.login_failures.add(counted, context.clock.monotonic())
        session_actions.LOG_INS.labels(way="oidc", outcome="refused").inc()
        raise
    return Note(Aim(note["aim"]), note["wanted"], note["principal"], note["at"], person, provider)


def log_in(context: Context, origin: Origin, note: Note) -> tuple[Row, str]:
    """Return a new session's row and text for who came back, as with a password.

    ForbiddenError if no grant lets him in, ConflictError if his address is a user's that is not linked to him,
    UnauthenticatedError if his account is disabled.
    """
    try:
        with context.db.transaction(SYSTEM) as connection:
            found = identity_store.find(connection, note.provider.settings.issuer, note.person.subject)
            if found is None:
                user = _make_user(context, connection, origin, note)
            else:
                user = _known(context, connection, origin, note, found)
        if user is None:
            raise ForbiddenError(
                f"none of your groups at {note.provider.settings.title} may enter here; ask an operator of the factory"
            )
    except PenstockError:
        session_actions.LOG_INS.labels(way="oidc", outcome="refused").inc()
        raise
    context.wakeups.signal("gateway")
    return session_actions.open_session(context, origin, user, idle=limits.SESSION_IDLE, way="oidc")


def _known(context: Context, connection: Connection, origin: Origin, note: Note, found: Row) -> Row | None:
    """Return the user of a known identity; None if his groups let him in no more (his roles are gone then)."""
    user: Row = {"id": found["principal_id"], "tenant_id": found["tenant_id"], "name": found["name"]}
    if found["disabled_at"] is not None or (
        found["tenant_id"] is not None and found["tenant_state"] != "active"
    ):
        raise UnauthenticatedError("this account is disabled; ask an administrator to help")
    identity_store.use(connection, found["id"], context.clock.now())
    if not found["managed"]:
        return user
    return user if _set_roles(context, connection, origin, note, user) else None


def _make_user(context: Context, connection: Connection, origin: Origin, note: Note) -> Row | None:
    """Make a user for an unknown identity; None if no grant names one of its groups."""
    tenants = [
        tenant_id
        for grant in note.provider.settings.grants
        if grant.group in note.person.groups and (tenant_id := _tenant(connection, grant.tenant)) is not None
    ]
    if not tenants:
        return None
    if note.person.email is None or len(note.person.email) > 254 or "@" not in note.person.email:
        raise ForbiddenError(
            f"{note.provider.settings.title} gives no confirmed e-mail address for you, which is your name here"
        )
    user: Row = {
        "id": context.new_id("user"),
        "tenant_id": tenants[0] or None,
        "name": note.person.email,
    }
    if not principal_store.insert(
        connection,
        principal_id=user["id"],
        tenant_id=user["tenant_id"],
        kind="user",
        name=user["name"],
        password_hash=None,
        at=context.clock.now(),
    ):
        raise ConflictError(
            f"there is an account '{user['name']}' already: log in to it with its password and link "
            f"{note.provider.settings.title} on the page Account"
        )
    identity_store.insert(
        connection,
        identity_id=context.new_id("identity"),
        tenant_id=user["tenant_id"],
        principal_id=user["id"],
        issuer=note.provider.settings.issuer,
        subject=note.person.subject,
        managed=True,
        at=context.clock.now(),
    )
    _record(context, connection, origin, user, "user.created", {"name": user["name"]}, note)
    _set_roles(context, connection, origin, note, user)
    return user


def _tenant(connection: Connection, name: str | None) -> str | None:
    """Return a tenant's id, '' for the factory, None if there is no such tenant in service."""
    if name is None:
        return ""
    rows = tenant_store.page(connection, tenant_id=None, name=name, after=None, limit=1)
    return rows[0]["id"] if rows and rows[0]["state"] == "active" else None


def _set_roles(context: Context, connection: Connection, origin: Origin, note: Note, user: Row) -> bool:
    """Give a managed user exactly the roles that his groups give in his tenant; False if those are none."""
    wanted: set[tuple[Role, str | None]] = set()
    for grant in note.provider.settings.grants:
        if (
            grant.group in note.person.groups
            and _tenant(connection, grant.tenant) == (user["tenant_id"] or "")
            and (project := _project(connection, user["tenant_id"], grant.project)) is not None
        ):
            wanted.add((grant.role, project or None))
    held = {
        (Role(row["role"]), row["project_id"]): row["id"]
        for row in role_binding_store.of_principal(connection, user["id"])
    }
    for key in held.keys() - wanted:
        role_binding_store.delete(connection, held[key])
    for role, project_id in sorted(wanted - held.keys(), key=str):
        role_binding_store.insert(
            connection,
            binding_id=context.new_id("role_binding"),
            principal_id=user["id"],
            role=role,
            tenant_id=user["tenant_id"],
            project_id=project_id,
            at=context.clock.now(),
        )
    if held.keys() != wanted:
        detail: dict[str, object] = {"roles": sorted({role.value for role, _ in wanted})}
        _record(context, connection, origin, user, "user.roles_followed", detail, note)
    return bool(wanted)


def _project(connection: Connection, tenant_id: str | None, name: str | None) -> str | None:
    """Return a project's id, '' for the whole tenant, None if there is no such project."""
    if name is None:
        return ""
    rows = project_store.page(
        connection, tenant_id=tenant_id, project_ids=None, name=name, after=None, limit=1
    )
    if not rows:
        log.warning("grant_without_project", project=name, tenant_id=tenant_id)
    return rows[0]["id"] if rows else None


def prove(context: Context, actor: Actor, note: Note) -> None:
    """Note that the session's owner signed in again a moment ago; ForbiddenError if that was somebody else.

    The provider must say when (``auth_time``): an old session there proves nothing.
    """
    _require_same(actor, note)
    at = note.person.signed_in_at
    if at is None or at < note.at - CLOCKS_APART_SECONDS:
        raise ForbiddenError(f"{note.provider.settings.title} did not ask who you are; sign in there again")
    with context.db.transaction(actor.scope) as connection:
        mine = identity_store.of_principal(connection, actor.principal_id)
        issuer = note.provider.settings.issuer
        if not any((row["issuer"], row["subject"]) == (issuer, note.person.subject) for row in mine):
            raise ForbiddenError("that was another account; sign in with the one that is linked to yours")
        api_key_store.prove_session(connection, actor.key_id or "", context.clock.now())
        context.audit(
            connection,
            actor,
            "session.prove",
            actor.principal_id,
            tenant_id=actor.tenant_id,
            detail={"way": "oidc"},
        )


def link(context: Context, actor: Actor, note: Note) -> Row:
    """Link who came back to the caller's own account; ForbiddenError if another session left for it."""
    _require_same(actor, note)
    return identity_actions.link(context, actor, note.provider, note.person)


def _require_same(actor: Actor, note: Note) -> None:
    if note.principal_id != actor.principal_id or not actor.via_password:
        raise ForbiddenError(_STALE)


def _record(
    context: Context,
    connection: Connection,
    origin: Origin,
    user: Row,
    kind: str,
    detail: dict[str, object],
    note: Note,
) -> None:
    """Write audit row and event of what a sign-in changed; nobody else asked for it."""
    told: dict[str, object] = {**detail, "provider": note.provider.settings.name}
    audit_store.write(
        connection,
        at=context.clock.now(),
        tenant_id=user["tenant_id"],
        principal_id=user["id"],
        key_id=None,
        action=kind,
        subject_id=user["id"],
        outcome="done",
        source_address=origin.source_address,
        user_agent=origin.user_agent,
        request_id=origin.request_id,
        detail=told,
    )
    event_store.emit(
        connection,
        at=context.clock.now(),
        kind=kind,
        subject_id=user["id"],
        tenant_id=user["tenant_id"],
        project_id=None,
        data=told,
    )


def _seconds(context: Context) -> int:
    return to_epoch_us(context.clock.now()) // US_PER_SECOND
