"""The command line and environment of `vllm serve` for a model on devices of a class. Pure but for its data file."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from penstock.base.errors import InvalidInputError
from penstock.drivers.vllm.checkpoint import RANKS, AdapterShape, ModelShape
from penstock.drivers.vllm.config import ReplicaConfig

# vLLM finds these in the model's config by itself and picks the fastest kernels; named here, it would be held to slower ones.
_FOUND_BY_ITSELF = frozenset({"awq", "gptq"})


@dataclass(frozen=True, slots=True)
class ClassArguments:
    """What a class of device wants; see arguments.toml."""

    memory_utilization_percent: int
    bfloat16: bool
    fp8_cache: bool
    visible: Sequence[str]
    environment: Mapping[str, str]


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads(resources.files(__package__ or "").joinpath("arguments.toml").read_text("utf-8"))


def class_arguments(device_class: str) -> ClassArguments:
    """Return what is known of a class, the defaults for one that is not in the table."""
    table = _table()
    row = {**table["default"], **table.get(device_class, {})}
    return ClassArguments(
        int(row["memory_utilization_percent"]),
        bool(row["bfloat16"]),
        bool(row["fp8_cache"]),
        tuple(row["visible"]),
        dict(row.get("environment", {})),
    )


def check(config: ReplicaConfig, model: ModelShape) -> None:
    """Raise InvalidInputError unless the model can be laid over the devices as the config wants it."""
    count = len(config.devices)
    if model.attention_heads % count:
        fitting = [n for n in range(1, 17) if model.attention_heads % n == 0]
        raise InvalidInputError(
            f"a model with {model.attention_heads} attention heads cannot be split over {count} devices; give "
            f"{', '.join(map(str, fitting))}",
            field="devices",
        )
    if model.context_tokens and config.context_tokens > model.context_tokens:
        raise InvalidInputError(
            f"the model reads {model.context_tokens} tokens at most", field="context_tokens"
        )
    if config.fp8_cache and not class_arguments(config.device_class).fp8_cache:
        raise InvalidInputError(
            f"devices of class {config.device_class} keep no cache in 8 bits", field="fp8_cache"
        )


def command(
    program: str, port: int, config: ReplicaConfig, model: ModelShape, adapters: Sequence[AdapterShape]
) -> list[str]:
    """Return the command; every argument is one that vLLM has had since 0.6."""
    known = class_arguments(config.device_class)
    line = [program, "serve", config.model_dir, "--host", "127.0.0.1", "--port", str(port)]
    line += ["--served-model-name", config.served_model_name]
    line += ["--tensor-parallel-size", str(len(config.devices))]
    line += ["--gpu-memory-utilization", f"{known.memory_utilization_percent / 100:.2f}"]
    line += ["--dtype", "half" if model.dtype == "bfloat16" and not known.bfloat16 else "auto"]
    if model.quantization is not None and model.quantization not in _FOUND_BY_ITSELF:
        line += ["--quantization", model.quantization]
    if config.context_tokens:
        line += ["--max-model-len", str(config.context_tokens)]
    if config.fp8_cache:
        line += ["--kv-cache-dtype", "fp8"]
    if config.adapters:
        rank = max(shape.rank for shape in adapters)
        line += ["--enable-lora", "--max-loras", str(len(config.adapters))]
        line += ["--max-lora-rank", str(next(known for known in RANKS if known >= rank))]
        line += ["--lora-modules", *(f"{one.name}={one.folder}" for one in config.adapters)]
    return line


def environment(config: ReplicaConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment: its devices and no others, no calls home, and none of this factory's own settings."""
    known = class_arguments(config.device_class)
    mine = ",".join(map(str, config.devices))
    return {
        **{name: value for name, value in inherited.items() if not name.startswith("PENSTOCK_")},
        **known.environment,
        **dict.fromkeys(known.visible, mine),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order in which the node's devices are numbered
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
