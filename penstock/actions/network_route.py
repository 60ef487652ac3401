"""Routes: prefixes that are reached through a guest of the network, which may send as them."""

from ipaddress import IPv4Network

from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.network_peering import require_apart
from penstock.domain.security_group import check_remote
from penstock.store import network_peering as peering_store
from penstock.store import owned
from penstock.store.rows import Row
from penstock.store.schema import network_route, port, subnet


def create(
    context: Context, actor: Actor, *, network_id: str, name: str, prefix: str, port_id: str, description: str
) -> Row:
    """Send a prefix to a port of the network; ConflictError if it overlaps a subnet or is sent elsewhere."""
    checked = check_remote(prefix, "prefix")
    if checked.prefixlen < 1 or checked.is_multicast or checked.is_loopback or checked.is_link_local:
        raise InvalidInputError("this prefix cannot be behind a guest", field="prefix")
    route_id = context.new_id("network_route")
    with change(context, actor, "network_route.create", route_id, wide=True) as made:
        network_actions.visible(made.connection, actor, network_id)
        network = network_actions.held(made, actor, network_id, "network_route:create")
        network_part.require_room(made.connection, network_route, network, limits.ROUTES_PER_NETWORK_MAX)
        network_part.within(made.connection, network, port, port_id)
        for one in owned.find(made.connection, subnet, network_id=network_id):
            if checked.overlaps(IPv4Network(one["prefix"])):
                raise ConflictError(f"{checked} overlaps the subnet '{one['name']}'", field="prefix")
        require_apart([str(checked)], peering_store.reached_by_peering(made.connection, network_id), "prefix")
        row: Row = {
            **network_part.base_row(context, network, route_id, name, description),
            "prefix": str(checked),
            "port_id": port_id,
        }
        if not owned.insert(made.connection, network_route, row):
            raise ConflictError(
                f"the network has a route '{name}' or one for {checked} already", field="name"
            )
        network_actions.touch(context, made, network_id)
        network_actions.record(made, "network_route.created", row, prefix=str(checked), port=port_id)
    context.wakeups.signal("network")
    return row


def delete(context: Context, actor: Actor, route_id: str) -> None:
    """Remove a route."""
    with change(context, actor, "network_route.delete", route_id) as made:
        row = network_part.visible(made.connection, actor, network_route, route_id)
        network_actions.held(made, actor, row["network_id"], "network_route:delete")
        owned.remove(made.connection, network_route, route_id)
        network_actions.touch(context, made, row["network_id"])
        network_actions.record(made, "network_route.deleted", row, prefix=row["prefix"])
    context.wakeups.signal("network")
