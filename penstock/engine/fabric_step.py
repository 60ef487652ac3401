"""One step of one partition of the fabric, whose row is locked: who is in it, and what each site's manager is told."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.domain.fabric_partition import (
    DRIVERS,
    INSIDE,
    Candidate,
    MemberState,
    PartitionState,
    config_of,
    differs,
    judge,
    next_state,
    pause,
    settled,
)
from penstock.engine.told import Told, Waits
from penstock.store import allocation as allocation_store
from penstock.store import fabric_member as member_store
from penstock.store.rows import Row

_LOST = "the agent of its fabric manager does not answer"
_LOOK_AT_REFUSED = timedelta(seconds=5)


class Says(Protocol):
    """Emits an event of the partition."""

    def __call__(self, what: str, **data: object) -> None:
        """Say ``what`` happened."""
        ...


class FabricStep:
    """Decides who is in the partition, tells managers, takes note of what they have done."""

    def __init__(self, connection: Connection, row: Row, now: datetime, say: Says) -> None:
        self._connection = connection
        self._row = row
        self._now = now
        self._say = say
        waits = Waits(limits.FABRIC_SETTLE, limits.FABRIC_RETRY_MAX, pause(row["attempts"]))
        self._told = Told(connection, now, waits, self._count)
        self._failed_again = not row["attempts"]
        self._moved = False
        self._refused = False
        self._repairs = 0
        self._failure = ""
        self._wants = row["wanted"] == "present"

    @property
    def changed(self) -> bool:
        """Tell whether anybody was told something, or a node's state changed."""
        return self._moved or self._told.changed

    @property
    def left(self) -> int:
        """Return how many managers have the partition still."""
        return self._told.left

    def run(self) -> None:
        """Do the step."""
        carriers = member_store.carriers(self._connection, DRIVERS)
        known = member_store.members(self._connection, self._row["id"])
        asked = self._asked() if self._wants else set[str]()
        nodes = member_store.lock_nodes(self._connection, asked | set(known))
        told = allocation_store.carrying(self._connection, "fabric_partition_id", self._row["id"])
        managed = set(carriers) | {one["site_id"] for one in told if one["wanted"] == "present"}
        states = self._decide(nodes, asked, known, managed)
        inside: dict[str, list[str]] = {}
        for node_id, state in states.items():
            if state in INSIDE:
                inside.setdefault(nodes[node_id]["site_id"], []).append(nodes[node_id]["name"])
        done = self._tell(told, inside, carriers)
        self._settle(nodes, states, done, {one["site_id"] for one in told})

    def outcome(self) -> dict[str, Any]:
        """Return what the partition's row says from now on."""
        wait, attempts, reason = self._told.look_again, self._row["attempts"], self._failure
        state = PartitionState.CHANGING if self._wants else PartitionState.DELETING
        if self._failure:
            attempts += self._failed_again
            wait = pause(attempts)
        elif wait is None and self._wants:
            state, attempts = PartitionState.READY, 0
        elif attempts:
            reason = self._row["reason"]  # tried again, and the answer is not there yet
        if reason and self._wants:
            state = PartitionState.FAILED
        if self._refused:
            wait = _LOOK_AT_REFUSED if wait is None else min(wait, _LOOK_AT_REFUSED)
        return {
            "state": state,
            "reason": reason,
            "attempts": attempts,
            "repairs": self._row["repairs"] + self._repairs,
            "due_at": None if wait is None else self._now + wait,
        }

    def _asked(self) -> set[str]:
        """Return the nodes of services that ask for the partition, and those that operators want in it."""
        return member_store.asking(self._connection, self._row) | set(self._row["node_ids"])

    def _decide(
        self, nodes: Mapping[str, Row], asked: set[str], known: Mapping[str, Row], managed: set[str]
    ) -> dict[str, MemberState]:
        """Write who joins, leaves and cannot join; return the state of each node that has a row."""
        holders = member_store.holders(self._connection, nodes)
        not_out = member_store.not_out(self._connection, nodes)
        project_id, joining = self._row["project_id"], set[str]()
        states: dict[str, MemberState] = {}
        for node_id, node in nodes.items():
            candidate = Candidate(
                node_id,
                node_id in asked,
                frozenset(holders.get(node_id, ())),
                frozenset(not_out.get(node_id, ())),
                node["site_id"] in managed,
            )
            inside, reason = judge(candidate, project_id)
            before = known.get(node_id)
            was = None if before is None else MemberState(before["state"])
            state = next_state(was, inside=inside, reason=reason)
            if state is None:
                if before is not None:
                    member_store.forget(self._connection, self._row["id"], [node_id])
                continue
            states[node_id] = state
            self._refused |= state is MemberState.REFUSED
            if state in INSIDE and node["kept_for"] is None:
                joining.add(node_id)
            if before is None or (state, reason) != (was, before["reason"]):
                member_store.put(self._connection, self._row, node_id, state, reason, self._now)
                self._moved = True
                if state is MemberState.REFUSED:
                    self._say("member_refused", node=node["name"], reason=reason)
        if joining:
            member_store.keep(self._connection, joining, project_id)
        return states

    def _tell(
        self, told: list[Row], inside: Mapping[str, list[str]], carriers: Mapping[str, Row]
    ) -> set[str]:
        """Tell the manager of each site; return the sites of those that have done all they were told."""
        done: set[str] = set()
        left = dict(inside) if self._wants else {}
        for one in told:
            site_id = one["site_id"]
            host = carriers.get(site_id)
            if host is not None and one["node_state"] != "ready":
                one = {**one, **self._hand_over(one, host)}  # noqa: PLW2901 - the same allocation elsewhere
            elif host is None and one["node_state"] != "ready":
                self._failure, self._failed_again = _LOST, True
            names = left.pop(site_id, [])
            if not self._wants or (one["node_state"] == "retired" and host is None):
                self._told.existing(one, None)
                continue
            config = config_of(self._row["pkey"], names)
            done |= self._update(one, config)
        for site_id, host in carriers.items():
            if self._wants and all(one["site_id"] != site_id for one in told):
                driver = next(name for name in DRIVERS if name in host["drivers"])
                carried = allocation_store.carried("fabric_partition_id", self._row)
                config = config_of(self._row["pkey"], left.pop(site_id, []))
                self._told.new(carried, driver, host, config)
        return done

    def _update(self, one: Row, config: dict[str, object]) -> set[str]:
        """Tell one manager what changed; return its site if it has done all it was told."""
        settled_now = one["wanted"] == "present" and one["phase_generation"] == one["generation"]
        if settled_now and one["phase"] == "ready" and one["config"] == config:
            if not differs(config, one["detail"]):
                self._told.existing(one, config)
                return {one["site_id"]}
            self._repairs += 1
            self._say("repaired", found=one["detail"].get("members", []), wanted=config["members"])
            self._told.again(one)
            return set()
        if settled_now and one["phase"] == "failed" and one["config"] == config:
            self._failure = str(one["message"] or "the fabric manager refused it")
        self._told.existing(one, config)
        return set()

    def _settle(
        self, nodes: Mapping[str, Row], states: Mapping[str, MemberState], done: set[str], told: set[str]
    ) -> None:
        """Note of the nodes of sites whose manager has done all it was told that they are in, or out."""
        nobody_has_it = not self._wants and not self.left
        for node_id, state in states.items():
            node = nodes[node_id]
            never_told = state is MemberState.LEAVING and (nobody_has_it or node["site_id"] not in told)
            if not never_told and node["site_id"] not in done:
                continue
            after = settled(state)
            if after is state:
                continue
            self._moved = True
            if after is None:
                member_store.forget(self._connection, self._row["id"], [node_id])
                self._say("member_left", node=node["name"])
            else:
                member_store.put(self._connection, self._row, node_id, after, "", self._now)
                self._say("member_joined", node=node["name"])

    def _hand_over(self, one: Row, host: Row) -> dict[str, Any]:
        """Let another agent drive what the lost one did: it is the same partition in the same manager."""
        member_store.move(self._connection, one["id"], host)
        self._moved = True
        self._told.soon(limits.FABRIC_SETTLE)
        moved = {"node_id": host["node_id"], "agent_id": host["agent_id"], "node_state": "ready"}
        return {**moved, "generation": one["generation"] + 1}

    def _count(self, kind: str) -> None:
        self._failed_again |= kind == "again"
