"""Load balancers: one address in a network that hands connections to those members that are well."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions import port as port_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, StaleGenerationError
from penstock.domain.load_balancer import (
    MemberState,
    Seen,
    check_check,
    check_listeners,
    member_key,
    state_of,
)
from penstock.domain.network import check_address
from penstock.domain.quota import Measure
from penstock.store import certificate as certificate_store
from penstock.store import load_balancer as balancer_store
from penstock.store import owned
from penstock.store.rows import Row
from penstock.store.schema import floating_address, load_balancer, network_route, port, security_group, subnet

TOPIC = "load_balancer"


@dataclass(frozen=True, slots=True)
class NewLoadBalancer:
    """A load balancer as it is asked for."""

    subnet_id: str
    name: str
    description: str
    address: str | None
    security_group_ids: list[str]
    algorithm: str
    listeners: list[dict[str, Any]]
    members: list[dict[str, Any]]
    health_check: dict[str, Any]


def create(context: Context, actor: Actor, asked: NewLoadBalancer) -> Row:
    """Make a load balancer with a port of its own; its name is a name of the network's zone.

    InvalidInputError names a bad field, NotFoundError a foreign certificate or port, ConflictError a taken name or address.
    """
    balancer_id = context.new_id("load_balancer")
    with change(context, actor, "load_balancer.create", balancer_id) as made:
        within = network_part.visible(made.connection, actor, subnet, asked.subnet_id)
        network = network_actions.held(made, actor, within["network_id"], "load_balancer:create")
        network_part.require_room(
            made.connection, load_balancer, network, limits.LOAD_BALANCERS_PER_NETWORK_MAX
        )
        owner = network["tenant_id"], network["project_id"]
        network_actions.take_quota(context, made, *owner, Measure.LOAD_BALANCERS)
        own = port_actions.make(
            context,
            made,
            network,
            within,
            name=asked.name,
            groups=[
                network_part.within(made.connection, network, security_group, group_id)
                for group_id in dict.fromkeys(asked.security_group_ids)
            ],
            address=asked.address,
            of_machine={"description": f"the load balancer {balancer_id}"},
        )
        row: Row = {
            **network_part.base_row(context, network, balancer_id, asked.name, asked.description),
            "port_id": own["id"],
            "algorithm": asked.algorithm,
            "listeners": _listeners(made, network, asked.listeners),
            "members": _members(made, network, own, asked.members),
            "health_check": check_check(asked.health_check),
            "due_at": context.clock.now(),
        }
        if not owned.insert(made.connection, load_balancer, row):
            raise network_part.name_taken(load_balancer, asked.name)
        network_actions.record(
            made, "load_balancer.created", row, name=asked.name, address=own["address"], port=own["id"]
        )
        shown = visible(made.connection, actor, balancer_id)
    _wake(context)
    return shown


def _wake(context: Context) -> None:
    context.wakeups.signal("network")
    context.wakeups.signal(TOPIC)


def _listeners(made: Change, network: Row, asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return listeners as they are stored; certificates are of the network's project and hold."""
    for position, one in enumerate(asked):
        if one["certificate_id"] is None:
            continue
        found = certificate_store.get(made.connection, one["certificate_id"])
        if found is None or found["project_id"] != network["project_id"]:
            raise not_found("certificate", one["certificate_id"])
        if found["revoked_at"] is not None:
            raise InvalidInputError(
                f"the certificate '{found['name']}' was revoked; take another one",
                field=f"listeners.{position}.certificate_id",
            )
    return check_listeners(asked)


