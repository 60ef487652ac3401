"""What an enrolment changes: the facts an agent states, compared with the rows that are there.

Nothing here touches the database: the action in ``actions/node.py`` reads, asks this, and writes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import orjson

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.domain.device import Attach, DeviceClass, DeviceHealth, classify, classify_part, is_uuid
from penstock.domain.power_budget import host_mw
from penstock.drivers.base import DeviceFacts, NodeFacts
from penstock.store import device as device_store
from penstock.store import node as node_store
from penstock.store.rows import Row

NODES_MAX = 20_000
DEVICES_PER_NODE_MAX = 1_024
NODE_NAME_CHARACTERS_MAX = 253  # a fully qualified host name (RFC 1035)
COUNT_MAX = 1 << 20
MILLIS_PER_THREAD = 1_000
# Kept back for the operating system and the agent: a sixteenth of the memory, at most 8 GiB.
RESERVE_FRACTION = 16
RESERVE_BYTES_MAX = 8 * BYTES_PER_GIB

# What a device that no class matches is: one slice, its memory as its driver reports it, power not known.
UNKNOWN_CLASS = DeviceClass(
    name="unknown",
    vendor="unknown",
    model="an accelerator that no device class matches",
    memory_bytes=0,
    slices=1,
    slice_memory_bytes=0,
    power_watts=0,
    match=(),
    source="none: an operator adds the class that matches it",
)

NewId = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """The site that nodes are enrolled in; ``feed_budget_watts`` by feed name, where somebody knows it."""

    name: str
    simulated: bool
    timezone: str = "UTC"
    feed_budget_watts: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class Difference:
    """What must be written: rows in the form that the store's batches take."""

    new_nodes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    changed_nodes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    moved_nodes: list[str] = field(default_factory=list[str])
    new_devices: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    changed_devices: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    recut_devices: list[str] = field(default_factory=list[str])
    health: dict[str, str] = field(default_factory=dict[str, str])
    unsettled_nodes: set[str] = field(default_factory=set[str])

    @property
    def empty(self) -> bool:
        """Tell whether there is nothing to write."""
        return not (self.new_nodes or self.changed_nodes or self.new_devices or self.changed_devices)


