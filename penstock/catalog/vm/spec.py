"""The order form of kind ``vm`` and what an order of it asks for."""

from collections.abc import Mapping
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB, US_PER_HOUR
from penstock.catalog.base import Compiled, Known, Spec
from penstock.domain.claim import Ask
from penstock.domain.device import Attach
from penstock.domain.price import OF_MACHINES
from penstock.domain.quota import Measure, dimensions_of
from penstock.domain.vm import OVERHEAD_MIB
from penstock.rating.estimate import GpuOrder

ENGINE = "libvirt"
_BYTES_PER_MIB = 1 << 20
_MORE = {"x-group": "Rarely needed"}  # folded away in the order form
_NAME = {"type": "string", "minLength": 1, "maxLength": 63}


def _count(title: str, description: str, maximum: int, default: int, minimum: int = 1) -> dict[str, Any]:
    return {
        "type": "integer",
        "minimum": minimum,
        "maximum": maximum,
        "default": default,
        "title": title,
        "description": description,
    }


FORM: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {**_NAME, "title": "Image", "description": "name or id; see `penstock image list`"},
        "vcpus": _count("Processors", "virtual processors", limits.VM_VCPUS_MAX, 1),
        "memory_mib": _count("Memory (MiB)", "of the guest", limits.VM_MEMORY_MIB_MAX, 1_024, 64),
        "disk_gib": _count("Disk (GiB)", "at least as large as the image", limits.VM_DISK_GIB_MAX, 10),
        "architecture": {
            **_MORE,
            "type": "string",
            "enum": ["x86_64", "aarch64"],
            "default": "x86_64",
            "title": "Architecture",
            "description": "of the processor; the image must have the same",
        },
        "ssh_keys": {
            "type": "array",
            "items": _NAME,
            "maxItems": limits.VM_SSH_KEYS_MAX,
            "uniqueItems": True,
            "default": [],
            "title": "SSH keys",
            "description": "names of registered keys that may log in; see `penstock ssh-key list`",
        },
        "user_data": {
            **_MORE,
            "type": "string",
            "contentEncoding": "base64",
            "maxLength": limits.USER_DATA_BYTES_MAX * 4 // 3 + 4,
            "default": "",
            "title": "User data (base64)",
            "description": f"for cloud-init, up to {limits.USER_DATA_BYTES_MAX >> 10} KiB of any bytes, as base64",
        },
        "ports": {
            "type": "array",
            "items": _NAME,
            "maxItems": limits.VM_NICS_MAX,
            "uniqueItems": True,
            "default": [],
            "title": "Ports",
            "description": "names or ids of ports of your networks, one interface each; see `penstock port list`",
        },
        "subnets": {
            "type": "array",
            "items": _NAME,
            "maxItems": limits.VM_NICS_MAX,
            "default": [],
            "title": "Subnets",
            "description": "names or ids of subnets: a port is made in each, and goes with the machine",
        },
        "security_groups": {
            "type": "array",
            "items": _NAME,
            "maxItems": limits.VM_GROUPS_MAX,
            "uniqueItems": True,
            "default": [],
            "title": "Security groups",
            "description": "names or ids of groups that hold for those ports; in none, nobody comes in",
        },
        "bridges": {
            **_MORE,
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}$"},
            "maxItems": limits.VM_NICS_MAX,
            "default": [],
            "title": "Bridges of the host",
            "x-for": "operator",
            "description": "for operators, who fix them in an offer: one interface on each of these bridges",
        },
        "device_class": {
            **_MORE,
            "type": ["string", "null"],
            "maxLength": 63,
            "default": None,
            "title": "Device class",
            "description": "of accelerators that are passed through; null: none",
        },
        "devices": {
            **_MORE,
            **_count("Devices", "how many accelerators are passed through", limits.VM_DEVICES_MAX, 0, 0),
        },
        "tags": {
            **_MORE,
            "type": "object",
            "maxProperties": limits.VM_TAGS_MAX,
            "additionalProperties": {"type": "string", "maxLength": 255},
            "propertyNames": {"pattern": "^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$"},
            "default": {},
            "title": "Tags",
            "description": "names and values of your own",
        },
        "on_host_loss": {
            **_MORE,
            "type": "string",
            "enum": ["wait", "recreate"],
            "default": "wait",
            "title": "When its host is lost",
            "description": "wait: until the host is back, with its disk; recreate: elsewhere from the image, its disk is lost",
        },
    },
}


def compile_order(spec: Spec, known: Known) -> Compiled:
    """Return what an order asks for and holds; InvalidInputError names an impossible field."""
    name, count = spec["device_class"], spec["devices"]
    if (name is None) != (count == 0):
        raise InvalidInputError("say both, which devices and how many, or neither", field="spec.devices")
    holds: dict[tuple[Measure, str | None], int] = {(Measure.SERVICES, None): 1}
    memory_bytes = (spec["memory_mib"] + OVERHEAD_MIB) * _BYTES_PER_MIB
    gpus: list[GpuOrder] = []
    if name is not None:
        device = known.device_classes.get(name)
        if device is None:
            raise InvalidInputError(
                f"no device class '{name}'; there are: {', '.join(sorted(known.device_classes))}",
                field="spec.device_class",
            )
        holds[Measure.DEVICES, name] = count
        holds[Measure.DEVICE_MEMORY_BYTES, name] = count * device.memory_bytes
        gpus.append(GpuOrder(name, count, device.slices, device.slices))
    # The node's share is given per device where there are devices, all of them on one node.
    parts = max(count, 1)
    ask = Ask(
        count=count,
        device_class=name,
        node_memory_bytes=-(-memory_bytes // parts),
        node_cpu_millis=-(-spec["vcpus"] * 1_000 // parts),
        architecture=spec["architecture"],
        attaches=frozenset(Attach),
        networks=bool(spec["ports"] or spec["subnets"]),
        driver=ENGINE,
    )
    hours = tuple(
        (meter, spec["architecture"], amount * US_PER_HOUR)
        for meter, amount in zip(
            OF_MACHINES, (spec["vcpus"], spec["memory_mib"], spec["disk_gib"]), strict=True
        )
    )
    return Compiled((ask,), dimensions_of(holds), gpu_orders=tuple(gpus), priced_hours=hours)


def disk_fits(disk_gib: int, virtual_bytes: int) -> bool:
    """Tell whether a disk is as large as the image it begins with."""
    return disk_gib * BYTES_PER_GIB >= virtual_bytes
