"""Floating addresses: outside addresses of a project that lead to one port, and to another one later."""

from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions import project as project_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import ConflictError
from penstock.domain.quota import Measure
from penstock.store import address_pool as pool_store
from penstock.store import owned
from penstock.store import project as project_store
from penstock.store.rows import Row
from penstock.store.schema import address_pool, floating_address, network, port


def create(
    context: Context, actor: Actor, *, project_id: str, pool_id: str, name: str, description: str
) -> Row:
    """Take the lowest free address of a pool for a project; ConflictError if there is none or the name is taken."""
    address_id = context.new_id("floating_address")
    with change(context, actor, "floating_address.create", address_id) as made:
        project = project_actions.visible(made.connection, actor, project_id)
        actor.require("floating_address:create", project["tenant_id"], project_id)
        if project_store.hold(made.connection, project_id) is None:
            raise not_found("project", project_id)
        most = limits.FLOATING_ADDRESSES_PER_PROJECT_MAX
        if owned.count(made.connection, floating_address, project_id=project_id) >= most:
            raise ConflictError(f"a project has at most {most} floating addresses; give one back first")
        row = take(context, made, project, pool_id, address_id, name, description, egress=False)
        network_actions.record(made, "floating_address.created", row, name=name, address=row["address"])
    return row


def take(
    context: Context,
    made: Change,
    project: Row,
    pool_id: str,
    address_id: str,
    name: str,
    description: str,
    *,
    egress: bool,
) -> Row:
    """Take an address of a pool in a change that is under way."""
    if owned.get(made.connection, address_pool, pool_id) is None:
        raise not_found("address_pool", pool_id)
    network_actions.take_quota(context, made, project["tenant_id"], project["id"], Measure.FLOATING_ADDRESSES)
    address = pool_store.free_address(made.connection, pool_id)
    if address is None:
        raise ConflictError("every address of this pool is taken; choose another pool", field="pool_id")
    row: Row = {
        "id": address_id,
        "tenant_id": project["tenant_id"],
        "project_id": project["id"],
        "name": name,
        "description": description,
        "created_at": context.clock.now(),
        "pool_id": pool_id,
        "address": address,
        "port_id": None,
        "network_id": None,
        "egress": egress,
    }
    if not owned.insert(made.connection, floating_address, row):
        raise ConflictError(
            f"the project has a floating address '{name}' already; choose another name", field="name"
        )
    return row


def point(context: Context, actor: Actor, address_id: str, port_id: str | None) -> Row:
    """Let an address lead to a port of the same project, or to nothing (None); it moves within seconds.

    ConflictError if the port has another floating address, or its network goes out by another pool.
    """
    with change(context, actor, "floating_address.point", address_id) as made:
        row = _own(made, actor, address_id, "floating_address:update")
        target: Row | None = None
        if port_id is not None:
            target = network_part.visible(made.connection, actor, port, port_id)
            if target["project_id"] != row["project_id"]:
                raise not_found("port", port_id)
        before, after = row["network_id"], None if target is None else target["network_id"]
        for network_id in sorted({one for one in (before, after) if one is not None}):
            network_actions.held(made, actor, network_id, "floating_address:update")
        if target is not None:
            _require_fit(made, row, target)
        values = {"port_id": port_id, "network_id": after}
        owned.change(made.connection, floating_address, address_id, values)
        for network_id in {one for one in (before, after) if one is not None}:
            network_actions.touch(context, made, network_id)
        network_actions.record(made, "floating_address.pointed", row, before=row["port_id"], after=port_id)
    context.wakeups.signal("network")
    return {**row, **values}


def _own(made: Change, actor: Actor, address_id: str, permission: str) -> Row:
    row = network_part.visible(made.connection, actor, floating_address, address_id)
    actor.require(permission, row["tenant_id"], row["project_id"])
    if row["egress"]:
        raise ConflictError("this address is a network's way out; change that at the network")
    return row


def _require_fit(made: Change, row: Row, target: Row) -> None:
    others = owned.find(made.connection, floating_address, network_id=target["network_id"])
    for other in others:
        if other["id"] == row["id"]:
            continue
        if other["port_id"] == target["id"]:
            raise ConflictError(
                f"{other['address']} leads to this port already; take it away first", field="port_id"
            )
        if other["pool_id"] != row["pool_id"]:
            raise ConflictError(
                "addresses of one network are of one pool; take one of the pool that this network uses",
                field="port_id",
            )


def delete(context: Context, actor: Actor, address_id: str) -> None:
    """Give an address back; ConflictError while it leads somewhere."""
    with change(context, actor, "floating_address.delete", address_id) as made:
        row = _own(made, actor, address_id, "floating_address:delete")
        if row["port_id"] is not None:
            raise ConflictError("the address leads to a port; point it to nothing first")
        owned.remove(made.connection, floating_address, address_id)
        network_actions.give_back(made, row, Measure.FLOATING_ADDRESSES)
        network_actions.record(made, "floating_address.deleted", row, address=row["address"])


def set_way_out(context: Context, actor: Actor, network_id: str, pool_id: str | None) -> Row:
    """Let a network reach the outside, all of it by one address of a pool that stays; None: not any more. Repeatable."""
    with change(context, actor, "network.set_way_out", network_id) as made:
        row = network_actions.held(made, actor, network_id, "network:update")
        if pool_id != row["egress_pool_id"]:
            network_actions.close_way(made, network_id)
            address = None if pool_id is None else _open_way(context, made, row, pool_id)
            owned.change(
                made.connection, network, network_id, {"egress_pool_id": pool_id, "egress_address": address}
            )
            network_actions.touch(context, made, network_id)
            network_actions.record(made, "network.way_out_set", row, pool=pool_id, address=address)
        shown = owned.get(made.connection, network, network_id) or row
    context.wakeups.signal("network")
    return shown


def _open_way(context: Context, made: Change, row: Row, pool_id: str) -> str:
    if owned.get(made.connection, address_pool, pool_id) is None:
        raise not_found("address_pool", pool_id)
    others = owned.find(made.connection, floating_address, network_id=row["id"])
    if any(other["pool_id"] != pool_id for other in others):
        raise ConflictError(
            "addresses of one network are of one pool, and another one's lead into it already",
            field="pool_id",
        )
    address_id = context.new_id("floating_address")
    project = {"id": row["project_id"], "tenant_id": row["tenant_id"]}
    name = f"egress-{row['id'][-12:]}"
    taken = take(context, made, project, pool_id, address_id, name, f"way out of {row['name']}", egress=True)
    owned.change(made.connection, floating_address, address_id, {"network_id": row["id"]})
    return str(taken["address"])
