"""The order form of kind ``gpu`` and what an order of it asks for."""

from collections.abc import Mapping
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.catalog.base import Compiled, Known, Spec
from penstock.catalog.gpu.needs import FIELDS, NEEDS_GROUP, classes_for
from penstock.domain.claim import Ask, Level
from penstock.domain.fabric_partition import NAME_PATTERN, check_name
from penstock.domain.quota import Measure, dimensions_of
from penstock.rating.estimate import GpuOrder

FORM: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["count"],
    "properties": {
        "count": {
            "type": "integer",
            "minimum": 1,
            "maximum": limits.DEVICES_PER_SERVICE_MAX,
            "default": 1,
            "title": "Devices",
            "description": "how many devices, or how many slices if 'slices' is set",
        },
        "device_class": {
            "type": ["string", "null"],
            "maxLength": 63,
            "default": None,
            "title": "Device class",
            "description": "for example GB200; null: the cheapest class that meets the needs and has room",
        },
        "memory_gib_min": {
            "type": "integer",
            "minimum": 0,
            "maximum": 4096,
            "default": 0,
            "title": "Memory at least (GiB)",
            "x-group": NEEDS_GROUP,
            "description": "per device, or per slice if 'slices' is set",
        },
        "slices": {
            "type": "integer",
            "minimum": 0,
            "maximum": 8,
            "default": 0,
            "title": "Slices of a device",
            "x-group": "Slices",
            "description": "0: whole devices; n: each piece is n adjacent slices of one device",
        },
        "same_nvlink_domain": {
            "type": "boolean",
            "default": False,
            "title": "All in one NVLink domain",
            "x-group": "Where they stand to each other",
            "description": "place every device where all can reach all over NVLink",
        },
        "domains_max": {
            "type": "integer",
            "minimum": 0,
            "maximum": limits.DOMAINS_PER_SERVICE_MAX,
            "default": 0,
            "title": "NVLink domains at most",
            "x-group": "Where they stand to each other",
            "description": "in how many NVLink domains the devices may be; 0: no matter",
        },
        "within": {
            "type": ["string", "null"],
            "enum": [None, *(level.value for level in Level)],
            "default": None,
            "title": "All in one",
            "x-group": "Where they stand to each other",
            "description": "node, rack, leaf (one leaf switch) or pod; null: anywhere at one site",
        },
        "fabric": {
            "type": ["string", "null"],
            "pattern": NAME_PATTERN,
            "maxLength": limits.NAME_CHARACTERS_MAX,
            "default": None,
            "title": "Fabric partition",
            "x-group": "Where they stand to each other",
            "description": "name of the project's InfiniBand partition that its nodes join, and nobody else is on them",
        },
        **FIELDS,
        "preemptible": {
            "type": "boolean",
            "default": False,
            "title": "Yields",
            "x-group": "May be interrupted",
            "description": "may be stopped, and queued again, when an order that does not yield needs its place",
        },
    },
}


def compile_order(spec: Spec, known: Known) -> Compiled:
    """Return what an order asks for and holds; InvalidInputError names an impossible field."""
    name: str | None = spec["device_class"]
    slices: int = spec["slices"]
    count: int = spec["count"]
    memory_bytes_min = spec["memory_gib_min"] * BYTES_PER_GIB
    if name is not None:
        _check_class(name, slices, memory_bytes_min, known)
    _check_shape(spec)
    ask = Ask(
        count=count,
        device_class=name,
        memory_bytes_min=memory_bytes_min,
        slices=slices,
        same_nvlink_domain=spec["same_nvlink_domain"],
        domains_max=spec.get("domains_max", 0),  # a service ordered before there were shapes has none
        within=Level(spec["within"]) if spec.get("within") else None,
        classes=classes_for(spec, known),
        preemptible=spec.get("preemptible", False),
        driver="simulated",
        fabric=spec.get("fabric") is not None,
    )
    measure = Measure.SLICES if slices else Measure.DEVICES
    amounts: dict[tuple[Measure, str | None], int] = {
        (measure, name): count * (slices or 1),
        (Measure.SERVICES, None): 1,
    }
    if name is not None:
        device = known.device_classes[name]
        memory_bytes = device.slice_memory_bytes * slices if slices else device.memory_bytes
        amounts[(Measure.DEVICE_MEMORY_BYTES, name)] = count * memory_bytes
    priced = (
        []
        if name is None
        else [GpuOrder(name, count, slices or device_slices(name, known), device_slices(name, known))]
    )
    return Compiled((ask,), dimensions_of(amounts), gpu_orders=tuple(priced))


def class_holds(spec: Spec, device_class: str, known: Known) -> dict[str, int]:
    """Return what an order without a class holds of quotas once its class is known; nothing if it named one."""
    if spec["device_class"] is not None:
        return {}
    slices: int = spec["slices"]
    device = known.device_classes[device_class]
    measure = Measure.SLICES if slices else Measure.DEVICES
    memory_bytes = spec["count"] * (device.slice_memory_bytes * slices if slices else device.memory_bytes)
    return {
        f"{measure}:{device_class}": spec["count"] * (slices or 1),
        f"{Measure.DEVICE_MEMORY_BYTES}:{device_class}": memory_bytes,
        Measure.DEVICE_MEMORY_BYTES.value: memory_bytes,
    }


def device_slices(name: str, known: Known) -> int:
    """Return how many slices a device of class ``name`` has."""
    return known.device_classes[name].slices


def _check_shape(spec: Spec) -> None:
    """Raise InvalidInputError for a shape that slices cannot have or that says two things."""
    if spec.get("fabric") is not None:
        check_name(spec["fabric"], "spec.fabric")
    for field in ("slices", "preemptible"):
        if spec.get("fabric") is not None and spec.get(field):
            raise InvalidInputError(
                f"what joins a partition of the fabric has its nodes to itself; leave '{field}' out",
                field=f"spec.{field}",
            )
    for field in ("domains_max", "within"):
        if spec["slices"] and spec.get(field):
            raise InvalidInputError(
                f"'{field}' is for whole devices; leave it out or set 'slices' to 0", field=f"spec.{field}"
            )
    if spec["same_nvlink_domain"] and spec.get("domains_max", 0) > 1:
        raise InvalidInputError(
            "'same_nvlink_domain' already says one domain; leave one of the two out", field="spec.domains_max"
        )


def _check_class(name: str, slices: int, memory_bytes_min: int, known: Known) -> None:
    device = known.device_classes.get(name)
    if device is None:
        raise InvalidInputError(
            f"no device class '{name}'; there are: {', '.join(sorted(known.device_classes))}",
            field="spec.device_class",
        )
    if slices and (device.slices <= 1 or slices > device.slices):
        raise InvalidInputError(
            f"a {name} can be cut into {device.slices} slices at most"
            if device.slices > 1
            else f"a {name} cannot be cut",
            field="spec.slices",
        )
    memory_bytes = device.slice_memory_bytes * slices if slices else device.memory_bytes
    if memory_bytes < memory_bytes_min:
        raise InvalidInputError(
            f"a {'slice of this size' if slices else name} has {memory_bytes // BYTES_PER_GIB} GiB",
            field="spec.memory_gib_min",
        )
