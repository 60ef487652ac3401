"""Peerings: two networks whose guests reach each other. Both sides must want it; either may end it."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Network
from typing import Any

from penstock.base.errors import ConflictError


class PeeringState(StrEnum):
    """How far a peering is."""

    REQUESTED = "requested"  # the other side has not said anything yet
    ACTIVE = "active"
    ENDED = "ended"  # one network is being deleted; the other one's hosts are still to be told


def overlap(mine: Iterable[str], theirs: Sequence[str]) -> tuple[str, str] | None:
    """Return the first two prefixes, one of each side, that share an address; None if there are none."""
    for one in mine:
        for other in theirs:
            if IPv4Network(one).overlaps(IPv4Network(other)):
                return one, other
    return None


def require_apart(mine: Sequence[str], theirs: Sequence[str], field: str) -> None:
    """Raise ConflictError naming two prefixes that overlap: an address would mean two things."""
    found = overlap(mine, theirs)
    if found is not None:
        raise ConflictError(
            f"{found[0]} overlaps {found[1]} of a network that would be reached from here; peered networks, and the "
            "peers of one network, need prefixes of their own",
            field=field,
            data={"prefix": found[0], "other_prefix": found[1]},
        )


def shown(row: Mapping[str, Any], prefixes: Mapping[str, list[str]], tenant_id: str | None) -> dict[str, Any]:
    """Return a peering with the prefixes that a tenant may know (None: the operator, who knows all).

    Who asked shows his own with that; those of the other side are shown when it has accepted.
    """
    known = tenant_id is None or tenant_id == row["peer_tenant_id"] or row["state"] == PeeringState.ACTIVE
    return {
        **row,
        "prefixes": prefixes.get(row["network_id"], []),
        "peer_prefixes": prefixes.get(row["peer_network_id"], []) if known else [],
    }