def _members(
    made: Change, network: Row, own: Row, asked: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return members as they are stored: by port or by address, each address and port once."""
    prefixes = [
        IPv4Network(one["prefix"]) for one in owned.find(made.connection, subnet, network_id=network["id"])
    ]
    found: list[dict[str, Any]] = []
    taken: set[str] = set()
    for position, one in enumerate(asked):
        field = f"members.{position}"
        given = [name for name in ("port_id", "vm_id", "address") if one[name] is not None]
        if len(given) != 1:
            raise InvalidInputError(
                "a member is a port, a machine or an address: give one of them", field=field
            )
        at = _port_of(made, network, one, field)
        address = (
            check_address(one["address"], f"{field}.address") if at is None else IPv4Address(at["address"])
        )
        if not any(address in prefix for prefix in prefixes):
            raise InvalidInputError(f"{address} is in no subnet of this network", field=f"{field}.address")
        if str(address) == own["address"]:
            raise InvalidInputError("a load balancer is no member of itself", field=f"{field}.{given[0]}")
        key = member_key(str(address), one["port"])
        if key in taken:
            raise InvalidInputError(f"{key} is a member already", field=field)
        taken.add(key)
        found.append(
            {
                "port_id": None if at is None else at["id"],
                "address": str(address),
                "port": one["port"],
                "weight": one["weight"],
            }
        )
    return found


def _port_of(made: Change, network: Row, one: Mapping[str, Any], field: str) -> Row | None:
    """Return the port that a member names by itself or by its machine, None for an address."""
    if one["port_id"] is not None:
        return network_part.within(made.connection, network, port, one["port_id"])
    if one["vm_id"] is None:
        return None
    of_machine = owned.find(made.connection, port, network_id=network["id"], service_id=one["vm_id"])
    if not of_machine:
        raise not_found("vm", one["vm_id"])
    if len(of_machine) > 1:
        raise InvalidInputError(
            "this machine has more than one port in the network; name the port", field=f"{field}.vm_id"
        )
    return of_machine[0]


def visible(connection: Connection, actor: Actor, balancer_id: str, *, lock: bool = False) -> Row:
    """Return a load balancer that the caller may see, with its state; NotFoundError otherwise."""
    row = balancer_store.get(connection, balancer_id, lock=lock)
    if row is None:
        raise not_found("load_balancer", balancer_id)
    actor.require_visible("load_balancer", row["tenant_id"], row["project_id"], balancer_id)
    return _shown(connection, [row])[0]


def _shown(connection: Connection, rows: Iterable[Row]) -> list[Row]:
    """Return rows with their state and that of their members."""
    listed = list(rows)
    port_ids = {one["port_id"] for row in listed for one in row["members"] if one["port_id"] is not None}
    alive = balancer_store.find_members(connection, port_ids) if port_ids else {}
    return [_with_state(row, alive) for row in listed]


def _with_state(row: Row, alive: Mapping[str, str]) -> Row:
    detail: Mapping[str, Any] = row["detail"] or {}
    health: Mapping[str, Sequence[str]] = detail.get("health", {}) if row["phase"] == "ready" else {}
    members = [_member(one, health, alive) for one in row["members"]]
    problem = None
    if row["node_id"] is not None and row["node_state"] != "ready":
        problem = "its host does not answer, and no other one can take it"
    elif row["heard"] and row["phase"] == "failed":
        problem = row["node_message"] or "its host could not carry it; it is tried again"
    seen = Seen(
        wanted=row["wanted"],
        placed=row["node_id"] is not None,
        current=bool(row["heard"]) and row["phase"] == "ready" and row["applied_revision"] == row["revision"],
        problem=problem,
        members=[one["state"] for one in members],
    )
    state, reason = state_of(seen)
    meters: Mapping[str, int] = detail.get("meters", {})
    return {
        **row,
        "members": members,
        "state": state,
        "reason": reason,
        "open_sessions": meters.get("open_sessions", 0) if row["phase"] == "ready" else 0,
        "dns_name": f"{row['name']}.{row['dns_zone']}",
    }


def _member(
    one: Mapping[str, Any], health: Mapping[str, Sequence[str]], alive: Mapping[str, str]
) -> dict[str, Any]:
    if one["port_id"] is not None and one["port_id"] not in alive:
        return {**one, "state": MemberState.GONE, "check": ""}
    state, check = health.get(member_key(one["address"], one["port"]), (MemberState.UNKNOWN, ""))
    return {**one, "state": state, "check": check}


def list_page(
    context: Context,
    actor: Actor,
    *,
    network_id: str | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` load balancers that the caller may see, by id; of one network if it is named."""
    tenant_id = tenant_for_list(actor, "load_balancer:read", None)
    with context.db.transaction(actor.scope) as connection:
        if network_id is not None:
            network_actions.visible(connection, actor, network_id)
        rows = balancer_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            equal={"name": name, "network_id": network_id},
            after=after,
            limit=limit,
        )
        return _shown(connection, rows)


def show(context: Context, actor: Actor, balancer_id: str) -> Row:
    """Return one load balancer; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return visible(connection, actor, balancer_id)


def update(
    context: Context, actor: Actor, balancer_id: str, values: Mapping[str, Any], *, revision: int | None
) -> Row:
    """Change what a load balancer listens on, who is behind it and how they are asked; lists are replaced as a whole.

    ``revision``: only if it is still that, else StaleGenerationError.
    """
    with change(context, actor, "load_balancer.update", balancer_id) as made:
        seen = visible(made.connection, actor, balancer_id)
        network = network_actions.held(made, actor, seen["network_id"], "load_balancer:update")
        row = visible(made.connection, actor, balancer_id, lock=True)
        if row["wanted"] != "present":
            raise ConflictError("this load balancer is being deleted")
        if revision not in (None, row["revision"]):
            raise StaleGenerationError(
                f"it was changed meanwhile; it is at revision {row['revision']}: read it again",
                field="revision",
            )
        new = dict(values)
        if "listeners" in new:
            new["listeners"] = _listeners(made, network, new["listeners"])
        if "members" in new:
            new["members"] = _members(made, network, row, new["members"])
        if "health_check" in new:
            new["health_check"] = check_check(new["health_check"])
        if new:
            balancer_store.change(made.connection, balancer_id, context.clock.now(), new)
            network_actions.record(made, "load_balancer.updated", row, name=row["name"], fields=sorted(new))
        shown = visible(made.connection, actor, balancer_id)
    _wake(context)
    return shown


def delete(context: Context, actor: Actor, balancer_id: str) -> Row:
    """Delete a load balancer; its port and address go with it once its host has taken it down. Repeatable.

    ConflictError while a floating address or a route leads to it.
    """
    with change(context, actor, "load_balancer.delete", balancer_id) as made:
        seen = visible(made.connection, actor, balancer_id)
        network_actions.held(made, actor, seen["network_id"], "load_balancer:delete")
        row = visible(made.connection, actor, balancer_id, lock=True)
        if row["wanted"] == "present":
            for table, what in ((floating_address, "a floating address"), (network_route, "a route")):
                if owned.count(made.connection, table, port_id=row["port_id"]):
                    raise ConflictError(f"{what} leads to this load balancer; take it away first")
            balancer_store.change(made.connection, balancer_id, context.clock.now(), {"wanted": "deleted"})
            network_actions.give_back(made, row, Measure.LOAD_BALANCERS)
            network_actions.record(made, "load_balancer.delete_asked", row, name=row["name"])
        shown = visible(made.connection, actor, balancer_id)
    _wake(context)
    return shown


def series(context: Context) -> list[Row]:
    """Return the counters of every load balancer, for whoever watches the factory from its own loopback."""
    with context.db.reading() as connection:
        return balancer_store.series(connection, limits.BALANCER_SERIES_MAX)
