"""Which engine serves an order, and what one replica of it takes: a share of a node, or whole devices of one node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.catalog.base import Draft, Known, ModelFacts, Place, Spec
from penstock.domain.claim import Ask, Grant, Level
from penstock.domain.device import DeviceClass
from penstock.domain.quota import Measure
from penstock.rating.estimate import GpuOrder

CTRANSLATE2, VLLM = "ctranslate2", "vllm"
DEVICES_MAX = 8
CONTEXT_TOKENS_MAX = 1 << 24

_GROUP = "Engine and accelerators"  # forms fold these away together
ENGINE_FIELDS: Mapping[str, Any] = {
    "engine": {
        "type": "string",
        "enum": [CTRANSLATE2, VLLM],
        "title": "Engine",
        "x-group": _GROUP,
        "description": "ctranslate2 runs on the processor of any node, vllm on accelerators; without it, as the model and 'device_class' have it",
    },
    "device_class": {
        "type": "string",
        "minLength": 1,
        "maxLength": 63,
        "title": "Device class",
        "x-group": _GROUP,
        "description": "for engine vllm: the accelerators that each replica gets, for example H100",
    },
    "devices": {
        "type": "integer",
        "minimum": 0,
        "maximum": DEVICES_MAX,
        "title": "Devices of a replica",
        "x-group": _GROUP,
        "description": "for engine vllm: whole devices of one node, over which the model is split; 0: as many as it needs",
    },
    "context_tokens": {
        "type": "integer",
        "minimum": 0,
        "maximum": CONTEXT_TOKENS_MAX,
        "title": "Context",
        "x-group": _GROUP,
        "description": "for engine vllm: tokens of the longest request; 0: as long as the model was made for",
    },
    "fp8_cache": {
        "type": "boolean",
        "title": "Cache in 8 bits",
        "x-group": _GROUP,
        "description": "for engine vllm: keep keys and values in 8 bits, for about twice as many requests at a time",
    },
    "adapters": {
        "type": "array",
        "maxItems": limits.ADAPTERS_PER_SERVICE_MAX,
        "uniqueItems": True,
        "items": {"type": "string", "minLength": 1, "maxLength": 63},
        "title": "Adapters",
        "description": "for engine vllm: LoRA adapters of the model; clients call each as ENDPOINT:ADAPTER",
    },
}
_FOR_DEVICES = ("device_class", "devices", "context_tokens", "fp8_cache", "adapters")

# One process of CTranslate2: its own code and buffers, and the weights with room for activations and the cache.
ENGINE_MEMORY_BYTES = 128 << 20
WEIGHTS_MEMORY_FACTOR = 2
REPLICA_CPU_MILLIS = 250
# vLLM: the part of a device's memory that weights may take, so that a cache worth having is left, and what a
# process for each device takes of the node.
WEIGHTS_MEMORY_PERCENT = 65
NODE_MEMORY_BYTES_PER_DEVICE = 4 * BYTES_PER_GIB
NODE_CPU_MILLIS_PER_DEVICE = 1_000


@dataclass(frozen=True, slots=True)
class ReplicaOrder:
    """What one replica asks of placement, holds of quotas, and costs besides its tokens."""

    ask: Ask
    holds: Mapping[tuple[Measure, str | None], int]
    gpu_orders: tuple[GpuOrder, ...] = ()


def engine_of(spec: Spec, model: ModelFacts) -> str:
    """Return the engine that serves the order; InvalidInputError names the field that does not go with it."""
    wanted = spec.get("engine") or (VLLM if spec.get("device_class") else None)
    fitting = [engine for engine in (CTRANSLATE2, VLLM) if engine in model.engines]
    if not fitting:
        raise InvalidInputError(f"no engine of this factory serves '{model.name}'", field="spec.model")
    engine = wanted or fitting[0]
    if engine not in fitting:
        field = "spec.engine" if spec.get("engine") else "spec.device_class"
        raise InvalidInputError(f"'{model.name}' is served by {', '.join(fitting)}", field=field)
    if engine == CTRANSLATE2:
        for name in _FOR_DEVICES:
            if spec.get(name):
                raise InvalidInputError(
                    f"'{name}' is for engine vllm, ctranslate2 has no such thing; leave it out or order another engine",
                    field=f"spec.{name}",
                )
    return engine


def replica_of(spec: Spec, model: ModelFacts, known: Known) -> ReplicaOrder:
    """Return what one replica takes."""
    if engine_of(spec, model) == CTRANSLATE2:
        memory_bytes = ENGINE_MEMORY_BYTES + WEIGHTS_MEMORY_FACTOR * model.size_bytes
        ask = Ask(
            count=0,
            node_memory_bytes=memory_bytes,
            node_cpu_millis=REPLICA_CPU_MILLIS,
            driver=CTRANSLATE2,
            prefer_nodes=model.held_by,
        )
        return ReplicaOrder(ask, {})
    adapters_of(spec, model, known)
    device = _class_of(spec, known)
    count = spec.get("devices") or devices_needed(model.size_bytes, device)
    ask = Ask(
        count=count,
        device_class=device.name,
        node_memory_bytes=NODE_MEMORY_BYTES_PER_DEVICE,
        node_cpu_millis=NODE_CPU_MILLIS_PER_DEVICE,
        within=Level.NODE if count > 1 else None,
        driver=VLLM,
        prefer_nodes=model.held_by,
    )
    holds: dict[tuple[Measure, str | None], int] = {
        (Measure.DEVICES, device.name): count,
        (Measure.DEVICE_MEMORY_BYTES, device.name): count * device.memory_bytes,
    }
    return ReplicaOrder(ask, holds, (GpuOrder(device.name, count, device.slices, device.slices),))


def adapters_of(spec: Spec, model: ModelFacts, known: Known) -> list[ModelFacts]:
    """Return the adapters that were ordered; InvalidInputError names one that is none of this model's."""
    found: list[ModelFacts] = []
    for name in spec.get("adapters", ()):
        adapter = known.models.get(name)
        if adapter is None or adapter.base_model != model.name:
            fitting = sorted(one.name for one in known.models.values() if one.base_model == model.name)
            raise InvalidInputError(
                f"'{name}' is no adapter of '{model.name}'; there are: {', '.join(fitting) or 'none'}",
                field="spec.adapters",
            )
        found.append(adapter)
    return found