def schedulable_memory_bytes(memory_bytes: int) -> int:
    """Return what may be given to services of a node's memory: all but the reserve."""
    return memory_bytes - min(memory_bytes // RESERVE_FRACTION, RESERVE_BYTES_MAX)


def check(site: SiteFacts, facts: Sequence[NodeFacts]) -> None:
    """Raise InvalidInputError naming the field if these facts cannot be."""
    _check_text(site.name, "site.name", limits.NAME_CHARACTERS_MAX)
    if len(facts) > NODES_MAX:
        raise InvalidInputError(f"at most {NODES_MAX} nodes in one enrolment", field="nodes")
    if len({node.name for node in facts}) != len(facts):
        raise InvalidInputError("two nodes have the same name", field="nodes")
    for index, node in enumerate(facts):
        _check_node(node, f"nodes.{index}")


def _check_node(node: NodeFacts, place: str) -> None:
    _check_text(node.name, f"{place}.name", NODE_NAME_CHARACTERS_MAX)
    for name in ("rack", "leaf", "spine", "core", "power_feed"):
        value = getattr(node, name)
        if value is not None:
            _check_text(value, f"{place}.{name}", limits.NAME_CHARACTERS_MAX)
    for name in ("architecture", "cpu_model"):
        _check_text(getattr(node, name), f"{place}.{name}", limits.TEXT_CHARACTERS_MAX, empty=True)
    for name in ("cpu_cores", "cpu_threads"):
        _check_range(getattr(node, name), f"{place}.{name}", COUNT_MAX)
    _check_range(node.memory_bytes, f"{place}.memory_bytes", 1 << 60)
    if len(node.devices) > DEVICES_PER_NODE_MAX:
        raise InvalidInputError(f"at most {DEVICES_PER_NODE_MAX} devices in a node", field=f"{place}.devices")
    if len({device.index for device in node.devices}) != len(node.devices):
        raise InvalidInputError("two devices have the same index", field=f"{place}.devices")
    mediated = [device.uuid for device in node.devices if device.attach == Attach.MDEV]
    if len(set(mediated)) != len(mediated):
        raise InvalidInputError("two mediated devices have the same uuid", field=f"{place}.devices")
    for number, device in enumerate(node.devices):
        _check_device(device, f"{place}.devices.{number}")


def _check_device(device: DeviceFacts, place: str) -> None:
    _check_range(device.index, f"{place}.index", DEVICES_PER_NODE_MAX)
    _check_range(device.memory_bytes, f"{place}.memory_bytes", 1 << 60)
    _check_text(device.device_class, f"{place}.device_class", limits.NAME_CHARACTERS_MAX, empty=True)
    for name in ("model", "vendor", "serial", "uuid", "pci_address", "nvlink_domain", "mdev_type"):
        value = getattr(device, name)
        if value is not None:
            _check_text(value, f"{place}.{name}", limits.TEXT_CHARACTERS_MAX, empty=True)
    if device.attach not in set(Attach):
        raise InvalidInputError(f"attach is one of {', '.join(sorted(Attach))}", field=f"{place}.attach")
    if device.attach == Attach.MDEV and not is_uuid(device.uuid or ""):
        raise InvalidInputError("a mediated device is named by its uuid", field=f"{place}.uuid")
    if device.health not in set(DeviceHealth):
        raise InvalidInputError(
            f"health is one of {', '.join(sorted(DeviceHealth))}", field=f"{place}.health"
        )


def _check_text(value: str, field: str, characters_max: int, *, empty: bool = False) -> None:
    if len(value) > characters_max or (not value and not empty) or "\0" in value:
        raise InvalidInputError(
            f"a text of {0 if empty else 1} to {characters_max} characters is needed", field=field
        )


def _check_range(value: int, field: str, below: int) -> None:
    if not 0 <= value < below:
        raise InvalidInputError(f"a number from 0 to {below - 1} is needed", field=field)


def node_row(
    facts: NodeFacts,
    agent_id: str,
    racks: Mapping[str, str],
    feeds: Mapping[str, str],
    drivers: Sequence[str],
) -> dict[str, Any]:
    """Return the fact columns of a node (``store.node.FACTS``) as the database would give them back."""
    row = {
        "rack_id": racks.get(facts.rack) if facts.rack else None,
        "agent_id": agent_id,
        "architecture": facts.architecture,
        "cpu_model": facts.cpu_model,
        "cpu_cores": facts.cpu_cores,
        "cpu_threads": facts.cpu_threads,
        "memory_bytes": schedulable_memory_bytes(facts.memory_bytes),
        "cpu_millis": facts.cpu_threads * MILLIS_PER_THREAD,
        "numa": list(facts.numa),
        "disks": list(facts.disks),
        "nics": list(facts.nics),
        "notes": list(facts.notes),
        "drivers": sorted(set(drivers)),
        "leaf": facts.leaf,
        "spine": facts.spine,
        "core": facts.core,
        "power_feed_id": feeds.get(facts.power_feed) if facts.power_feed else None,
        "host_mw": host_mw(facts.cpu_threads),
    }
    # Through JSON and back, so that tuples and other mappings compare equal to what the row will hold.
    return dict(orjson.loads(orjson.dumps(row, default=dict)))


def compare_nodes(
    difference: Difference, known: Mapping[str, Row], wanted: Mapping[str, dict[str, Any]], new_id: NewId
) -> dict[str, str]:
    """Note which nodes are new or changed; return the id of every wanted node by name."""
    ids: dict[str, str] = {}
    for name, facts in wanted.items():
        row = known.get(name)
        if row is None:
            ids[name] = new_id("node")
            difference.new_nodes.append({"id": ids[name], "name": name, **facts})
            continue
        ids[name] = row["id"]
        if any(row[column] != facts[column] for column in node_store.FACTS):
            difference.changed_nodes.append({"id": row["id"], **facts})
            if row["agent_id"] != facts["agent_id"]:
                difference.moved_nodes.append(row["id"])
    return ids


def compare_devices(
    difference: Difference,
    facts: Sequence[NodeFacts],
    ids: Mapping[str, str],
    known: Sequence[Row],
    classes: Mapping[str, DeviceClass],
    new_id: NewId,
) -> None:
    """Note which devices of the nodes are new, changed or gone. Gone ones stay, as failed."""
    rows = {(row["node_id"], row["position"]): row for row in known}
    named = dict(classes)
    for node in facts:
        node_id = ids[node.name]
        for position, device in _positions(node.devices, [row for row in known if row["node_id"] == node_id]):
            wanted = _device_row(device, named)
            row = rows.pop((node_id, position), None)
            if row is None:
                new = {"id": new_id("device"), "node_id": node_id, "position": position, **wanted}
                difference.new_devices.append(new)
                difference.unsettled_nodes.add(node_id)
            else:
                _compare_device(difference, row, wanted)
    enrolled = set(ids.values())
    for row in rows.values():
        if row["node_id"] in enrolled:
            same = {column: row[column] for column in device_store.FACTS}
            _compare_device(difference, row, {**same, "health": DeviceHealth.FAILED.value})


def _positions(devices: Sequence[DeviceFacts], known: Sequence[Row]) -> list[tuple[int, DeviceFacts]]:
    """Return each device with its position: its index, but a mediated device keeps the one that it had.

    Hosts make and remove mediated devices as they like, and a machine holds a position, which must not become another
    device. Theirs are above all indexes; one that is gone and that nobody holds leaves its position to the next.
    """
    mediated = [device for device in devices if device.attach == Attach.MDEV]
    rows = [row for row in known if row["attach"] == Attach.MDEV]
    had = {row["uuid"]: row["position"] for row in rows}
    named = {one.uuid for one in mediated}
    placed = [(device.index, device) for device in devices if device.attach != Attach.MDEV]
    placed += [(had[one.uuid], one) for one in mediated if one.uuid in had]
    taken = {row["position"] for row in rows if row["used_mask"] or row["uuid"] in named}
    free = (number for number in count(DEVICES_PER_NODE_MAX + 1) if number not in taken)
    return placed + [(next(free), one) for one in mediated if one.uuid not in had]


def _compare_device(difference: Difference, row: Row, wanted: dict[str, Any]) -> None:
    recut = (row["slices"], row["device_class"]) != (wanted["slices"], wanted["device_class"])
    if recut and row["used_mask"]:
        # A device that is held keeps its class and cut until it is free; the next enrolment changes it.
        recut = False
        wanted |= {column: row[column] for column in ("device_class", "slices", "slice_memory_bytes")}
    if all(row[column] == wanted[column] for column in device_store.FACTS):
        return
    difference.changed_devices.append({"id": row["id"], **wanted})
    if recut:
        difference.recut_devices.append(row["id"])
    if row["health"] != wanted["health"]:
        difference.health[row["id"]] = wanted["health"]
        difference.unsettled_nodes.add(row["node_id"])


def _device_row(facts: DeviceFacts, classes: dict[str, DeviceClass]) -> dict[str, Any]:
    """Return the fact columns of a device (``store.device.FACTS``)."""
    name = facts.device_class
    if name == UNKNOWN_CLASS.name or name not in classes:
        name = (
            classify_part(facts.model, facts.memory_bytes, classes)
            if facts.attach == Attach.MDEV
            else classify(facts.model, classes)
        )
    known = classes.get(name) if name != UNKNOWN_CLASS.name else None
    cut = known if facts.attach != Attach.MDEV else None  # a part is cut no further
    return {
        "device_class": name if known is not None else UNKNOWN_CLASS.name,
        "model": facts.model,
        "vendor": facts.vendor,
        "memory_bytes": facts.memory_bytes,
        "slices": cut.slices if cut is not None else 1,
        "slice_memory_bytes": cut.slice_memory_bytes if cut is not None else facts.memory_bytes,
        "serial": facts.serial,
        "uuid": facts.uuid,
        "pci_address": facts.pci_address,
        "numa_node": facts.numa_node
        if facts.numa_node is not None and 0 <= facts.numa_node < 1 << 15
        else None,
        "nvlink_domain": facts.nvlink_domain,
        "health": facts.health,
        "attach": facts.attach,
        "mdev_type": facts.mdev_type,
    }
