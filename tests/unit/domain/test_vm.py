"""States of machines, from what is wanted and what was seen."""

import itertools

import pytest

from penstock.domain.service import Reason, ServiceState
from penstock.domain.vm import VM_STATE_SENTENCES, Power, Seen, VmState, keeps_its_place, state_of

RUNNING = Seen(ServiceState.RUNNING, Power.ON, current=True, phase="ready", power="on", host_takes_work=True)


def _with(**changes: object) -> VmState:
    values = {name: getattr(RUNNING, name) for name in Seen.__slots__}
    return state_of(Seen(**{**values, **changes}))


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, VmState.RUNNING),
        ({"host_takes_work": False}, VmState.MAINTENANCE_REQUIRED),
        ({"current": False}, VmState.PROVISIONING),
        ({"power": "off"}, VmState.PROVISIONING),
        ({"wanted": Power.OFF}, VmState.STOPPING),
        ({"wanted": Power.OFF, "power": "off"}, VmState.STOPPED),
        ({"wanted": Power.OFF, "power": "off", "current": False}, VmState.STOPPING),
        ({"service_state": ServiceState.QUEUED, "phase": None, "power": None}, VmState.PROVISIONING),
        ({"service_state": ServiceState.DEGRADED}, VmState.DEGRADED),
        ({"service_state": ServiceState.RELEASING}, VmState.TERMINATING),
        ({"service_state": ServiceState.FAILED}, VmState.TERMINATED),
    ],
)
def test_state(changes: dict[str, object], state: VmState) -> None:
    assert _with(**changes) is state


def test_every_combination_has_a_state_with_a_sentence() -> None:
    for service, power, current, seen in itertools.product(
        ServiceState, Power, (True, False), ("on", "off", None)
    ):
        assert VM_STATE_SENTENCES[_with(service_state=service, wanted=power, current=current, power=seen)]


def test_what_has_data_on_a_host_waits_for_it() -> None:
    assert keeps_its_place("vm", Reason.NODE_LOST, recreate=False)
    assert not keeps_its_place("vm", Reason.NODE_LOST, recreate=True)
    assert not keeps_its_place("vm", Reason.PREEMPTED, recreate=False)
    assert not keeps_its_place("llm", Reason.NODE_LOST, recreate=False)
