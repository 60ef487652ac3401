"""One step of a machine's move: prepare there, hand over, leave here. Each look does what is due and no more.

Its local volumes go with it: each has a second, empty place there, is filled by the same copy, and changes its host in the
transaction in which the machine does, or not at all.

The two places are two allocations; that the one there is ``arriving`` keeps it from counting as the machine. Ports are
prepared there before the machine goes, and bound there once it has arrived: packets follow it by themselves in between.

Once the old host was told to send the machine, only that host can say where it is, and with it where the last bytes of its
volumes are. So a move that is not to go on (the machine is ended, it takes too long, the other host fails) is ``halting``
first: the old host breaks off what can be broken off and says what became of it. Neither place is cleared before it has.
"""

from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.catalog.vm import volume
from penstock.catalog.vm.machine import push
from penstock.domain.copying import copy_of
from penstock.domain.service import ServiceState
from penstock.domain.vm import Power
from penstock.store import allocation as allocation_store
from penstock.store import event as event_store
from penstock.store import node as node_store
from penstock.store import port as port_store
from penstock.store import vm as vm_store
from penstock.store import volume as volume_store
from penstock.store.rows import Row

Topics = tuple[str, ...]
ENDED = "the machine is being terminated"


def step(connection: Connection, service_id: str, now: datetime) -> Topics:
    """Bring a move one step on; return the topics to signal, none if nothing was due. System scope."""
    row = vm_store.get(connection, service_id, lock=True)
    if row is None or row["move"] is None:
        return ()
    move: dict[str, Any] = row["move"]
    if move["state"] == "leaving":
        return _forget(connection, row, move, now)
    why = _why_not(connection, row, move, now)
    if move["state"] == "preparing":
        if why is not None:
            return _give_up(connection, row, move, now, why)
        return _hand_over(connection, row, move, now)
    return _settle(connection, row, move, now, why)


def _why_not(connection: Connection, row: Row, move: dict[str, Any], now: datetime) -> str | None:
    """Return why a move is not to go on, as a sentence; None if it is."""
    here = vm_store.allocation(connection, move["from_allocation_id"])
    there = vm_store.allocation(connection, move["allocation_id"])
    if _is_ending(row):
        return ENDED
    if here is None or here["wanted"] != "present":
        return "its old place is gone"
    if there is None or there["wanted"] != "present":
        return "its new place is gone"
    began_at = datetime.fromisoformat(move["began_at"])
    went_at = datetime.fromisoformat(move.get("went_at", move["began_at"]))
    if now - went_at > limits.VM_MOVE_DEADLINE or now - began_at > limits.VM_MOVE_LONGEST:
        return "it took too long"
    failed = [one for one in (there, *_volume_places(connection, move)) if one["phase"] == "failed"]
    return str(failed[0]["message"]) if failed else None


def _is_ending(row: Row) -> bool:
    return row["service_wanted"] != "running" or row["service_state"] == ServiceState.RELEASING


def _volumes(move: dict[str, Any]) -> list[dict[str, str]]:
    """Return the volumes that go with a machine: id, and the allocations ``from`` and ``to``."""
    return move.get("volumes", [])


def _volume_places(connection: Connection, move: dict[str, Any]) -> list[Row]:
    """Return the places that the volumes go to."""
    return [
        place for one in _volumes(move) if (place := vm_store.allocation(connection, one["to"])) is not None
    ]


def _settle_volumes(connection: Connection, move: dict[str, Any], now: datetime) -> None:
    """Have the volumes where their machine has arrived, and nowhere else; one that is being deleted nowhere at all."""
    for one in _volumes(move):
        held = volume_store.get(connection, one["id"], lock=True)
        if held is not None and held["wanted"] == "present":
            volume.arrive(connection, one["id"], move["to"], one["to"])
        else:
            vm_store.leave(connection, one["to"], now)
        vm_store.leave(connection, one["from"], now)


def _settle(connection: Connection, row: Row, move: dict[str, Any], now: datetime, why: str | None) -> Topics:
    """Take the machine over where it is once that is known; have the move broken off where it is not to go on."""
    here = vm_store.allocation(connection, move["from_allocation_id"])
    detail: dict[str, Any] = (here or {}).get("detail") or {}
    if detail.get("moved_to") == move["allocation_id"]:
        return _arrive(connection, row, move, now)
    if here is None or here["wanted"] != "present" or _is_given_up(connection, row, move, here):
        return _give_up(connection, row, move, now, why or "its old place is gone")
    if _current(here):
        problem = detail.get("problems", {}).get("move")
        if problem is not None or move["state"] == "halting":
            return _give_up(connection, row, move, now, str(problem or move["why"]))
    if why is None:
        _note_progress(connection, row, move, detail, now)
    if why is None or move["state"] == "halting":
        return ()
    push(connection, row, move["from_allocation_id"], halts=1)
    vm_store.change(connection, row["service_id"], now, {"move": {**move, "state": "halting", "why": why}})
    return ("allocation",)


