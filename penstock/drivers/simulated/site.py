"""What a simulated site is made of, as data."""

import re
import tomllib
from dataclasses import dataclass, replace
from importlib import resources

from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.domain.device import DeviceClass
from penstock.drivers.base import DeviceFacts, NodeFacts

_SHAPE = re.compile(r"(\d{1,5})x(\d{1,2}):([A-Za-z0-9_-]{1,32})\Z")
NODES_MAX = 20_000
DEVICES_PER_NODE_MAX = 72


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A regular site. ``nvlink_domain`` is ``rack`` or ``node``: how far NVLink reaches."""

    name: str
    racks: int
    nodes_per_rack: int
    devices_per_node: int
    device_class: str
    device_model: str
    vendor: str
    memory_gib: int
    rack_power_watts: int
    nvlink_domain: str
    architecture: str
    cpu_model: str
    cpu_cores: int
    cpu_threads: int
    node_memory_gib: int
    racks_per_leaf: int
    leaves_per_spine: int

    @property
    def node_count(self) -> int:
        """Return the number of nodes."""
        return self.racks * self.nodes_per_rack


def nvl72_site() -> SiteSpec:
    """Return the shipped site: 14 NVL72 racks."""
    text = resources.files("penstock.drivers.simulated").joinpath("site.toml").read_text("utf-8")
    return SiteSpec(**tomllib.loads(text))


def parse_site(text: str, classes: dict[str, DeviceClass]) -> SiteSpec:
    """Return the site for ``nvl72`` or ``NODESxDEVICES:CLASS``; InvalidInputError says what is wrong."""
    if text == "nvl72":
        return nvl72_site()
    match = _SHAPE.match(text)
    if match is None:
        raise InvalidInputError(
            f"'{text}' is no simulated site; give 'nvl72' or NODESxDEVICES:CLASS such as 1000x8:H100",
            field="simulated",
        )
    nodes, devices, name = int(match[1]), int(match[2]), match[3]
    device_class = classes.get(name)
    if device_class is None:
        raise InvalidInputError(
            f"no device class '{name}'; there are: {', '.join(sorted(classes))}", field="simulated"
        )
    if not 1 <= nodes <= NODES_MAX or not 1 <= devices <= DEVICES_PER_NODE_MAX:
        raise InvalidInputError(
            f"a simulated site has 1 to {NODES_MAX} nodes of 1 to {DEVICES_PER_NODE_MAX} devices",
            field="simulated",
        )
    per_rack = 8 if nodes % 8 == 0 else 1
    return replace(
        nvl72_site(),
        name=f"simulated-{nodes}x{devices}-{name.lower()}",
        racks=nodes // per_rack,
        nodes_per_rack=per_rack,
        devices_per_node=devices,
        device_class=name,
        device_model=f"{device_class.model} (simulated)",
        vendor=device_class.vendor,
        memory_gib=device_class.memory_bytes // BYTES_PER_GIB,
        rack_power_watts=per_rack * (devices * device_class.power_watts + 2_000),
        nvlink_domain="node",
        architecture="x86_64",
        cpu_model="simulated CPU",
        cpu_cores=64,
        cpu_threads=128,
        node_memory_gib=2048,
    )


def node_name(spec: SiteSpec, rack: int, tray: int) -> str:
    """Return the name of a node: ``r03t07``."""
    del spec
    return f"r{rack + 1:02d}t{tray + 1:02d}"


def node_facts(spec: SiteSpec) -> list[NodeFacts]:
    """Return every node of the site; serials and names are the same at every start."""
    facts: list[NodeFacts] = []
    for rack in range(spec.racks):
        leaf = rack // spec.racks_per_leaf
        for tray in range(spec.nodes_per_rack):
            name = node_name(spec, rack, tray)
            domain = (
                f"{spec.name}-nvl-r{rack + 1:02d}"
                if spec.nvlink_domain == "rack"
                else f"{spec.name}-nvl-{name}"
            )
            facts.append(
                NodeFacts(
                    name=name,
                    architecture=spec.architecture,
                    cpu_model=spec.cpu_model,
                    cpu_cores=spec.cpu_cores,
                    cpu_threads=spec.cpu_threads,
                    memory_bytes=spec.node_memory_gib * BYTES_PER_GIB,
                    devices=tuple(
                        _device(spec, name, domain, index) for index in range(spec.devices_per_node)
                    ),
                    rack=f"r{rack + 1:02d}",
                    leaf=f"leaf-{leaf + 1}",
                    spine=f"spine-{leaf // spec.leaves_per_spine + 1}",
                    core="core-1",
                    power_feed=f"feed-r{rack + 1:02d}",
                    notes=("simulated: this node does not exist",),
                )
            )
    return facts


def _device(spec: SiteSpec, node: str, domain: str, index: int) -> DeviceFacts:
    return DeviceFacts(
        index=index,
        device_class=spec.device_class,
        model=spec.device_model,
        vendor=spec.vendor,
        memory_bytes=spec.memory_gib * BYTES_PER_GIB,
        serial=f"SIM-{spec.name}-{node}-{index}",
        pci_address=f"0000:{index + 1:02x}:00.0",
        numa_node=index // 2,
        nvlink_domain=domain,
    )
