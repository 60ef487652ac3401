"""Hosts that carry networks, as the operator sets them up."""

from collections.abc import Sequence

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.network import check_address
from penstock.domain.security_group import check_remote
from penstock.store import host_network as plan_store
from penstock.store import network_host as host_store
from penstock.store import node as node_store
from penstock.store import service as service_store
from penstock.store.rows import Row

DRIVERS = ("nftables", "simulated_network")


def put(
    context: Context,
    actor: Actor,
    node_id: str,
    *,
    underlay_address: str,
    external_bridge: str | None,
    driver: str | None,
) -> Row:
    """Make a node carry networks, or change how. Repeatable.

    ``underlay_address`` is where the other hosts reach it for VXLAN; ``external_bridge`` the bridge on it that leads
    outside (None: none). ``driver`` None: the one that the node has.
    """
    address = str(check_address(underlay_address, "underlay_address"))
    with change(context, actor, "network_host.put", node_id) as made:
        actor.require_visible("node", None, None, node_id)
        actor.require("network_host:write")
        node = node_store.get(made.connection, node_id)
        if node is None:
            raise not_found("node", node_id)
        chosen = driver or next((name for name in DRIVERS if name in node["drivers"]), None)
        if chosen not in DRIVERS or chosen not in node["drivers"]:
            drivers = ", ".join(node["drivers"]) or "none"
            raise InvalidInputError(
                " ".join(
                    [f"the node's agent has no driver for networks; it has: {drivers}.", *node["notes"]]
                ),
                field="driver",
            )
        if not host_store.put(
            made.connection,
            node_id=node_id,
            underlay_address=address,
            external_bridge=external_bridge,
            driver=chosen,
            at=context.clock.now(),
        ):
            raise ConflictError(f"another node has {address}", field="underlay_address")
        plan_store.touch_all(made.connection, context.clock.now())
        # Machines with ports wait for such a node.
        service_store.wake_queued(made.connection, context.clock.now(), limits.ENGINE_BATCH)
        detail = {"underlay_address": address, "external_bridge": external_bridge, "driver": chosen}
        made.done("network_host.put", node_id, tenant_id=None, detail=detail)
        shown = host_store.get(made.connection, node_id) or {}
    context.wakeups.signal("network")
    context.wakeups.signal("service")
    return {**shown, "name": node["name"], "state": node["state"]}


def every_host(context: Context, actor: Actor) -> list[Row]:
    """Return all hosts that carry networks."""
    actor.require("network_host:read")
    with context.db.transaction(actor.scope) as connection:
        return host_store.every_host(connection)


def remove(context: Context, actor: Actor, node_id: str) -> None:
    """Make a node carry networks no longer; ConflictError while ports are plugged in there. Repeatable."""
    with change(context, actor, "network_host.remove", node_id) as made:
        actor.require_visible("node", None, None, node_id)
        actor.require("network_host:write")
        if node_store.get(made.connection, node_id) is None:
            raise not_found("node", node_id)
        used = host_store.in_use(made.connection, node_id)
        if used:
            raise ConflictError(
                f"{used} ports are plugged in on this node; move them first", data={"ports": used}
            )
        plan_store.touch_all(made.connection, context.clock.now())
        host_store.remove(made.connection, node_id)
        made.done("network_host.removed", node_id, tenant_id=None)
    context.wakeups.signal("network")


def set_forbidden(context: Context, actor: Actor, prefixes: Sequence[str]) -> list[str]:
    """Say which prefixes no guest may reach, whatever rules say: the operator's own networks. All networks hear it."""
    checked = sorted({str(check_remote(text, "prefixes")) for text in prefixes})
    with change(context, actor, "network_host.forbid") as made:
        actor.require("network_host:write")
        before = plan_store.forbidden(made.connection)
        plan_store.set_forbidden(made.connection, checked)
        plan_store.touch_all(made.connection, context.clock.now())
        made.done("network_host.forbidden", "", tenant_id=None, detail={"before": before, "after": checked})
    context.wakeups.signal("network")
    return checked


def forbidden(context: Context, actor: Actor) -> list[str]:
    """Return which prefixes no guest may reach; the hosts' own addresses always are among what is refused."""
    actor.require("network_host:read")
    with context.db.transaction(actor.scope) as connection:
        return plan_store.forbidden(connection)
