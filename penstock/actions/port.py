"""Ports: where guests are plugged into a network, with addresses that stay."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import ConflictError
from penstock.domain.network import check_address
from penstock.domain.port import mac_of
from penstock.domain.quota import Measure
from penstock.domain.subnet import check_guest_address
from penstock.store import load_balancer as balancer_store
from penstock.store import network_host as host_store
from penstock.store import owned
from penstock.store import port as port_store
from penstock.store import security_group as group_store
from penstock.store.rows import Row
from penstock.store.schema import (
    floating_address,
    load_balancer,
    network_route,
    port,
    security_group,
    service,
    subnet,
)

_MACS_TRIED = 4


def create(
    context: Context,
    actor: Actor,
    *,
    subnet_id: str,
    name: str,
    description: str,
    address: str | None,
    security_group_ids: list[str],
    egress_kbit_per_second: int | None,
    service_id: str | None = None,
) -> Row:
    """Make a port with the address asked for, or the lowest free one of its subnet.

    InvalidInputError if the address cannot be a guest's, ConflictError if it is taken or the subnet is full.
    """
    port_id = context.new_id("port")
    with change(context, actor, "port.create", port_id) as made:
        within = network_part.visible(made.connection, actor, subnet, subnet_id)
        network = network_actions.held(made, actor, within["network_id"], "port:create")
        _require_service(made, network, service_id)
        shown = make(
            context,
            made,
            network,
            within,
            name=name,
            groups=[
                network_part.within(made.connection, network, security_group, group_id)
                for group_id in dict.fromkeys(security_group_ids)
            ],
            address=address,
            port_id=port_id,
            of_machine={
                "description": description,
                "service_id": service_id,
                "egress_kbit_per_second": egress_kbit_per_second,
            },
        )
    context.wakeups.signal("network")
    return shown


def make(
    context: Context,
    made: Change,
    network: Row,
    within: Row,
    *,
    name: str,
    groups: Sequence[Row],
    of_machine: Mapping[str, Any],
    address: str | None = None,
    port_id: str | None = None,
) -> Row:
    """Make a port in a change that is under way and has locked its network; ``of_machine``: further columns."""
    network_part.require_room(made.connection, port, network, limits.PORTS_PER_NETWORK_MAX)
    network_actions.take_quota(context, made, network["tenant_id"], network["project_id"], Measure.PORTS)
    port_id = port_id or context.new_id("port")
    row: Row = {
        **network_part.base_row(context, network, port_id, name, ""),
        "subnet_id": within["id"],
        "vni": network["vni"],
        "mac": "",
        "address": _address(made, within, address),
        "node_id": None,
        **of_machine,
    }
    _insert(made, row)
    for group in groups:
        group_store.bind(made.connection, _binding(context, group, port_id))
    network_actions.touch(context, made, network["id"])
    ids = [group["id"] for group in groups]
    network_actions.record(made, "port.created", row, name=name, address=row["address"], groups=ids)
    return owned.get(made.connection, port, port_id) or row


def _binding(context: Context, group: Row, port_id: str) -> dict[str, Any]:
    return {
        "group_id": group["id"],
        "target_id": port_id,
        "scope": "port",
        "tenant_id": group["tenant_id"],
        "network_id": group["network_id"],
        "created_at": context.clock.now(),
    }


def _require_service(made: Change, network: Row, service_id: str | None) -> None:
    if service_id is None:
        return
    row = owned.get(made.connection, service, service_id)
    if row is None or row["project_id"] != network["project_id"]:
        raise not_found("service", service_id)


def _address(made: Change, within: Row, asked: str | None) -> str:
    """Return the address of a new port; the network is locked, so nobody else gets it meanwhile."""
    if asked is None:
        found = port_store.free_address(made.connection, within)
        if found is None:
            raise ConflictError(
                f"every address of {within['prefix']} is taken; delete a port or make another subnet",
                field="subnet_id",
            )
        return found
    address = check_address(asked, "address")
    check_guest_address(address, IPv4Network(within["prefix"]))
    if port_store.taken(made.connection, within["vni"], str(address)):
        raise ConflictError(f"{address} is another port's; choose another or leave it out", field="address")
    return str(address)


def _insert(made: Change, row: Row) -> None:
    for attempt in range(_MACS_TRIED):
        row["mac"] = mac_of(row["id"], attempt)
        if owned.insert(made.connection, port, row):
            return
        if owned.find(made.connection, port, network_id=row["network_id"], name=row["name"]):
            raise network_part.name_taken(port, row["name"])
    raise ConflictError("no hardware address is free for this port; try again")


def update(context: Context, actor: Actor, port_id: str, *, egress_kbit_per_second: int | None) -> Row:
    """Change how much a port may send."""
    with change(context, actor, "port.update", port_id) as made:
        row = network_part.visible(made.connection, actor, port, port_id)
        network_actions.held(made, actor, row["network_id"], "port:update")
        values = {"egress_kbit_per_second": egress_kbit_per_second}
        owned.change(made.connection, port, port_id, values)
        network_actions.touch(context, made, row["network_id"])
        network_actions.record(made, "port.updated", row, **values)
    context.wakeups.signal("network")
    return {**row, **values}


def delete(context: Context, actor: Actor, port_id: str) -> None:
    """Delete a port; ConflictError while a guest is plugged in, or an address or a route leads to it."""
    with change(context, actor, "port.delete", port_id) as made:
        row = network_part.visible(made.connection, actor, port, port_id)
        network_actions.held(made, actor, row["network_id"], "port:delete")
        if row["service_id"] is not None:
            raise ConflictError(
                f"the port belongs to the service {row['service_id']}; release that first",
                data={"service_id": row["service_id"]},
            )
        if owned.count(made.connection, load_balancer, port_id=port_id):
            raise ConflictError("the port belongs to a load balancer; delete that")
        users = balancer_store.with_member(made.connection, row["network_id"], port_id)
        if users:
            raise ConflictError(
                f"the port is a member of load balancers ({', '.join(users)}); take it away there first"
            )
        for table, what in ((floating_address, "a floating address"), (network_route, "a route")):
            if owned.count(made.connection, table, port_id=port_id):
                raise ConflictError(f"{what} leads to this port; take it away first")
        group_store.unbind_target(made.connection, port_id)
        owned.remove(made.connection, port, port_id)
        network_actions.give_back(made, row, Measure.PORTS)
        network_actions.touch(context, made, row["network_id"])
        network_actions.record(made, "port.deleted", row, name=row["name"], address=row["address"])
    context.wakeups.signal("network")


def place(context: Context, actor: Actor, port_id: str, node_id: str | None) -> Row:
    """Plug a port in on a node, or unplug it (None); for operators, for what no service of ours places.

    InvalidInputError if the node does not carry networks.
    """
    with change(context, actor, "port.place", port_id) as made:
        row = network_part.visible(made.connection, actor, port, port_id)
        actor.require("network_host:write")
        if owned.count(made.connection, load_balancer, port_id=port_id):
            raise ConflictError(
                "the port belongs to a load balancer, which is placed by itself; cordon its host"
            )
        if node_id is None:
            port_store.unbind(made.connection, port_id, at=context.clock.now())
        else:
            host_store.require(made.connection, node_id)
            port_store.bind(made.connection, port_id, node_id, at=context.clock.now())
        network_actions.record(made, "port.placed", row, node=node_id)
        shown = owned.get(made.connection, port, port_id) or row
    context.wakeups.signal("network")
    return shown
