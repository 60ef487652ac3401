"""Networks: a project's own addresses, names and rules on shared hosts."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import project as project_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, QuotaExceededError
from penstock.domain.network import check_address, check_zone
from penstock.domain.quota import Measure
from penstock.store import network as network_store
from penstock.store import owned
from penstock.store import project as project_store
from penstock.store import quota as quota_store
from penstock.store.rows import Row
from penstock.store.schema import floating_address, network


def create(
    context: Context,
    actor: Actor,
    *,
    project_id: str,
    name: str,
    description: str,
    mtu: int,
    dns_zone: str | None,
    dns_forwarders: list[str],
) -> Row:
    """Make an empty network; InvalidInputError names a bad field, ConflictError says that the name is taken."""
    network_id = context.new_id("network")
    with change(context, actor, "network.create", network_id) as made:
        project = project_actions.visible(made.connection, actor, project_id)
        actor.require("network:create", project["tenant_id"], project_id)
        if project_store.hold(made.connection, project_id) is None:
            raise not_found("project", project_id)
        if owned.count(made.connection, network, project_id=project_id) >= limits.NETWORKS_PER_PROJECT_MAX:
            raise ConflictError(
                f"a project has at most {limits.NETWORKS_PER_PROJECT_MAX} networks; delete one first"
            )
        take_quota(context, made, project["tenant_id"], project_id, Measure.NETWORKS)
        row: Row = {
            "id": network_id,
            "tenant_id": project["tenant_id"],
            "project_id": project_id,
            "name": name,
            "description": description,
            "mtu": mtu,
            "dns_zone": check_zone(dns_zone or f"{name}.internal", "dns_zone"),
            "dns_forwarders": [str(check_address(text, "dns_forwarders")) for text in dns_forwarders],
            "created_at": context.clock.now(),
        }
        if network_store.insert(made.connection, row) is None:
            raise ConflictError(
                f"the project has a network '{name}' already; choose another name", field="name"
            )
        record(made, "network.created", row, name=name)
        return network_store.get(made.connection, network_id) or row


def take_quota(context: Context, made: Change, tenant_id: str, project_id: str, measure: Measure) -> None:
    """Count one more against a quota; raises QuotaExceededError saying which."""
    take_quotas(context, made, tenant_id, project_id, {measure.value: 1})


def take_quotas(
    context: Context, made: Change, tenant_id: str, project_id: str, amounts: Mapping[str, int]
) -> None:
    """Count amounts by dimension against quotas; raises QuotaExceededError saying which has too little left."""
    breach = quota_store.check_and_take(made.connection, tenant_id, project_id, amounts, context.clock.now())
    if breach is not None:
        raise QuotaExceededError(
            breach.sentence,
            data={
                "dimension": breach.line.dimension,
                "limit": breach.line.limit,
                "used": breach.line.used,
                "asked": breach.asked,
            },
        )


def give_back(made: Change, row: Row, measure: Measure) -> None:
    """Count one less against a quota."""
    quota_store.give_back_many(made.connection, [(row["tenant_id"], row["project_id"], {measure.value: 1})])


def record(made: Change, kind: str, row: Row, **detail: object) -> None:
    """Write the audit row and the event about something of a project."""
    made.done(kind, row["id"], tenant_id=row["tenant_id"], project_id=row["project_id"], detail=detail)


def list_page(
    context: Context,
    actor: Actor,
    *,
    project_id: str | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` networks that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "network:read", None)
    confined = actor.project_ids
    with context.db.transaction(actor.scope) as connection:
        if project_id is not None:
            project_actions.visible(connection, actor, project_id)
            confined = frozenset({project_id})
        equal = {"name": name}
        return owned.page(
            connection,
            network,
            tenant_id=tenant_id,
            project_ids=confined,
            after=after,
            limit=limit,
            equal=equal,
        )


def show(context: Context, actor: Actor, network_id: str) -> Row:
    """Return one network; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return visible(connection, actor, network_id)


def hosts(context: Context, actor: Actor, network_id: str) -> list[Row]:
    """Return how far a network is on each node that carries it; for operators, who see nodes."""
    with context.db.transaction(actor.scope) as connection:
        visible(connection, actor, network_id)
        actor.require("network_host:read")
        return network_store.hosts_of(connection, network_id)


def visible(connection: Connection, actor: Actor, network_id: str) -> Row:
    """Return a network that the caller may see; NotFoundError otherwise."""
    row = network_store.get(connection, network_id)
    if row is None:
        raise not_found("network", network_id)
    actor.require_visible("network", row["tenant_id"], row["project_id"], network_id)
    return row


def held(made: Change, actor: Actor, network_id: str, permission: str) -> Row:
    """Return a network for a change of it or its parts, locked; ConflictError if it is being deleted."""
    row = visible(made.connection, actor, network_id)
    actor.require(permission, row["tenant_id"], row["project_id"])
    row = network_store.lock(made.connection, network_id) or row
    if row["wanted"] != "active":
        raise ConflictError("this network is being deleted")
    return row


def touch(context: Context, made: Change, network_id: str) -> None:
    """Make the engine look at a network once this transaction is over; ``signal`` after it."""
    network_store.touch(made.connection, network_id, context.clock.now())


def update(context: Context, actor: Actor, network_id: str, values: Mapping[str, Any]) -> Row:
    """Change description, name servers or flow log of a network."""
    with change(context, actor, "network.update", network_id) as made:
        row = held(made, actor, network_id, "network:update")
        new = dict(values)
        if "dns_forwarders" in new:
            new["dns_forwarders"] = [str(check_address(t, "dns_forwarders")) for t in new["dns_forwarders"]]
        if new:
            owned.change(made.connection, network, network_id, new)
            touch(context, made, network_id)
            record(made, "network.updated", row, fields=sorted(new))
        shown = network_store.get(made.connection, network_id) or row
    context.wakeups.signal("network")
    return shown


def delete(context: Context, actor: Actor, network_id: str) -> Row:
    """Delete a network with its subnets, groups, records, routes and peerings. Repeatable.

    ConflictError while it has ports or addresses of a pool. The row goes once no host carries it any more.
    """
    with change(context, actor, "network.delete", network_id) as made:
        row = visible(made.connection, actor, network_id)
        actor.require("network:delete", row["tenant_id"], row["project_id"])
        row = network_store.lock(made.connection, network_id) or row
        if row["wanted"] == "active":
            used = network_store.uses(made.connection, network_id)
            if used:
                what = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in used.items())
                raise ConflictError(f"the network still has {what}; remove them first", data=dict(used))
            close_way(made, network_id)
            network_store.want_deleted(made.connection, network_id)
            touch(context, made, network_id)
            give_back(made, row, Measure.NETWORKS)
            record(made, "network.delete_asked", row, name=row["name"])
        shown = network_store.get(made.connection, network_id) or row
    context.wakeups.signal("network")
    return shown


def close_way(made: Change, network_id: str) -> None:
    """Give back the address by which a network goes out, if it has one."""
    for one in owned.find(made.connection, floating_address, network_id=network_id, egress=True):
        owned.remove(made.connection, floating_address, one["id"])
        give_back(made, one, Measure.FLOATING_ADDRESSES)
