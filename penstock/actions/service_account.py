"""Service accounts: principals for programs; they have API keys and no password."""

from penstock.actions import principal as principal_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.store.rows import Row

KIND = "service_account"


def create(context: Context, actor: Actor, *, tenant_id: str | None, name: str) -> Row:
    """Make a service account of a tenant, or of the factory (``tenant_id`` None, operators only)."""
    if actor.tenant_id is not None and tenant_id is None:
        tenant_id = actor.tenant_id
    account_id = context.new_id(KIND)
    with change(context, actor, "service_account.create", account_id) as made:
        return principal_actions.insert(
            made, KIND, account_id, tenant_id=tenant_id, name=name, password_hash=None
        )
