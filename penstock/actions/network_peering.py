"""Peerings: asked for by the project of one network, accepted or refused by that of the other, ended by either.

They concern two tenants, so their transactions see both, and each check of whose a network is stands here.
"""

from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, ForbiddenError, InvalidInputError
from penstock.domain.network_peering import PeeringState, require_apart, shown
from penstock.store import network as network_store
from penstock.store import network_peering as peering_store
from penstock.store import owned
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from penstock.store.schema import network_peering

NOUN = "network_peering"


def request(
    context: Context, actor: Actor, *, network_id: str, peer_network_id: str, name: str, description: str
) -> Row:
    """Ask the project of another network for a peering. That one must know the id: nobody can look for it.

    ConflictError if there is one already, or the caller may see both and their prefixes overlap; what somebody else's
    prefixes are is said to nobody before that one has accepted.
    """
    if network_id == peer_network_id:
        raise InvalidInputError("name another network; this one reaches itself", field="peer_network_id")
    peering_id = context.new_id(NOUN)
    with change(context, actor, "network_peering.create", peering_id, wide=True) as made:
        network_actions.visible(made.connection, actor, network_id)
        peering_store.lock(made.connection, (network_id, peer_network_id))
        mine = network_actions.held(made, actor, network_id, f"{NOUN}:create")
        theirs = network_store.get(made.connection, peer_network_id)
        if theirs is None or theirs["wanted"] != "active":
            raise not_found("network", peer_network_id)
        if peering_store.between(made.connection, network_id, peer_network_id) is not None:
            raise ConflictError("these networks have a peering already; list them", field="peer_network_id")
        for one in (network_id, peer_network_id):
            if peering_store.count(made.connection, one) >= limits.PEERINGS_PER_NETWORK_MAX:
                raise ConflictError(
                    f"a network has at most {limits.PEERINGS_PER_NETWORK_MAX} peerings; delete one first"
                )
        if actor.tenant_id in (None, theirs["tenant_id"]):
            _require_apart(made.connection, network_id, peer_network_id)
        row: Row = {
            "id": peering_id,
            "tenant_id": mine["tenant_id"],
            "project_id": mine["project_id"],
            "network_id": network_id,
            "name": name,
            "description": description,
            "created_at": context.clock.now(),
            "peer_network_id": peer_network_id,
            "peer_tenant_id": theirs["tenant_id"],
            "peer_project_id": theirs["project_id"],
            "state": PeeringState.REQUESTED.value,
            "accepted_at": None,
        }
        if not owned.insert(made.connection, network_peering, row):
            raise ConflictError(f"the network has a peering '{name}' already; choose another", field="name")
        _record(made, "network_peering.requested", row)
        return _shown(made.connection, actor, [row])[0]


def _require_apart(connection: Connection, one: str, other: str) -> None:
    """Raise ConflictError if some prefix would mean two things in one of the two networks."""
    pairs = ((one, other), (other, one))
    for network_id, peer_id in pairs:
        new = peering_store.prefixes_of(connection, [peer_id]).get(peer_id, [])
        require_apart(peering_store.reached_from(connection, network_id), new, "peer_network_id")


def _record(made: Change, kind: str, row: Row) -> None:
    """Write the audit row and the event for each of the two tenants and projects."""
    sides = {(row["tenant_id"], row["project_id"]), (row["peer_tenant_id"], row["peer_project_id"])}
    detail = {name: row[name] for name in ("name", "network_id", "peer_network_id")}
    for tenant_id, project_id in sorted(sides):
        made.done(kind, row["id"], tenant_id=tenant_id, project_id=project_id, detail=detail)


def _shown(connection: Connection, actor: Actor, rows: list[Row]) -> list[Row]:
    ids = {row[name] for row in rows for name in ("network_id", "peer_network_id")}
    prefixes = peering_store.prefixes_of(connection, ids)
    return [shown(row, prefixes, actor.tenant_id) for row in rows]


