"""Identities: a user's accounts at OpenID providers. Each is one subject of one issuer and opens one user.

Who has an account of ours links his own to it while logged in; that two accounts show the same e-mail address
links nothing. Users whom a sign-in made (``managed``) have exactly the roles that their groups give.
"""

from sqlalchemy.engine import Connection

from penstock.actions import principal as principal_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.user import KIND
from penstock.base import limits
from penstock.base.errors import ConflictError, ForbiddenError, NotFoundError
from penstock.drivers.oidc.provider import Person, Provider
from penstock.store import identity as identity_store
from penstock.store import principal as principal_store
from penstock.store.rows import Row


def provider_named(context: Context, name: str) -> Provider:
    """Return a provider that people may sign in through; NotFoundError for others."""
    provider = context.providers.get(name)
    if provider is None:
        raise NotFoundError("no such identity provider is set up; log in another way")
    return provider


def list_of(context: Context, actor: Actor, user_id: str) -> list[Row]:
    """Return the identities of a user that the caller may see."""
    with context.db.transaction(actor.scope) as connection:
        principal_actions.visible(connection, actor, KIND, user_id)
        return identity_store.of_principal(connection, user_id)


def link(context: Context, actor: Actor, provider: Provider, person: Person) -> Row:
    """Let ``person`` of a provider open the caller's own account from now on. Repeatable.

    ConflictError if that identity opens another account, or the caller has too many.
    """
    identity_id = context.new_id("identity")
    with change(context, actor, "identity.link", actor.principal_id) as made:
        principal_actions.visible(made.connection, actor, KIND, actor.principal_id)
        principal_store.lock(made.connection, actor.principal_id)
        mine = identity_store.of_principal(made.connection, actor.principal_id)
        for row in mine:
            if (row["issuer"], row["subject"]) == (provider.settings.issuer, person.subject):
                return row
        if len(mine) >= limits.IDENTITIES_PER_USER_MAX:
            raise ConflictError(
                f"an account has at most {limits.IDENTITIES_PER_USER_MAX} identities; remove one first"
            )
        if not identity_store.insert(
            made.connection,
            identity_id=identity_id,
            tenant_id=actor.tenant_id,
            principal_id=actor.principal_id,
            issuer=provider.settings.issuer,
            subject=person.subject,
            managed=False,
            at=context.clock.now(),
        ):
            raise ConflictError(
                "this identity opens another account already; sign in there and remove it first"
            )
        made.done(
            "identity.linked",
            identity_id,
            tenant_id=actor.tenant_id,
            detail={"principal_id": actor.principal_id, "issuer": provider.settings.issuer},
        )
        row = identity_store.get(made.connection, identity_id)
    return row or {}


def remove(context: Context, actor: Actor, identity_id: str) -> None:
    """Take an identity away: one's own in a session, or as an administrator somebody else's.

    ConflictError if the caller could not log in any more without it.
    """
    with change(context, actor, "identity.remove", identity_id) as made:
        row = identity_store.get(made.connection, identity_id)
        if row is None:
            raise not_found("identity", identity_id)
        try:
            principal_actions.visible(made.connection, actor, KIND, row["principal_id"])
        except NotFoundError:
            raise not_found("identity", identity_id) from None
        if row["principal_id"] != actor.principal_id:
            actor.require("principal:set_password", row["tenant_id"])
        elif not actor.via_password:
            raise ForbiddenError("log in to change how you log in; a key is not enough")
        else:
            _refuse_lock_out(made.connection, row)
        identity_store.delete(made.connection, identity_id)
        made.done(
            "identity.removed",
            identity_id,
            tenant_id=row["tenant_id"],
            detail={"principal_id": row["principal_id"], "issuer": row["issuer"]},
        )


def _refuse_lock_out(connection: Connection, row: Row) -> None:
    has_password = principal_store.password_hash(connection, row["principal_id"]) is not None
    if not has_password and len(identity_store.of_principal(connection, row["principal_id"])) == 1:
        raise ConflictError("without it you could not log in any more; set a password first")
