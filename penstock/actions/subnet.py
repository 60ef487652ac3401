"""Subnets: prefixes of a network, each with a router, DHCP and an ACL."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions import network_peering as peering_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.subnet import check_acl, check_dhcp_options, check_prefix, gateway_of
from penstock.store import owned
from penstock.store import security_group as group_store
from penstock.store.rows import Row
from penstock.store.schema import port, subnet


def create(
    context: Context,
    actor: Actor,
    *,
    network_id: str,
    name: str,
    description: str,
    prefix: str,
    dhcp_options: Mapping[str, Any],
    acl: Sequence[Mapping[str, Any]],
) -> Row:
    """Make a subnet; its first address is the router's.

    ConflictError if the name is taken or the prefix overlaps another one of the same network or of its peers; other
    networks, also of other tenants, may have the same prefix.
    """
    subnet_id = context.new_id("subnet")
    checked = check_prefix(prefix)
    with change(context, actor, "subnet.create", subnet_id, wide=True) as made:
        network_actions.visible(made.connection, actor, network_id)
        peering_actions.require_room(made, network_id, str(checked))
        network = network_actions.held(made, actor, network_id, "subnet:create")
        network_part.require_room(made.connection, subnet, network, limits.SUBNETS_PER_NETWORK_MAX)
        row: Row = {
            **network_part.base_row(context, network, subnet_id, name, description),
            "vni": network["vni"],
            "prefix": str(checked),
            "gateway": str(gateway_of(checked)),
            "dhcp_options": check_dhcp_options(dhcp_options),
            "acl": check_acl(acl),
        }
        if not owned.insert(made.connection, subnet, row):
            raise _why_not(owned.find(made.connection, subnet, network_id=network_id), name, checked)
        network_actions.touch(context, made, network_id)
        network_actions.record(made, "subnet.created", row, name=name, prefix=row["prefix"])
    context.wakeups.signal("network")
    return row


def _why_not(others: list[Row], name: str, prefix: IPv4Network) -> ConflictError:
    for other in others:
        if prefix.overlaps(IPv4Network(other["prefix"])):
            return ConflictError(
                f"{prefix} overlaps {other['prefix']} of the subnet '{other['name']}' in the same network; choose "
                "another prefix, or another network",
                field="prefix",
            )
    return network_part.name_taken(subnet, name)


def update(context: Context, actor: Actor, subnet_id: str, values: Mapping[str, Any]) -> Row:
    """Change description, ACL or DHCP options of a subnet; the prefix is for life."""
    with change(context, actor, "subnet.update", subnet_id) as made:
        row = network_part.visible(made.connection, actor, subnet, subnet_id)
        network_actions.held(made, actor, row["network_id"], "subnet:update")
        new = dict(values)
        if "acl" in new:
            new["acl"] = check_acl(new["acl"])
        if "dhcp_options" in new:
            new["dhcp_options"] = check_dhcp_options(new["dhcp_options"])
        if not new:
            raise InvalidInputError("say what to change", field="acl")
        owned.change(made.connection, subnet, subnet_id, new)
        network_actions.touch(context, made, row["network_id"])
        network_actions.record(made, "subnet.updated", row, before={k: row[k] for k in new}, after=new)
    context.wakeups.signal("network")
    return {**row, **new}


def delete(context: Context, actor: Actor, subnet_id: str) -> None:
    """Delete a subnet; ConflictError while ports have addresses of it."""
    with change(context, actor, "subnet.delete", subnet_id) as made:
        row = network_part.visible(made.connection, actor, subnet, subnet_id)
        network_actions.held(made, actor, row["network_id"], "subnet:delete")
        ports = owned.count(made.connection, port, subnet_id=subnet_id)
        if ports:
            raise ConflictError(
                f"the subnet still has {ports} ports; delete them first", data={"ports": ports}
            )
        group_store.unbind_target(made.connection, subnet_id)
        owned.remove(made.connection, subnet, subnet_id)
        network_actions.touch(context, made, row["network_id"])
        network_actions.record(made, "subnet.deleted", row, name=row["name"], prefix=row["prefix"])
    context.wakeups.signal("network")
