"""Random fleets with power budgets and sleeping nodes, and what they hold, counted by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from penstock.domain.claim import DeviceState, NodeState
from penstock.domain.device import DeviceClass
from penstock.domain.power_budget import PowerBudget, PowerLevel, Subject, subjects
from penstock.scheduler import Fleet
from tests.support.fleets import Picture, pictures

LOAD_WATTS = {"A": 100, "B": 60}
IDLE_WATTS = {"A": 10, "B": 20}
HOST_MW = 30_000


def _class(name: str) -> DeviceClass:
    return DeviceClass(
        name, "v", name, 20, 1, 20, LOAD_WATTS[name], (), "made up", idle_watts=IDLE_WATTS[name]
    )


CLASSES = {name: _class(name) for name in LOAD_WATTS}


@dataclass(frozen=True)
class Powered:
    """A fleet, which of its nodes sleep, and limits in milliwatts."""

    picture: Picture
    limits: Mapping[Subject, int]

    def fleet(self) -> Fleet:
        """Return it loaded, with the budgets holding what they hold."""
        fleet = Fleet(CLASSES)
        held = held_mw(self.picture.nodes, self.picture.devices)
        fleet.limit(
            PowerBudget(f"{level}-{subject}", level, subject, subject, limit, held[level, subject])
            for (level, subject), limit in self.limits.items()
        )
        fleet.upsert_nodes(self.picture.nodes)
        fleet.upsert_devices(self.picture.devices)
        return fleet


def held_mw(nodes: tuple[NodeState, ...], devices: tuple[DeviceState, ...]) -> dict[Subject, int]:
    """Count what every subject holds: awake hosts, idle devices of awake nodes, and what work adds."""
    held: dict[Subject, int] = {}
    for node in nodes:
        mine = [one for one in devices if one.node_id == node.node_id]
        awake = not node.wake_mw
        total = HOST_MW if awake else 0
        for one in mine:
            idle = IDLE_WATTS[one.device_class] * 1_000
            own = (idle if awake else 0) + (LOAD_WATTS[one.device_class] * 1_000 - idle if one.draws else 0)
            held[PowerLevel.DEVICE, one.device_id] = own
            total += own
        for level, subject in subjects(node.node_id, node.rack_id, node.row, node.site_id).items():
            held[level, subject] = held.get((level, subject), 0) + total
    return held


@st.composite
def powered(draw: st.DrawFn) -> Powered:
    """Return a random fleet of which some idle nodes sleep, with limits near what is held."""
    picture = draw(pictures())
    nodes: list[NodeState] = []
    for node in picture.nodes:
        mine = [one for one in picture.devices if one.node_id == node.node_id]
        idle = all(one.used_mask == 0 for one in mine)
        asleep = idle and draw(st.booleans())
        wake_mw = HOST_MW + sum(IDLE_WATTS[one.device_class] * 1_000 for one in mine)
        row = draw(st.sampled_from([None, "x"])) if node.rack_id else None
        nodes.append(replace(node, asleep=asleep, wake_mw=wake_mw if asleep else 0, row=row))
    picture = Picture(tuple(nodes), picture.devices)
    held = held_mw(picture.nodes, picture.devices)
    chosen = draw(st.lists(st.sampled_from(sorted(held)), max_size=4, unique=True))
    # A device draws its idle power as soon as its node is awake, whatever a budget of its own says: placement looks at
    # what the node adds and at what the device's work adds, and no budget of one device is that small.
    idle_mw = {
        (PowerLevel.DEVICE, one.device_id): IDLE_WATTS[one.device_class] * 1_000 for one in picture.devices
    }
    limits = {
        key: max(idle_mw.get(key, 0), held[key] + draw(st.integers(-20, 300)) * 1_000) for key in chosen
    }
    return Powered(picture, limits)
