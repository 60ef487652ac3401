"""States of machines that something outside brings about, with the reason that is shown; no machine really starts."""

from typing import Any

from penstock.control_plane import ControlPlane
from penstock.drivers.base import Phase
from penstock.drivers.libvirt.converge import NO_ROOM
from tests.support.machine_host import Host
from tests.support.machine_objects import make_vm
from tests.support.tenancy import Tenant


def test_a_machine_that_is_held_says_why_and_goes_on(control_plane: ControlPlane, acme: Tenant) -> None:
    host = Host(control_plane)
    vm_id = make_vm(control_plane, acme, "db")
    host.say()

    def shown() -> dict[str, Any]:
        return dict(acme.member.get(f"/v1/vms/{vm_id}").json())

    assert shown()["state"] == "running"
    host.say("held", Phase.STARTED, code="power_lost", message=NO_ROOM)
    assert (shown()["state"], shown()["reason"], shown()["message"]) == ("degraded", "process_lost", NO_ROOM)
    assert acme.member.post(f"/v1/vms/{vm_id}/clone", name="copy").status_code == 409
    host.say()
    assert (shown()["state"], shown()["message"]) == ("running", "")
