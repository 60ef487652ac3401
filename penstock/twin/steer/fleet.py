"""The mixed fleet: a node list (``gpu_model,gpu_capacity_num,cpu_num,node_name``, plain or gzip) and facts of its classes."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import DeviceState, NodeState
from penstock.domain.device import DeviceClass
from penstock.scheduler import Fleet
from penstock.twin.steer.table import read_table

NODES_MAX = 50_000
GPUS_PER_NODE_MAX = 72
COLUMNS = ("gpu_model", "gpu_capacity_num", "cpu_num", "node_name")


@dataclass(frozen=True, slots=True)
class StudyClass:
    """A class of the study: the facts that steering reads, an assumed price, and whether it counts as premium."""

    facts: DeviceClass
    microeur_per_gpu_hour: int
    premium: bool


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the list."""

    name: str
    device_class: str
    gpus: int


@dataclass(frozen=True, slots=True)
class MixedFleet:
    """Nodes of known classes; ``left_out`` counts the GPUs of models without facts."""

    nodes: tuple[Node, ...]
    classes: dict[str, StudyClass]
    left_out: dict[str, int]

    @property
    def gpus(self) -> int:
        """Return the GPUs of the study."""
        return sum(node.gpus for node in self.nodes)


def read_classes(path: Path | None) -> dict[str, StudyClass]:
    """Read classes from a TOML file, by default the shipped ones; InvalidInputError names class and field."""
    if path is None:
        text = resources.files("penstock.twin.steer").joinpath("classes.toml").read_text("utf-8")
    else:
        text = path.read_text("utf-8")
    try:
        tables = tomllib.loads(text)
        return {name: _class(name, table) for name, table in tables.items()}
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(
            f"{path}: {error}; every class has memory_gib, bf16_tflops, interconnect_gb_per_s, power_watts, "
            "microeur_per_gpu_hour and premium",
            field="classes",
        ) from error


def _class(name: str, table: dict[str, object]) -> StudyClass:
    numbers: dict[str, int] = {}
    for field in (
        "memory_gib",
        "bf16_tflops",
        "interconnect_gb_per_s",
        "power_watts",
        "microeur_per_gpu_hour",
    ):
        value = table[field]
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"class '{name}': {field} is a whole number from 0 on, not {value!r}")
        numbers[field] = value
    memory_bytes = numbers["memory_gib"] * BYTES_PER_GIB
    facts = DeviceClass(
        name=name,
        vendor="",
        model=name,
        memory_bytes=memory_bytes,
        slices=1,
        slice_memory_bytes=memory_bytes,
        power_watts=numbers["power_watts"],
        match=(),
        source=str(table.get("source", "")),
        bf16_tflops=numbers["bf16_tflops"],
        interconnect_gb_per_s=numbers["interconnect_gb_per_s"],
    )
    return StudyClass(facts, numbers["microeur_per_gpu_hour"], bool(table["premium"]))


def read_nodes(path: Path, classes: dict[str, StudyClass]) -> MixedFleet:
    """Read a node list; InvalidInputError names the line that is wrong."""
    nodes: list[Node] = []
    left_out: dict[str, int] = {}
    for where, row in read_table(path, COLUMNS, "nodes"):
        text = row["gpu_capacity_num"]
        if not text.isdecimal() or not 1 <= int(text) <= GPUS_PER_NODE_MAX:
            raise InvalidInputError(
                f"{where}: gpu_capacity_num is from 1 to {GPUS_PER_NODE_MAX}, not '{text}'", field="nodes"
            )
        if len(nodes) >= NODES_MAX:
            raise InvalidInputError(f"{where}: a study has at most {NODES_MAX} nodes", field="nodes")
        if row["gpu_model"] in classes:
            nodes.append(Node(f"{row['node_name']} ({where})", row["gpu_model"], int(text)))
        else:
            left_out[row["gpu_model"]] = left_out.get(row["gpu_model"], 0) + int(text)
    if not nodes:
        raise InvalidInputError(f"{path}: no node of a class with facts; see --classes", field="nodes")
    return MixedFleet(tuple(nodes), classes, left_out)


def planner_fleet(mixed: MixedFleet) -> Fleet:
    """Return the nodes as the planner's own fleet; a node with links is one NVLink domain."""
    fleet = Fleet({name: one.facts for name, one in mixed.classes.items()})
    fleet.upsert_nodes(
        NodeState(node.name, True, 0, 0, 0, 0, frozenset({"simulated"}), "x86_64", "site", simulated=True)  # noqa: FBT003 - schedulable
        for node in mixed.nodes
    )
    fleet.upsert_devices(
        DeviceState(
            device_id=f"{node.name}/{position}",
            node_id=node.name,
            device_class=node.device_class,
            slices=1,
            memory_bytes=mixed.classes[node.device_class].facts.memory_bytes,
            slice_memory_bytes=mixed.classes[node.device_class].facts.memory_bytes,
            used_mask=0,
            healthy=True,
            nvlink_domain=node.name if mixed.classes[node.device_class].facts.interconnect_gb_per_s else None,
        )
        for node in mixed.nodes
        for position in range(node.gpus)
    )
    return fleet
