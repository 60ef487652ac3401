"""One step of a machine's move: prepare there, hand over, leave here. Each look does what is due and no more.

Its local volumes go with it: each has a second, empty place there, is filled by the same copy, and changes its host in the
transaction in which the machine does, or not at all.

The two places are two allocations; that the one there is ``arriving`` keeps it from counting as the machine. Ports are
prepared there before the machine goes, and bound there once it has arrived: packets follow it by themselves in between.
"""

from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.catalog.vm import volume
from penstock.catalog.vm.machine import push
from penstock.domain.vm import Power
from penstock.store import event as event_store
from penstock.store import port as port_store
from penstock.store import vm as vm_store
from penstock.store.rows import Row

Topics = tuple[str, ...]


def step(connection: Connection, service_id: str, now: datetime) -> Topics:
    """Bring a move one step on; return the topics to signal, none if nothing was due. System scope."""
    row = vm_store.get(connection, service_id, lock=True)
    if row is None or row["move"] is None:
        return ()
    move: dict[str, Any] = row["move"]
    here = vm_store.allocation(connection, move["from_allocation_id"])
    there = vm_store.allocation(connection, move["allocation_id"])
    if row["service_wanted"] != "running" or there is None:
        return _end(connection, row, move, here, now)
    if move["state"] == "leaving":
        return _forget(connection, row, move, now)
    if here is None or here["wanted"] != "present":
        return _give_up(connection, row, move, now, "its old place is gone")
    if now - datetime.fromisoformat(move["began_at"]) > limits.VM_MOVE_DEADLINE:
        return _give_up(connection, row, move, now, "it took too long")
    for place in (there, *_volume_places(connection, move)):
        if place["phase"] == "failed":
            return _give_up(connection, row, move, now, str(place["message"]))
    if move["state"] == "preparing":
        return _hand_over(connection, row, move, there, now)
    return _watch(connection, row, move, here, now)


def _volumes(move: dict[str, Any]) -> list[dict[str, str]]:
    """Return the volumes that go with a machine: id, and the allocations ``from`` and ``to``."""
    return move.get("volumes", [])


def _volume_places(connection: Connection, move: dict[str, Any]) -> list[Row]:
    """Return the places that the volumes go to."""
    return [
        place for one in _volumes(move) if (place := vm_store.allocation(connection, one["to"])) is not None
    ]


def _settle_volumes(connection: Connection, move: dict[str, Any], now: datetime) -> None:
    """Have the volumes where their machine has arrived, and nowhere else."""
    for one in _volumes(move):
        volume.arrive(connection, one["id"], move["to"], one["to"])
        vm_store.leave(connection, one["from"], now)


def _end(connection: Connection, row: Row, move: dict[str, Any], here: Row | None, now: datetime) -> Topics:
    """End the move of a machine that is being terminated: its volumes stay where the machine last was."""
    if move["state"] != "leaving":
        _stay(connection, row, now)
        left = move
        detail: dict[str, Any] = (here or {}).get("detail") or {}
        if detail.get("moved_to") == move["allocation_id"]:
            _settle_volumes(connection, move, now)
        else:
            left = {
                **move,
                "volumes": [{**one, "from": one["to"], "to": one["from"]} for one in _volumes(move)],
            }
            for one in _volumes(move):
                vm_store.leave(connection, one["to"], now)
        move = {**left, "state": "leaving"}
        vm_store.change(connection, row["service_id"], now, {"move": move})
    if not all(vm_store.forget_place(connection, one["from"]) for one in _volumes(move)):
        return ()
    vm_store.change(connection, row["service_id"], now, {"move": None})
    return ("allocation", "event", "network")


def _stay(connection: Connection, row: Row, now: datetime) -> None:
    """Expect a machine's ports nowhere else any more."""
    for port in port_store.attachments_of(connection, row["service_id"]):
        if port.arriving_node_id is not None:
            port_store.expect(connection, port.port_id, None, at=now)


def _current(allocation: Row) -> bool:
    return allocation["phase"] == "ready" and allocation["phase_generation"] == allocation["generation"]


def _hand_over(connection: Connection, row: Row, move: dict[str, Any], there: Row, now: datetime) -> Topics:
    """Once the other host has the disks and the network, let this one send the machine."""
    detail: dict[str, Any] = there["detail"] or {}
    if not _current(there) or "folder" not in detail:
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


def _watch(connection: Connection, row: Row, move: dict[str, Any], here: Row, now: datetime) -> Topics:
    """Take the machine over where it arrived, or go back if it could not go."""
    detail: dict[str, Any] = here["detail"] or {}
    if not _current(here):
        return ()
    if detail.get("moved_to") != move["allocation_id"]:
        problem = detail.get("problems", {}).get("move")
        return () if problem is None else _give_up(connection, row, move, now, str(problem))
    push(connection, row, move["allocation_id"])
    vm_store.leave(connection, move["from_allocation_id"], now)
    _settle_volumes(connection, move, now)
    vm_store.change(connection, row["service_id"], now, {"move": {**move, "state": "leaving"}})
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
    if row["allocation_id"] is not None:
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
