"""Machines move between hosts: step by step as their nodes are told, with what they have, or not at all."""

from typing import Any

import pytest

from penstock.control_plane import ControlPlane
from penstock.drivers.base import Phase
from tests.support.infrastructure import query
from tests.support.machine_host import Host
from tests.support.machine_objects import made, make_vm
from tests.support.tenancy import Caller, Tenant


def refused(answer: Any, status: int, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["field"] == field, error
    return str(error["message"])


def _moving_pair(plane: ControlPlane, acme: Tenant) -> tuple[Host, Host, str]:
    here = Host(plane, "hv1")
    vm_id = make_vm(plane, acme, "web-1")
    here.say()
    return here, Host(plane, "hv2"), vm_id


ARRIVED = {"folder": "/there/alc", "volumes": "/there/volumes", "uri": "qemu+tcp://hv2/system"}


def test_a_machine_moves_and_only_one_place_is_left(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    here, there, vm_id = _moving_pair(control_plane, acme)
    path = f"/v1/vms/{vm_id}"
    assert acme.member.post(f"{path}/move").status_code == 403
    refused(operator.post(f"{path}/move", node_id=here.node_id), 409)
    assert made(operator.post(f"{path}/move"))["moving_to"] == "hv2"
    refused(operator.post(f"{path}/move"), 409)
    refused(acme.member.post(f"{path}/power", action="stop"), 409)
    assert there.machine().arriving
    assert acme.member.get(path).json()["state"] == "running"
    there.say(**ARRIVED)
    move = here.machine().move
    assert move is not None
    assert (move.uri, move.folder) == (ARRIVED["uri"], ARRIVED["folder"])
    here.say(moved_to=move.name)
    assert not there.machine().arriving
    assert [wish["wanted"] for wish in here.wishes()] == ["absent"]
    here.say("off")
    there.say()
    control_plane.vms.tick()
    shown = acme.member.get(path).json()
    assert (shown["state"], shown["node_name"], shown["moving_to"]) == ("running", "hv2", None)
    assert here.wishes() == []
    context = control_plane.context
    held = query(context, "SELECT node_id FROM claim WHERE released_at IS NULL")
    assert [row["node_id"] for row in held] == [there.node_id]
    used = {row["name"]: row["memory_used_bytes"] for row in query(context, "SELECT * FROM node")}
    assert (used["hv1"], used["hv2"] > 0) == (0, True)
    told = [
        row["kind"] for row in query(context, "SELECT kind FROM event WHERE kind LIKE 'vm.move%' ORDER BY id")
    ]
    assert told == ["vm.move_begun", "vm.moved"]


def test_a_stopped_machine_moves_and_stays_stopped(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    here, there, vm_id = _moving_pair(control_plane, acme)
    made(acme.member.post(f"/v1/vms/{vm_id}/power", action="stop"))
    here.say("off")
    made(operator.post(f"/v1/vms/{vm_id}/move", node_id=there.node_id))
    there.say(**ARRIVED, power="off")
    move = here.machine().move
    assert move is not None
    assert not move.live
    here.say("off", moved_to=move.name)
    assert there.machine().power == "off"
    here.say("off")
    there.say("off")
    control_plane.vms.tick()
    shown = acme.member.get(f"/v1/vms/{vm_id}").json()
    assert (shown["state"], shown["node_name"], shown["moving_to"]) == ("stopped", "hv2", None)


def test_snapshots_go_with_a_stopped_machine(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    here, there, vm_id = _moving_pair(control_plane, acme)
    snapshot = made(acme.member.post(f"/v1/vms/{vm_id}/snapshots", name="one"))
    here.say()

    def why_not() -> str:
        answer = operator.post(f"/v1/vms/{vm_id}/move", node_id=there.node_id)
        assert answer.status_code == 409, answer.text
        return str(answer.json()["error"]["message"])

    assert "stop it" in why_not()
    made(acme.member.post(f"/v1/vms/{vm_id}/power", action="stop"))
    here.say("off")
    assert "not ready" in why_not()
    here.say("off", snapshots={snapshot["id"]: 4_097})
    made(operator.post(f"/v1/vms/{vm_id}/move", node_id=there.node_id))
    assert there.machine().carried == {snapshot["id"]: 4_097}
    assert there.machine().snapshots == (snapshot["id"],)


@pytest.mark.parametrize("how", ["no address", "libvirt refuses", "there fails"])
def test_a_move_that_fails_leaves_the_machine_where_it_is(
    control_plane: ControlPlane, acme: Tenant, operator: Caller, how: str
) -> None:
    here, there, vm_id = _moving_pair(control_plane, acme)
    made(operator.post(f"/v1/vms/{vm_id}/move", node_id=there.node_id))
    if how == "there fails":
        there.say(phase=Phase.FAILED)
    else:
        there.say(**{**ARRIVED, "uri": None if how == "no address" else ARRIVED["uri"]})
    control_plane.vms.tick()
    if how == "libvirt refuses":
        here.say(problems={"move": "no way"})
        control_plane.vms.tick()
    assert [wish["wanted"] for wish in there.wishes()] == ["absent"]
    there.say("off")
    here.say()
    control_plane.vms.tick()
    shown = acme.member.get(f"/v1/vms/{vm_id}").json()
    assert (shown["state"], shown["node_name"], shown["moving_to"]) == ("running", "hv1", None)
    assert here.machine().move is None
    context = control_plane.context
    held = query(context, "SELECT node_id FROM claim WHERE released_at IS NULL")
    assert [row["node_id"] for row in held] == [here.node_id]
    assert len(query(context, "SELECT 1 AS one FROM event WHERE kind = 'vm.move_failed'")) == 1


def test_a_host_is_emptied_with_the_plan_shown_first(
    control_plane: ControlPlane, acme: Tenant, operator: Caller
) -> None:
    here, there, vm_id = _moving_pair(control_plane, acme)
    path = f"/v1/nodes/{here.node_id}/drain"
    (line,) = operator.get(path).json()["items"]
    assert (line["vm_id"], line["to_node_name"], line["stays_because"]) == (vm_id, "hv2", None)
    made(acme.member.post(f"/v1/vms/{vm_id}/power", action="stop"))
    here.say("off")
    (line,) = operator.get(path).json()["items"]
    assert (line["to_node_name"], line["stays_because"]) == ("hv2", None), "a stopped one moves, too"
    made(acme.member.post(f"/v1/vms/{vm_id}/power", action="start"))
    here.say()
    (line,) = made(operator.post(path))["items"]
    assert line["to_node_name"] == "hv2"
    assert there.machine().arriving
    assert operator.get(f"/v1/nodes/{here.node_id}").json()["cordoned"] is True
    assert acme.member.get(path).status_code in (403, 404)
