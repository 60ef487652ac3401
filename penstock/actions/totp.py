"""Second factors: a user sets one up, confirms it with a first code, and may take it away again."""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import Connection

from penstock.actions import principal as principal_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.clock import to_epoch_us
from penstock.base.errors import ConflictError, ForbiddenError, InvalidInputError
from penstock.base.units import US_PER_SECOND
from penstock.domain import totp as codes
from penstock.store import totp as totp_store
from penstock.store.database import SYSTEM

USER = "user"
ISSUER = "Penstock"


def begin(context: Context, actor: Actor) -> dict[str, str]:
    """Return a new ``secret`` and its ``address`` for an authenticator; nothing is asked for before ``confirm``.

    ConflictError if the caller has a second factor already, ForbiddenError if the caller is no person.
    """
    secret = codes.mint_secret(os.urandom)
    with change(context, actor, "totp.begin", actor.principal_id) as made:
        _require_person(context, made.connection, actor)
        if totp_store.confirmed_at(made.connection, actor.principal_id) is not None:
            raise ConflictError("you have a second factor already; remove it first to set up another device")
        sealed = context.vault.seal(secret, _purpose(actor.principal_id))
        totp_store.begin(made.connection, actor.principal_id, actor.tenant_id, sealed, context.clock.now())
    return {"secret": secret, "address": address(secret, actor.name)}


def address(secret: str, name: str) -> str:
    """Return the ``otpauth:`` address that a QR code carries."""
    label = quote(f"{ISSUER}:{name}")
    return f"otpauth://totp/{label}?secret={secret}&issuer={ISSUER}&digits={codes.DIGITS}&period={codes.STEP_SECONDS}"


def confirm(context: Context, actor: Actor, code: str) -> list[str]:
    """Ask for the second factor from now on and return recovery codes, which are never shown again.

    InvalidInputError (``code``) if the code is not of the secret that ``begin`` gave, ConflictError without one.
    """
    recovery = codes.mint_recovery(os.urandom, limits.RECOVERY_CODES)
    now = context.clock.now()
    with change(context, actor, "totp.confirm", actor.principal_id) as made:
        _require_person(context, made.connection, actor)
        row = totp_store.get(made.connection, actor.principal_id)
        if row is None or row["confirmed_at"] is not None:
            raise ConflictError("begin with a new secret first, then confirm it")
        step = codes.accepted_step(_secret(context, row), code, _seconds(now), 0)
        if step is None:
            raise InvalidInputError(
                "this is not the code that the authenticator shows now; check the clock of your device and try again",
                field="code",
            )
        hashes = [codes.recovery_digest(text) for text in recovery]
        totp_store.confirm(made.connection, actor.principal_id, step, hashes, now)
        made.done("user.second_factor_set", actor.principal_id, tenant_id=actor.tenant_id)
    return recovery


def remove(context: Context, actor: Actor, user_id: str) -> None:
    """Take a user's second factor away: one's own, or as an administrator that of somebody locked out."""
    with change(context, actor, "totp.remove", user_id) as made:
        row = principal_actions.visible(made.connection, actor, USER, user_id)
        if user_id != actor.principal_id:
            actor.require("principal:set_password", row["tenant_id"])
        else:
            _require_fresh(context, actor)
        if totp_store.remove(made.connection, user_id):
            made.done("user.second_factor_removed", user_id, tenant_id=row["tenant_id"])


def show(context: Context, actor: Actor, user_id: str) -> dict[str, Any]:
    """Return whether a user that the caller may see has a second factor, ``since`` when, and the codes left."""
    with context.db.transaction(actor.scope) as connection:
        principal_actions.visible(connection, actor, USER, user_id)
        row = totp_store.get(connection, user_id)
    active = row is not None and row["confirmed_at"] is not None
    return {
        "active": active,
        "since": row["confirmed_at"] if row else None,
        "recovery_codes_left": len(row["recovery_sha256"]) if row and active else 0,
    }


def require_own(context: Context, actor: Actor, user_id: str) -> None:
    """Raise unless ``user_id`` is the caller: nobody sets up somebody else's authenticator."""
    with context.db.transaction(actor.scope) as connection:
        principal_actions.visible(connection, actor, USER, user_id)
    if user_id != actor.principal_id:
        raise ForbiddenError("a second factor is set up by its owner alone; you may only take it away")


def is_on(context: Context, actor: Actor) -> bool:
    """Tell whether the caller has a second factor."""
    with context.db.transaction(actor.scope) as connection:
        return totp_store.confirmed_at(connection, actor.principal_id) is not None


def accepts(context: Context, connection: Connection, principal_id: str, code: str) -> bool:
    """Tell whether ``code`` opens the confirmed second factor, and use it up: an authenticator's or a recovery code.

    Needs the scope of the user or of the system. True without a confirmed second factor.
    """
    row: dict[str, Any] | None = totp_store.get(connection, principal_id)
    if row is None or row["confirmed_at"] is None:
        return True
    now = context.clock.now()
    step = codes.accepted_step(_secret(context, row), code, _seconds(now), row["last_step"])
    if step is not None:
        totp_store.use_step(connection, principal_id, step)
        return True
    digest = codes.recovery_digest(code)
    if digest not in row["recovery_sha256"]:
        return False
    totp_store.use_recovery(
        connection, principal_id, [one for one in row["recovery_sha256"] if one != digest]
    )
    return True


def seal_stored(context: Context) -> int:
    """Seal every secret that lies open, or under an older key, with the first key; return how many those were.

    Rows of factories older than the vault are the ones in clear.
    """
    done = 0
    after = ""
    while True:
        with context.db.transaction(SYSTEM) as connection:
            rows = totp_store.page(connection, after=after, limit=limits.PAGE_MAX)
            for row in rows:
                if not context.vault.is_current(row["secret"]):
                    sealed = context.vault.seal(_secret(context, row), _purpose(row["principal_id"]))
                    done += totp_store.put_secret(connection, row["principal_id"], row["secret"], sealed)
        if len(rows) < limits.PAGE_MAX:
            return done
        after = rows[-1]["principal_id"]


def _purpose(principal_id: str) -> str:
    return f"totp {principal_id}"


def _secret(context: Context, row: Mapping[str, Any]) -> str:
    """Return the secret of a row; one in clear is base32 and has no full stop in it."""
    stored = str(row["secret"])
    return context.vault.open(stored, _purpose(row["principal_id"])) if "." in stored else stored


def _seconds(now: datetime) -> int:
    return to_epoch_us(now) // US_PER_SECOND


def _require_person(context: Context, connection: Connection, actor: Actor) -> None:
    """Refuse programs, and keys of people: a second factor is set up in a fresh session."""
    principal_actions.visible(connection, actor, USER, actor.principal_id)
    _require_fresh(context, actor)


def _require_fresh(context: Context, actor: Actor) -> None:
    """Refuse keys, and sessions whose owner was not proved to be there a moment ago."""
    if not actor.via_password:
        raise ForbiddenError("log in to change your second factor; a key is not enough")
    if not context.is_proved(actor):
        raise ForbiddenError("log in again to change your second factor: this session began too long ago")
