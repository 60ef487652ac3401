"""The simulated site: racks that are NVLink domains, leaf switches over racks, pods over leaves."""

from dataclasses import dataclass

from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import DeviceState, NodeState
from penstock.domain.device import load_device_classes
from penstock.scheduler import Fleet

DEVICE_CLASS = "GB200"


@dataclass(frozen=True, slots=True)
class SiteShape:
    """A regular site; ``rack_gpus`` devices are one NVLink domain."""

    racks: int = 70
    nodes_per_rack: int = 18
    gpus_per_node: int = 4
    racks_per_leaf: int = 8
    leaves_per_pod: int = 4

    @property
    def rack_gpus(self) -> int:
        """Return the devices of one rack."""
        return self.nodes_per_rack * self.gpus_per_node

    @property
    def gpus(self) -> int:
        """Return the devices of the site."""
        return self.racks * self.rack_gpus

    def leaf(self, rack: int) -> int:
        """Return the leaf switch of a rack."""
        return rack // self.racks_per_leaf

    def pod(self, rack: int) -> int:
        """Return the pod of a rack."""
        return self.leaf(rack) // self.leaves_per_pod

    def node_names(self, rack: int) -> list[str]:
        """Return the nodes of a rack: ``r003t07``."""
        return [f"r{rack:03d}t{tray:02d}" for tray in range(self.nodes_per_rack)]


def fleet_of(shape: SiteShape) -> Fleet:
    """Return the site as the planner's own fleet, everything free."""
    kind = load_device_classes()[DEVICE_CLASS]
    fleet = Fleet({kind.name: kind})
    places = [(rack, name) for rack in range(shape.racks) for name in shape.node_names(rack)]
    fleet.upsert_nodes(
        NodeState(
            node_id=name,
            schedulable=True,
            memory_bytes=960 * BYTES_PER_GIB,
            memory_used_bytes=0,
            cpu_millis=144_000,
            cpu_used_millis=0,
            drivers=frozenset({"simulated"}),
            architecture="aarch64",
            site_id="simulated",
            rack_id=f"r{rack:03d}",
            simulated=True,
            leaf=f"leaf-{shape.leaf(rack)}",
            pod=f"pod-{shape.pod(rack)}",
        )
        for rack, name in places
    )
    fleet.upsert_devices(
        DeviceState(
            device_id=f"{name}/{position}",
            node_id=name,
            device_class=kind.name,
            slices=kind.slices,
            memory_bytes=kind.memory_bytes,
            slice_memory_bytes=kind.slice_memory_bytes,
            used_mask=0,
            healthy=True,
            nvlink_domain=f"r{rack:03d}",
        )
        for rack, name in places
        for position in range(shape.gpus_per_node)
    )
    return fleet
