"""What the pages of a network's parts share: finding one of a network that one may change, the way back, deleting."""

from collections.abc import Callable

import sqlalchemy as sa
from starlette.responses import Response

from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions import security_group as group_actions
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.console import confirm
from penstock.console.edge import Visit
from penstock.store.rows import Row


def network_for(visit: Visit, permission: str) -> Row:
    """Return the network that the address names, if its visitor has ``permission`` there."""
    row = network_actions.show(visit.context, visit.actor, visit.path("network_id"))
    visit.actor.require(permission, row["tenant_id"], row["project_id"])
    return row


def found(visit: Visit, table: sa.Table, permission: str | None = None) -> tuple[Row, Row]:
    """Return the part that the address names by ``<table>_id``, and its network; ``permission``: to be had there."""
    row = network_part.show(visit.context, visit.actor, table, visit.path(f"{table.name}_id"))
    if permission is not None:
        visit.actor.require(permission, row["tenant_id"], row["project_id"])
    return row, network_actions.show(visit.context, visit.actor, row["network_id"])


def parts_of(visit: Visit, table: sa.Table, network_id: str | None) -> list[Row]:
    """Return the parts of a network, or of every one that the visitor sees; at most ``limits.PAGE_MAX``."""
    return network_part.list_page(
        visit.context, visit.actor, table, network_id=network_id, after=None, limit=limits.PAGE_MAX
    )


def groups_of(visit: Visit, network_id: str) -> list[Row]:
    """Return the security groups of a network with their rules and what they hold for."""
    return group_actions.list_page(
        visit.context,
        visit.actor,
        network_id=network_id,
        name=None,
        after=None,
        limit=limits.SECURITY_GROUPS_PER_NETWORK_MAX,
    )


def way(network: Row) -> list[tuple[str, str]]:
    """Return the pages that a part of ``network`` hangs below."""
    return [("/networks", "Networks"), (f"/networks/{network['id']}", network["name"])]


def ask_delete(visit: Visit, table: sa.Table, path: str, effects: list[str]) -> Response:
    """Ask before a part is deleted; ``path`` is that of all parts of its kind."""
    row, network = found(visit, table, f"{table.name}:delete")
    return confirm.ask(
        visit,
        title=f"Delete {row['name']}?",
        effects=effects,
        action=f"{path}/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=(f"/networks/{network['id']}", network["name"]),
    )


def delete(visit: Visit, table: sa.Table, act: Callable[[Context, Actor, str], object]) -> Response:
    """Delete a part and go back to its network."""
    row, network = found(visit, table)
    act(visit.context, visit.actor, row["id"])
    return visit.go(f"/networks/{network['id']}", f"'{row['name']}' is deleted.")
