"""The operator's policies: read by all who may, changed by operators; the engine reads them at each batch."""

from collections.abc import Mapping
from dataclasses import asdict

from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.domain.policy import Policy, policy_from
from penstock.store import policy as policy_store

SUBJECT = "policy"


def show(context: Context, actor: Actor) -> Policy:
    """Return the policies in force; ForbiddenError for who may not see them."""
    actor.require("policy:read")
    with context.db.transaction(actor.scope) as connection:
        return policy_store.read(connection)


def put(context: Context, actor: Actor, changes: Mapping[str, object]) -> Policy:
    """Change those policies that ``changes`` names; InvalidInputError names a field that cannot be."""
    with change(context, actor, "policy.set", SUBJECT) as made:
        actor.require("policy:write")
        before = asdict(policy_store.read(made.connection))
        policy = policy_from({**before, **changes})
        policy_store.put(made.connection, policy)
        made.done(
            "policy.set",
            SUBJECT,
            tenant_id=None,
            detail={name: value for name, value in changes.items() if before[name] != value},
        )
    context.wakeups.signal("service")
    return policy
