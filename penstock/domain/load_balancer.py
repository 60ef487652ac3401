"""Load balancers: one address in a network that takes connections and hands them to those members that are well.

``config_of`` writes out what the driver on a host is told (``drivers/load_balancer``). Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from penstock.base import limits
from penstock.base.errors import InvalidInputError

Row = Mapping[str, Any]
Host = TypeVar("Host", bound=Row)
PATH_DEFAULT = "/"
_PATH = re.compile(r"/[A-Za-z0-9._~!&()*+,;=:@%/?-]{0,255}\Z")
# The driver on a host that goes with the host's driver of networks.
DRIVER_FOR = {"nftables": "haproxy", "simulated_network": "simulated_load_balancer"}


class Mode(StrEnum):
    """What a listener takes: connections as they are, requests, requests under TLS."""

    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"


class Algorithm(StrEnum):
    """Who is next."""

    ROUNDROBIN = "roundrobin"
    LEASTCONN = "leastconn"
    SOURCE = "source"


class CheckKind(StrEnum):
    """How a member shows that it is well: it takes a connection, or answers a request with 200 to 399."""

    TCP = "tcp"
    HTTP = "http"


class MemberState(StrEnum):
    """What is known of a member."""

    UP = "up"
    DOWN = "down"
    DRAINING = "draining"  # weight 0: it gets nothing new
    UNKNOWN = "unknown"  # nothing was heard yet
    GONE = "gone"  # its port is not there any more


class LoadBalancerState(StrEnum):
    """What a load balancer is."""

    STARTING = "starting"
    ACTIVE = "active"
    DEGRADED = "degraded"
    WAITING = "waiting"
    DELETING = "deleting"


LOAD_BALANCER_STATE_SENTENCES: dict[LoadBalancerState, str] = {
    LoadBalancerState.STARTING: "a host is being told, or has not said yet that it is as wanted",
    LoadBalancerState.ACTIVE: "it takes connections and every member is well",
    LoadBalancerState.DEGRADED: "it is not as wanted, or members are not well; the reason says which",
    LoadBalancerState.WAITING: "no host can carry it now; the reason says why",
    LoadBalancerState.DELETING: "its host is taking it down",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the state is derived from; ``problem`` are a host's words, ``members`` the states of all members."""

    wanted: str
    placed: bool
    current: bool
    problem: str | None
    members: Sequence[str]


def state_of(seen: Seen) -> tuple[LoadBalancerState, str]:
    """Return the state of a load balancer with a reason, '' where the state says it all."""
    if seen.wanted == "deleted":
        return LoadBalancerState.DELETING, ""
    if not seen.placed:
        return LoadBalancerState.WAITING, "no host that carries networks, has HAProxy and takes work is ready"
    if seen.problem is not None:
        return LoadBalancerState.DEGRADED, seen.problem
    if not seen.current:
        return LoadBalancerState.STARTING, ""
    bad = sum(one in (MemberState.DOWN, MemberState.GONE) for one in seen.members)
    if not seen.members:
        return LoadBalancerState.DEGRADED, "it has no members, so it answers nobody"
    if bad:
        return LoadBalancerState.DEGRADED, f"{bad} of {len(seen.members)} members are not well"
    return LoadBalancerState.ACTIVE, ""


def check_listeners(listeners: Sequence[Row]) -> list[dict[str, Any]]:
    """Return listeners as they are stored; InvalidInputError names the field of the bad one."""
    taken: set[int] = set()
    for position, one in enumerate(listeners):
        field = f"listeners.{position}"
        if one["port"] in taken:
            raise InvalidInputError("two listeners have this port", field=f"{field}.port")
        taken.add(one["port"])
        if (one["mode"] == Mode.HTTPS) != (one["certificate_id"] is not None):
            raise InvalidInputError(
                "a listener has a certificate if its mode is https, and only then",
                field=f"{field}.certificate_id",
            )
    return [dict(one) for one in listeners]


