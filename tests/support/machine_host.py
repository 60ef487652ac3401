"""A host of machines whose agent is the test: no machine really starts."""

from typing import Any

from penstock.actions import agent as agent_actions
from penstock.base.clock import to_epoch_us
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from penstock.drivers.libvirt.machine import Machine, parse
from tests.support.infrastructure import change
from tests.support.machine_objects import made, make_host
from tests.support.tenancy import Caller


class Host:
    """A node whose agent is this test: it reads what is wanted and says what it likes."""

    def __init__(self, plane: ControlPlane, name: str = "hv1", **more: Any) -> None:
        self.plane = plane
        self.agent_id, self.node_id = make_host(plane, name, **more)

    def carry_networks(self, operator: Caller, underlay: str = "10.77.0.11") -> "Host":
        """Make the node one that carries networks, in imagination."""
        able = "UPDATE node SET drivers = drivers || '{simulated_network}' WHERE id = :node_id"
        change(self.plane.context, able, node_id=self.node_id)
        made(operator.put(f"/v1/network-hosts/{self.node_id}", underlay_address=underlay))
        return self

    def wishes(self) -> list[dict[str, Any]]:
        """Return what is wanted on the node now."""
        self.plane.services.tick()
        self.plane.vms.tick()
        return [dict(row) for row in agent_actions.pull(self.plane.context, self.agent_id, 0, 0).allocations]

    def machine(self) -> Machine:
        """Return the only machine that is wanted."""
        (wish,) = self.wishes()
        return parse(wish["config"])

    def say(
        self,
        power: str = "on",
        phase: Phase = Phase.READY,
        *,
        code: str | None = None,
        message: str | None = None,
        stamps: bool = False,
        **detail: Any,
    ) -> None:
        """Report the same about everything that is wanted; with ``stamps`` that it is ready since now."""
        now_us = to_epoch_us(self.plane.clock.now())
        for wish in self.wishes():
            said = Phase.ABSENT if wish["wanted"] == "absent" else phase
            seen = {"power": power, **detail}
            at_us = {"started": now_us, "ready": now_us} if stamps and said is Phase.READY else {}
            observed = Observed(
                wish["id"], wish["generation"], said, at_us, code=code, message=message, detail=seen
            )
            agent_actions.push(self.plane.context, self.agent_id, [observed])
        self.plane.services.tick()
