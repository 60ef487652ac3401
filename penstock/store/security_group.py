"""Security groups: their rules, and what each is bound to."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.store import owned
from penstock.store.rows import Row, every
from penstock.store.schema import security_binding, security_group, security_rule


def rules_of(connection: Connection, group_ids: Sequence[str]) -> dict[str, list[Row]]:
    """Return the rules of groups by group, oldest first."""
    query = sa.select(*owned.shown(security_rule)).where(security_rule.c.group_id.in_(list(group_ids)))
    found: dict[str, list[Row]] = {group_id: [] for group_id in group_ids}
    for row in every(connection.execute(query.order_by(security_rule.c.id))):
        found[row["group_id"]].append(row)
    return found


def bindings_of(connection: Connection, group_ids: Sequence[str]) -> dict[str, list[Row]]:
    """Return what groups are bound to, by group."""
    query = sa.select(security_binding).where(security_binding.c.group_id.in_(list(group_ids)))
    found: dict[str, list[Row]] = {group_id: [] for group_id in group_ids}
    for row in every(connection.execute(query.order_by(security_binding.c.target_id))):
        found[row["group_id"]].append(row)
    return found


def bind(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Bind a group to a target; False if it was bound before."""
    statement = upsert(security_binding).values(**row).on_conflict_do_nothing()
    return connection.execute(statement.returning(security_binding.c.group_id)).first() is not None


def unbind(connection: Connection, group_id: str, target_id: str) -> bool:
    """Undo a binding; False if there was none."""
    statement = sa.delete(security_binding).where(
        security_binding.c.group_id == group_id, security_binding.c.target_id == target_id
    )
    return connection.execute(statement).rowcount == 1


def unbind_target(connection: Connection, target_id: str) -> None:
    """Undo every binding of a target that goes."""
    connection.execute(sa.delete(security_binding).where(security_binding.c.target_id == target_id))


def named_by_others(connection: Connection, group_id: str) -> int:
    """Return how many rules of other groups name this one."""
    query = sa.select(sa.func.count()).where(
        security_rule.c.remote_group_id == group_id, security_rule.c.group_id != group_id
    )
    return connection.execute(query).scalar_one()


def remove(connection: Connection, group_id: str) -> None:
    """Remove a group with its rules and bindings."""
    connection.execute(sa.delete(security_binding).where(security_binding.c.group_id == group_id))
    connection.execute(sa.delete(security_rule).where(security_rule.c.group_id == group_id))
    owned.remove(connection, security_group, group_id)
