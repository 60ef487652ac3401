"""Whose objects a request is about: the tenant it names, or the caller's own."""

from collections.abc import Iterable

from penstock.actions.context import Actor, not_found
from penstock.base.errors import InvalidInputError


def tenant_for_change(actor: Actor, asked: str | None) -> str:
    """Return the tenant a change is for: the caller's own, or the one that a caller of the factory names.

    A foreign tenant is not found. InvalidInputError if the factory's caller names none.
    """
    if actor.tenant_id is None:
        if asked is None:
            raise InvalidInputError("say which tenant this is for: give 'tenant_id'", field="tenant_id")
        return asked
    if asked is not None and asked != actor.tenant_id:
        raise not_found("tenant", asked)
    return actor.tenant_id


def tenant_for_list(actor: Actor, permission: str, asked: str | None) -> str | None:
    """Return the tenant whose objects are listed; None: of all, for callers of the factory.

    Raises ForbiddenError unless the caller has ``permission`` there, on the tenant or on some project of it.
    """
    tenant_id = asked if actor.tenant_id is None else tenant_for_change(actor, asked)
    if not any(actor.may(permission, tenant_id, project_id) for project_id in places(actor)):
        actor.require(permission, tenant_id)
    return tenant_id


def places(actor: Actor) -> Iterable[str | None]:
    """Return where a caller may have permissions: the whole tenant, then the projects it is confined to."""
    return (None, *sorted(actor.project_ids or ()))
