"""Users: people who log in with an e-mail address and a password."""

from penstock.actions import password as passwords
from penstock.actions import principal as principal_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.base.errors import ForbiddenError, InvalidInputError, RateLimitedError
from penstock.store import principal as principal_store
from penstock.store.rows import Row

KIND = "user"


def create(context: Context, actor: Actor, *, tenant_id: str | None, email: str, password: str | None) -> Row:
    """Make a user of a tenant, or of the factory (``tenant_id`` None, operators only).

    Without ``password`` the user cannot log in until an administrator sets one.
    """
    if actor.tenant_id is not None and tenant_id is None:
        tenant_id = actor.tenant_id
    email = email.lower()
    hashed = None
    if password is not None:
        passwords.check_strength(password, email)
        # Whoever may not do this gets his refusal below, without the expensive hash.
        if actor.may("principal:create", tenant_id):
            hashed = passwords.hashed(password)
    user_id = context.new_id(KIND)
    with change(context, actor, "user.create", user_id) as made:
        return principal_actions.insert(
            made, KIND, user_id, tenant_id=tenant_id, name=email, password_hash=hashed
        )


def set_password(
    context: Context, actor: Actor, user_id: str, *, password: str, current_password: str | None
) -> None:
    """Set a password and end the user's other sessions.

    People who change their own give the current one; administrators do not. Raises ForbiddenError if the
    current password is wrong.
    """
    own = user_id == actor.principal_id
    with context.db.transaction(actor.scope) as connection:
        row = principal_actions.visible(connection, actor, KIND, user_id)
        stored = principal_store.password_hash(connection, user_id)
    passwords.check_strength(password, row["name"])
    if own and stored is not None:
        if current_password is None:
            raise InvalidInputError("give your current password too", field="current_password")
        _verify_own(context, actor, stored, current_password)
    hashed = passwords.hashed(password)
    with change(context, actor, "user.set_password", user_id) as made:
        row = principal_actions.visible(made.connection, actor, KIND, user_id)
        if not own:
            actor.require("principal:set_password", row["tenant_id"])
        principal_store.set_password(
            made.connection,
            user_id,
            hashed,
            context.clock.now(),
            keep_key_id=actor.key_id if own else None,
        )
        made.done("user.password_set", user_id, tenant_id=row["tenant_id"], detail={"own": own})
    context.wakeups.signal("gateway")


def _verify_own(context: Context, actor: Actor, stored: str, current_password: str) -> None:
    """Check the current password, as slowly as a log-in: a stolen key must not guess it."""
    failures = context.login_failures
    names = (f"principal:{actor.principal_id}",)
    wait = failures.seconds_until_free(names, context.clock.monotonic())
    if wait:
        raise RateLimitedError(
            "too many wrong passwords; wait and try again", data={"retry_after_seconds": wait}
        )
    if not passwords.matches(stored, current_password):
        failures.add(names, context.clock.monotonic())
        raise ForbiddenError("the current password is wrong", field="current_password")
