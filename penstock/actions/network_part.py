"""What subnets, ports, groups, records and routes have in common: each is a part of one network."""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base.errors import ConflictError
from penstock.store import owned
from penstock.store.rows import Row


def visible(connection: Connection, actor: Actor, table: sa.Table, object_id: str) -> Row:
    """Return a part that the caller may see; NotFoundError otherwise."""
    row = owned.get(connection, table, object_id)
    if row is None:
        raise not_found(table.name, object_id)
    actor.require_visible(table.name, row["tenant_id"], row["project_id"], object_id)
    return row


def show(context: Context, actor: Actor, table: sa.Table, object_id: str) -> Row:
    """Return one part in a transaction of its own; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return visible(connection, actor, table, object_id)


def within(connection: Connection, network_row: Row, table: sa.Table, object_id: str) -> Row:
    """Return a part of this very network; NotFoundError otherwise."""
    row = owned.get(connection, table, object_id)
    if row is None or row["network_id"] != network_row["id"]:
        raise not_found(table.name, object_id)
    return row


def list_page(
    context: Context,
    actor: Actor,
    table: sa.Table,
    *,
    network_id: str | None,
    after: str | None,
    limit: int,
    equal: Mapping[str, str | None] | None = None,
) -> list[Row]:
    """Return up to ``limit`` parts that the caller may see, by id; of one network if it is named."""
    tenant_id = tenant_for_list(actor, f"{table.name}:read", None)
    with context.db.transaction(actor.scope) as connection:
        if network_id is not None:
            network_actions.visible(connection, actor, network_id)
        return owned.page(
            connection,
            table,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            after=after,
            limit=limit,
            equal={**(equal or {}), "network_id": network_id},
        )


def base_row(context: Context, network_row: Row, object_id: str, name: str, description: str) -> Row:
    """Return what every part begins with."""
    return {
        "id": object_id,
        "tenant_id": network_row["tenant_id"],
        "project_id": network_row["project_id"],
        "network_id": network_row["id"],
        "name": name,
        "description": description,
        "created_at": context.clock.now(),
    }


def require_room(connection: Connection, table: sa.Table, network_row: Row, most: int) -> None:
    """Raise ConflictError if a network has ``most`` parts of this kind already."""
    if owned.count(connection, table, network_id=network_row["id"]) >= most:
        what = table.name.replace("_", " ")
        raise ConflictError(f"a network has at most {most} of the kind '{what}'; remove one first")


def name_taken(table: sa.Table, name: str) -> ConflictError:
    """Return the error for a name that the network has already."""
    what = table.name.replace("_", " ")
    return ConflictError(f"the network has a {what} '{name}' already; choose another name", field="name")