def _class_of(spec: Spec, known: Known) -> DeviceClass:
    name = spec.get("device_class")
    device = known.device_classes.get(name or "")
    if device is None:
        problem = f"no device class '{name}'" if name else "say on which class of device its replicas run"
        raise InvalidInputError(
            f"{problem}; there are: {', '.join(sorted(known.device_classes))}", field="spec.device_class"
        )
    return device


def devices_needed(weights_bytes: int, device: DeviceClass) -> int:
    """Return how many devices hold the weights with room for a cache: a power of two, as heads split; at most 8."""
    count = 1
    while count * device.memory_bytes * WEIGHTS_MEMORY_PERCENT < weights_bytes * 100:
        count *= 2
        if count > DEVICES_MAX:
            raise InvalidInputError(
                f"{DEVICES_MAX} {device.name} do not hold this model; order a class with more memory",
                field="spec.device_class",
            )
    return count


def draft_of(
    name: str, spec: Spec, known: Known, grants: Sequence[Grant], places: Mapping[str, Place]
) -> Draft:
    """Return what an agent must start for one replica; clients call the endpoint by ``name``."""
    model = known.models[spec["model"]]
    engine = engine_of(spec, model)
    config: dict[str, Any] = {"model_dir": model.folder, "served_model_name": name}
    used = [model] if engine == CTRANSLATE2 else [model, *adapters_of(spec, model, known)]
    weights = [
        {"folder": one.folder, "sha256": one.sha256, "size_bytes": one.size_bytes}
        for one in used
        if one.sha256 is not None
    ]
    if weights:
        config["weights"] = weights
    if engine == CTRANSLATE2:
        config |= {"threads": 1, "device": "auto"}
    else:
        config |= {
            "devices": sorted(places[grant.device_id or ""].device_position or 0 for grant in grants),
            "device_class": spec["device_class"],
            "context_tokens": spec.get("context_tokens", 0),
            "fp8_cache": spec.get("fp8_cache", False),
            "adapters": [
                {"name": f"{name}:{adapter.name}", "folder": adapter.folder}
                for adapter in adapters_of(spec, model, known)
            ],
        }
    return Draft(grants[0].node_id, engine, config, tuple(grants))