def list_page(
    context: Context,
    actor: Actor,
    *,
    network_id: str | None,
    name: str | None,
    state: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` peerings with a network of the caller's on either side, by id."""
    tenant_id = tenant_for_list(actor, f"{NOUN}:read", None)
    with context.db.transaction(SYSTEM) as connection:
        if network_id is not None:
            network_actions.visible(connection, actor, network_id)
        rows = peering_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            equal={"name": name, "state": state},
            network_id=network_id,
            after=after,
            limit=limit,
        )
        return _shown(connection, actor, list(rows))


def show(context: Context, actor: Actor, peering_id: str) -> Row:
    """Return one peering; NotFoundError unless a network of the caller's is a side of it."""
    with context.db.transaction(SYSTEM) as connection:
        return _shown(connection, actor, [_visible(connection, actor, peering_id)])[0]


def _visible(connection: Connection, actor: Actor, peering_id: str) -> Row:
    row = owned.get(connection, network_peering, peering_id)
    if row is None or row["state"] == PeeringState.ENDED or not any(_sides(actor, row, "read")):
        raise not_found(NOUN, peering_id)
    return row


def _sides(actor: Actor, row: Row, verb: str) -> tuple[bool, bool]:
    """Tell whether the caller may do something as the side that asked, and as the one that was asked."""
    mine, theirs = (row["tenant_id"], row["project_id"]), (row["peer_tenant_id"], row["peer_project_id"])
    return _may(actor, verb, *mine), _may(actor, verb, *theirs)


def _may(actor: Actor, verb: str, tenant_id: str, project_id: str) -> bool:
    if actor.tenant_id not in (None, tenant_id):
        return False
    confined = actor.project_ids
    return (confined is None or project_id in confined) and actor.may(f"{NOUN}:{verb}", tenant_id, project_id)


def accept(context: Context, actor: Actor, peering_id: str) -> Row:
    """Say yes for the network that was asked; from then on packets pass as far as rules let them. Repeatable.

    ConflictError names two prefixes that overlap.
    """
    with change(context, actor, "network_peering.accept", peering_id, wide=True) as made:
        row = _held(made, actor, peering_id)
        _require_asked(actor, row, "accept")
        if row["state"] == PeeringState.REQUESTED:
            _require_apart(made.connection, row["network_id"], row["peer_network_id"])
            new = {"state": PeeringState.ACTIVE.value, "accepted_at": context.clock.now()}
            owned.change(made.connection, network_peering, peering_id, new)
            row = {**row, **new}
            _touch(context, made, row)
            _record(made, "network_peering.accepted", row)
        answer = _shown(made.connection, actor, [row])[0]
    context.wakeups.signal("network")
    return answer


def _held(made: Change, actor: Actor, peering_id: str) -> Row:
    """Return a peering for a change, with both networks locked."""
    row = _visible(made.connection, actor, peering_id)
    peering_store.lock(made.connection, (row["network_id"], row["peer_network_id"]))
    return _visible(made.connection, actor, peering_id)


def _require_asked(actor: Actor, row: Row, verb: str) -> None:
    if not _sides(actor, row, verb)[1]:
        raise ForbiddenError(
            "only the project whose network was asked may answer; you may delete what you asked for",
            data={"permission": f"{NOUN}:{verb}"},
        )


def _touch(context: Context, made: Change, row: Row) -> None:
    for network_id in (row["network_id"], row["peer_network_id"]):
        network_actions.touch(context, made, network_id)


def refuse(context: Context, actor: Actor, peering_id: str) -> None:
    """Say no for the network that was asked; the request is gone. ConflictError once it was accepted."""
    with change(context, actor, "network_peering.refuse", peering_id, wide=True) as made:
        row = _held(made, actor, peering_id)
        _require_asked(actor, row, "refuse")
        if row["state"] != PeeringState.REQUESTED:
            raise ConflictError("this peering was accepted already; delete it to end it")
        owned.remove(made.connection, network_peering, peering_id)
        _record(made, "network_peering.refused", row)


def delete(context: Context, actor: Actor, peering_id: str) -> None:
    """End a peering, or take a request back or away, from either side; what flows through it is cut."""
    with change(context, actor, "network_peering.delete", peering_id, wide=True) as made:
        row = _held(made, actor, peering_id)
        if not any(_sides(actor, row, "delete")):
            actor.require(f"{NOUN}:delete", row["tenant_id"], row["project_id"])
        owned.remove(made.connection, network_peering, peering_id)
        _touch(context, made, row)
        _record(made, "network_peering.deleted", row)
    context.wakeups.signal("network")


def require_room(made: Change, network_id: str, prefix: str) -> None:
    """Raise ConflictError if a new prefix of a network overlaps one that its peers reach, or are; locks them all.

    Call it with a ``wide`` change, before the network itself is locked.
    """
    peers = peering_store.peers_of(made.connection, network_id)
    if not peers:
        return
    peering_store.lock(made.connection, (network_id, *peers))
    if peering_store.peers_of(made.connection, network_id) != peers:
        raise ConflictError("a peering of this network changed just now; try again")
    for peer_id in peers:
        require_apart([prefix], peering_store.reached_from(made.connection, peer_id), "prefix")