def check_check(check: Row, field: str = "health_check.path") -> dict[str, Any]:
    """Return a health check as it is stored; InvalidInputError names the bad field."""
    path = check["path"]
    if check["kind"] == CheckKind.HTTP:
        path = path or PATH_DEFAULT
        if _PATH.match(path) is None:
            raise InvalidInputError(
                "a path begins with / and has no spaces or quotes, as in /healthz", field=field
            )
    elif path is not None:
        raise InvalidInputError("only a check of the kind http asks for a path", field=field)
    return {**check, "path": path}


def config_of(
    row: Row, attachment: Row, members: Sequence[Row], certificates: Mapping[str, Row], *, standby: bool
) -> dict[str, Any]:
    """Return what the host of a load balancer is told. Private keys are not in it: the host asks for them.

    ``attachment`` says where it is plugged in, ``members`` are those whose address is known. On ``standby`` it is ready to
    take over from another host, which asks members: those that are ill there are left out, as long as any is well.
    """
    if standby:
        ill = {key for key, said in row["health"].items() if said[0] == MemberState.DOWN}
        well = [one for one in members if member_key(one["address"], one["port"]) not in ill]
        members = well or members
    return {
        **({"standby": True} if standby else {}),
        "load_balancer": row["id"],
        **attachment,
        "algorithm": row["algorithm"],
        "listeners": [
            {
                "port": one["port"],
                "mode": one["mode"],
                **_certificate(certificates.get(one["certificate_id"] or "")),
            }
            for one in row["listeners"]
        ],
        "members": [
            {"address": one["address"], "port": one["port"], "weight": one["weight"]} for one in members
        ],
        "check": dict(row["health_check"]),
    }


def _certificate(row: Row | None) -> dict[str, Any]:
    return {} if row is None else {"certificate": row["id"], "version": row["version"]}


def member_key(address: str, port: int) -> str:
    """Return the name under which hosts report a member."""
    return f"{address}:{port}"


def next_host(
    hosts: Sequence[Host], now_on: str | None, expected_on: str | None, chosen: Host | None
) -> Host | None:
    """Return the host that is to take over from a host that is well, prepared before that lets go; None: no such move.

    ``chosen`` is what ``choose_host`` says. A host that is prepared already stays it while it is well and takes new ones.
    """
    if chosen is None or chosen["node_id"] == now_on:
        return None
    well = {one["node_id"]: one for one in hosts if one["state"] == "ready"}
    if now_on not in well:
        return None
    expected = well.get(expected_on or "")
    return chosen if expected is None or expected["cordoned"] or expected_on == now_on else expected


def choose_host(
    hosts: Sequence[Host], now_on: str | None, near: Mapping[str, int], load: Mapping[str, int]
) -> Host | None:
    """Return the host for a load balancer: the one it has while that is well, else one where its network is and few are.

    ``hosts`` are all that could, with ``node_id``, ``state``, ``cordoned``; ``near`` counts the network's ports, ``load`` the
    load balancers by node. A cordoned host keeps what it has only where nobody else can take it. None: nobody can.
    """
    well = [one for one in hosts if one["state"] == "ready"]
    free = [one for one in well if not one["cordoned"]]
    for those in (free, well):
        for one in those:
            if one["node_id"] == now_on:
                return one
        if those:
            return min(
                those,
                key=lambda one: (load.get(one["node_id"], 0), -near.get(one["node_id"], 0), one["node_id"]),
            )
    return None


def moved(
    before: Mapping[str, int], said: Mapping[str, int], run: str, known_run: str | None
) -> dict[str, int]:
    """Return how much counters rose between two reports; another run of the program begins at 0."""
    return {
        name: value - before.get(name, 0) if run == known_run and value >= before.get(name, 0) else value
        for name, value in said.items()
    }


COUNTERS = ("sessions", "received_bytes", "sent_bytes")
WEIGHT_MAX = 256
INTERVAL_MS_MIN, INTERVAL_MS_MAX = 200, 300_000
STREAK_MAX = 20
assert limits.MEMBERS_PER_BALANCER_MAX * 96 < limits.OBSERVED_DETAIL_BYTES_MAX  # noqa: S101 - a report holds all members