def _note_progress(
    connection: Connection, row: Row, move: dict[str, Any], detail: dict[str, Any], now: datetime
) -> None:
    """Give a move that goes on more time: a large disk takes as long as it takes."""
    copy = copy_of(detail)
    if copy is None or copy.done_bytes == move.get("done_bytes"):
        return
    if now - datetime.fromisoformat(move.get("went_at", move["began_at"])) >= limits.VM_MOVE_NOTE_AFTER:
        went = {"done_bytes": copy.done_bytes, "went_at": now.isoformat()}
        vm_store.change(connection, row["service_id"], now, {"move": {**move, **went}})


def _is_given_up(connection: Connection, row: Row, move: dict[str, Any], here: Row) -> bool:
    """Tell whether nobody waits for the old host's word: it is written off, or silent and nothing would outlive the machine."""
    node = node_store.get(connection, here["node_id"])
    state = "retired" if node is None else node["state"]
    return state == "retired" or (state == "unreachable" and _is_ending(row) and not _volumes(move))


def _stay(connection: Connection, row: Row, now: datetime) -> None:
    """Expect a machine's ports nowhere else any more."""
    for port in port_store.attachments_of(connection, row["service_id"]):
        if port.arriving_node_id is not None:
            port_store.expect(connection, port.port_id, None, at=now)


def _current(allocation: Row) -> bool:
    return allocation["phase"] == "ready" and allocation["phase_generation"] == allocation["generation"]


def _hand_over(connection: Connection, row: Row, move: dict[str, Any], now: datetime) -> Topics:
    """Once the other host has the disks and the network, let this one send the machine."""
    there = vm_store.allocation(connection, move["allocation_id"])
    detail: dict[str, Any] = (there or {}).get("detail") or {}
    if there is None or not _current(there) or "folder" not in detail:
        return ()
    if not all(_current(place) for place in _volume_places(connection, move)):
        return ()
    if detail.get("uri") is None:
        return _give_up(
            connection, row, move, now, "that host takes no machines: its agent needs --libvirt-arrivals"
        )
    ports, told = port_store.attachments_of(connection, row["service_id"]), False
    for port in ports:
        if port.arriving_node_id != move["to"]:
            port_store.expect(connection, port.port_id, move["to"], at=now)
            told = True
    if told:
        return ("network",)
    if not all(port_store.ready(connection, port.port_id) for port in ports):
        return ()
    target = {
        "uri": detail["uri"],
        "name": there["id"],
        "folder": detail["folder"],
        "volumes": detail["volumes"],
        "live": int(row["power"] == Power.ON),
    }
    push(connection, row, move["from_allocation_id"], moving=1, move=target)
    vm_store.change(connection, row["service_id"], now, {"move": {**move, "state": "moving"}})
    return ("allocation",)


def _arrive(connection: Connection, row: Row, move: dict[str, Any], now: datetime) -> Topics:
    """Have the machine and its volumes where they arrived; a machine that is being ended goes from there, too."""
    ending = _is_ending(row)
    push(connection, row, move["allocation_id"])
    vm_store.leave(connection, move["from_allocation_id"], now)
    _settle_volumes(connection, move, now)
    vm_store.change(connection, row["service_id"], now, {"move": {**move, "state": "leaving"}})
    if ending:
        _stay(connection, row, now)
        allocation_store.stop(connection, [row["service_id"]])
    else:
        for port in port_store.attachments_of(connection, row["service_id"]):
            port_store.bind(connection, port.port_id, move["to"], at=now)
    _tell(connection, row, "vm.moved", now, to=move["to_name"])
    return ("allocation", "network")


def _forget(connection: Connection, row: Row, move: dict[str, Any], now: datetime) -> Topics:
    left = [move["from_allocation_id"], *(one["from"] for one in _volumes(move))]
    if not all(vm_store.forget_place(connection, one) for one in left):
        return ()
    vm_store.change(connection, row["service_id"], now, {"move": None})
    return ("event",)


def _give_up(connection: Connection, row: Row, move: dict[str, Any], now: datetime, why: str) -> Topics:
    """Stay where the machine is: the undo of preparing."""
    for one in (move["allocation_id"], *(each["to"] for each in _volumes(move))):
        vm_store.leave(connection, one, now)
    _stay(connection, row, now)
    if _is_ending(row):
        allocation_store.stop(connection, [row["service_id"]])
    elif row["allocation_id"] is not None:
        push(connection, row, row["allocation_id"])
    # What was prepared there is forgotten as what was left here would be.
    back = {
        **move,
        "state": "leaving",
        "from_allocation_id": move["allocation_id"],
        "allocation_id": row["allocation_id"],
        "volumes": [{**one, "from": one["to"], "to": one["from"]} for one in _volumes(move)],
    }
    vm_store.change(connection, row["service_id"], now, {"move": back})
    _tell(connection, row, "vm.move_failed", now, why=why)
    return ("allocation", "network")


def _tell(connection: Connection, row: Row, kind: str, now: datetime, **data: str) -> None:
    event_store.emit(
        connection,
        at=now,
        kind=kind,
        subject_id=row["service_id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        data={"name": row["name"], **data},
    )
