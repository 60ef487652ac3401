"""Partitions of an InfiniBand fabric: a key per project's group of nodes, so that others' traffic does not meet it.

A partition key has 15 bits and a membership bit on top (InfiniBand Architecture 1.3, 10.9): 0x7fff is the default
partition, which everybody is in, and 0 is invalid; what is between them is given out.

A node is a member while instances of the project that ask for the partition are on it and nobody else is. From before
it joins until it has left it is kept for the project: the gate lets nobody else onto it.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import cast

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.policy import Fabric

PKEY_MIN = 0x0001
PKEY_MAX = 0x7FFE
FULL_MEMBER = 0x8000
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
DRIVERS = ("simulated_fabric",)  # those of fabric managers, the first that a site has is its own


class PartitionState(StrEnum):
    """How far a fabric manager is with what is wanted of a partition."""

    READY = "ready"
    CHANGING = "changing"
    FAILED = "failed"
    DELETING = "deleting"


class MemberState(StrEnum):
    """How far a node is."""

    JOINING = "joining"
    MEMBER = "member"
    LEAVING = "leaving"
    REFUSED = "refused"


PARTITION_STATE_SENTENCES: dict[PartitionState, str] = {
    PartitionState.READY: "the fabric managers have it as it is wanted",
    PartitionState.CHANGING: "a fabric manager was told something and has not said yet that it is done",
    PartitionState.FAILED: "a fabric manager refused or cannot be reached; it is tried again, see its reason",
    PartitionState.DELETING: "its nodes leave it; its key is given back after that",
}
MEMBER_STATE_SENTENCES: dict[MemberState, str] = {
    MemberState.JOINING: "it is kept for the project; its port joins, and nothing starts on it before",
    MemberState.MEMBER: "its port is in the partition",
    MemberState.LEAVING: "its port leaves; nobody else is placed on it before",
    MemberState.REFUSED: "it cannot join, see the reason",
}
INSIDE = (MemberState.JOINING, MemberState.MEMBER)  # what a fabric manager is told
SHARED = "another project holds something of the node; it joins when nobody else does"
OTHERS = "the node has not left the partition of another project yet"
NO_MANAGER = "its site has no fabric manager"
NEVER_MADE = "there is no such partition, and policy makes none; create it with `penstock fabric create`"


def shown(pkey: int) -> str:
    """Return a key as fabric managers write it, with the bit of full members."""
    return f"{pkey | FULL_MEMBER:#06x}"


def check_name(name: str, field: str) -> str:
    """Return a partition's name; InvalidInputError unless it is one."""
    if len(name) > limits.NAME_CHARACTERS_MAX or re.fullmatch(NAME_PATTERN, name) is None:
        raise InvalidInputError(
            "a partition's name has small letters, digits and hyphens between them", field=field
        )
    return name


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that a partition wants or has, and who is on it: projects that hold something, or are not out yet."""

    node_id: str
    asked: bool
    holders: frozenset[str]
    not_out: frozenset[str]
    managed: bool  # its site has a fabric manager


def judge(candidate: Candidate, project_id: str) -> tuple[bool, str]:
    """Tell whether a node is to be in a project's partition, and if it is asked for and is not, why."""
    if not candidate.asked or project_id not in candidate.holders:
        return False, ""
    if candidate.holders - {project_id}:
        return False, SHARED
    if candidate.not_out - {project_id}:
        return False, OTHERS
    return candidate.managed, "" if candidate.managed else NO_MANAGER


def next_state(now: MemberState | None, *, inside: bool, reason: str) -> MemberState | None:
    """Return what a node's row says next, None for no row; what a manager was told of stays until it has left."""
    if inside:
        return now if now in INSIDE else MemberState.JOINING
    if now in (*INSIDE, MemberState.LEAVING):
        return MemberState.LEAVING
    return MemberState.REFUSED if reason else None


def settled(now: MemberState) -> MemberState | None:
    """Return what a row says once the manager has done all it was told; None: the row goes."""
    return {MemberState.JOINING: MemberState.MEMBER, MemberState.LEAVING: None}.get(now, now)


def differs(config: Mapping[str, object], found: Mapping[str, object] | None) -> bool:
    """Tell whether a manager has another key or other members than it was told; not if it does not say."""
    if found is None or "members" not in found:
        return False
    return (found.get("pkey"), _names(found["members"])) != (config["pkey"], _names(config["members"]))


def _names(members: object) -> list[str]:
    return sorted(map(str, cast("list[object]", members))) if isinstance(members, list) else []


def config_of(pkey: int, members: Iterable[str]) -> dict[str, object]:
    """Return what a fabric manager is told: the key, and the names of nodes whose ports are full members."""
    return {"pkey": pkey, "members": sorted(members)}


def is_made(policy: Fabric, nodes: Collection[str]) -> bool:
    """Tell whether policy makes the partition that an instance on ``nodes`` names."""
    return policy is Fabric.ALWAYS or (policy is Fabric.MULTI_NODE and len(nodes) > 1)


def pause(attempts: int) -> timedelta:
    """Return how long to wait after ``attempts`` failures in a row: doubling, with a bound."""
    return min(limits.FABRIC_RETRY_MAX, limits.FABRIC_RETRY_FIRST * 2 ** min(max(attempts - 1, 0), 10))
