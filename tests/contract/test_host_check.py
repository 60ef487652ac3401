"""How well hosts are: what agents say, what operators see of it, what is old, and what becomes an event."""

from datetime import timedelta

import pytest

from penstock.actions import host_check
from penstock.base import limits
from penstock.base.clock import ManualClock, to_epoch_us
from penstock.base.errors import InvalidInputError, UnauthenticatedError
from penstock.control_plane import ControlPlane
from penstock.drivers import wire_check
from penstock.drivers.base import Check, CheckState
from tests.support.command_line import CommandLine
from tests.support.infrastructure import change, query
from tests.support.machine_objects import make_host
from tests.support.tenancy import Caller, Tenant

FINE = Check("libvirtd", CheckState.OK, "libvirt 9.0.0 answered within 3 ms")
GONE = Check("libvirtd", CheckState.BAD, "libvirt does not answer")
FULL = Check("room_of_machines", CheckState.WARNING, "2.0 GiB are free, 8 % of the disk")


def test_an_operator_sees_how_well_a_host_is(
    control_plane: ControlPlane, operator: Caller, acme: Tenant, clock: ManualClock, served: str
) -> None:
    context = control_plane.context
    agent_id, node_id = make_host(control_plane)

    def say(*checks: Check, late: timedelta = timedelta(0)) -> int:
        return host_check.take(context, agent_id, checks, to_epoch_us(clock.now() - late))

    def shown() -> dict[str, str]:
        return {one["name"]: one["state"] for one in operator.get(f"/v1/nodes/{node_id}").json()["checks"]}

    assert shown() == {}
    assert say(FINE) == 0, "what is well from the beginning is no news"
    assert shown() == {"clock": "ok", "libvirtd": "ok"}
    first = operator.get(f"/v1/nodes/{node_id}").json()["checks"][1]["since"]
    clock.advance(timedelta(seconds=20))
    assert say(FINE, FULL) == 1
    assert operator.get(f"/v1/nodes/{node_id}").json()["checks"][1]["since"] == first
    assert say(GONE, FULL, late=timedelta(seconds=5)) == 2
    assert shown() == {"clock": "warning", "libvirtd": "bad", "room_of_machines": "warning"}
    assert say(GONE, late=timedelta(seconds=60)) == 1
    assert shown() == {"clock": "bad", "libvirtd": "bad"}, "what is not looked at any more is not shown"
    assert say(FINE) == 2
    events = query(context, "SELECT data FROM event WHERE kind = 'node.check_changed' ORDER BY id")
    told = [(row["data"]["name"], row["data"]["state"]) for row in events]
    assert told[0] == ("room_of_machines", "warning")
    assert ("libvirtd", "bad") in told
    assert told[-1] == ("libvirtd", "ok")
    assert "answered within 3 ms" in CommandLine(served, operator.key)("node", "show", "hv1").stdout
    clock.advance(limits.HOST_CHECK_FRESH + timedelta(seconds=1))
    assert set(shown().values()) == {"unknown"}
    assert "not heard of for 61 s; before: libvirt 9.0.0" in operator.get(f"/v1/nodes/{node_id}").text
    assert acme.admin.get(f"/v1/nodes/{node_id}").status_code == 404, "hosts are the operator's"


def test_who_may_not_speak_or_speaks_for_many_is_not_heard(control_plane: ControlPlane) -> None:
    context = control_plane.context
    agent_id, _ = make_host(control_plane)
    change(context, "UPDATE agent SET state = 'revoked' WHERE id = :id", id=agent_id)
    with pytest.raises(UnauthenticatedError):
        host_check.take(context, agent_id, [FINE], 0)
    assert query(context, "SELECT * FROM host_check") == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"checks": [], "at_us": -1}, "at_us"),
        ({"checks": [{"name": "x", "state": "fine", "message": ""}], "at_us": 1}, "checks.0.state"),
        ({"checks": [{"name": "", "state": "ok", "message": ""}], "at_us": 1}, "checks.0.name"),
        ({"checks": [{"name": "x", "state": "ok", "message": ""}] * 33, "at_us": 1}, "checks"),
    ],
    ids=["time", "state", "name", "many"],
)
def test_what_cannot_be_read_is_refused_by_field(body: object, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire_check.checks_from_json(body)
    assert caught.value.field == field
    assert wire_check.checks_from_json(wire_check.checks_to_json([GONE, FULL], 7)) == ([GONE, FULL], 7)
