"""A LoRA adapter merged into the weights that it changes: W + scale * B A, as PEFT defines it."""

import json
import math
from pathlib import Path
from typing import Any, cast

from penstock.base.errors import InvalidInputError
from penstock.drivers.ctranslate2.tensors import Tensors, open_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_UNKNOWN = (
    "use_dora",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layer_replication",
)


class Adapter:
    """The changes of one adapter, by the name of the tensor that each is for."""

    def __init__(self, tensors: Tensors, scale: float) -> None:
        self._tensors = tensors
        self._scale = scale
        self._unused = {name.rpartition(".lora_")[0].removeprefix(_PREFIX) + ".weight" for name in tensors}

    @classmethod
    def open(cls, folder: Path) -> "Adapter":
        """Read an adapter's folder; InvalidInputError says what of it cannot be merged."""
        try:
            config = cast("dict[str, Any]", json.loads((folder / CONFIG).read_text("utf-8")))
            rank, alpha = int(config["r"]), float(config["lora_alpha"])
            root = bool(config.get("use_rslora", False))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(
                f"{CONFIG} in {folder} is not that of a LoRA adapter: {error!r}.", field=CONFIG
            ) from error
        special = next((name for name in _UNKNOWN if config.get(name)), None)
        if config.get("peft_type") != "LORA" or special or rank < 1 or config.get("bias", "none") != "none":
            what = special or config.get("peft_type")
            raise InvalidInputError(
                f"adapters with {what!r} are not merged; plain LoRA without bias is.", field=CONFIG
            )
        if not (folder / WEIGHTS).is_file():
            raise InvalidInputError(f"{WEIGHTS} is missing in {folder}.", field=WEIGHTS)
        tensors = open_tensors(folder, WEIGHTS)
        strange = next(
            (name for name in tensors if not name.endswith((".lora_A.weight", ".lora_B.weight"))), None
        )
        if strange is not None:
            raise InvalidInputError(
                f"{WEIGHTS} has {strange}, which no plain LoRA adapter has.", field=WEIGHTS
            )
        return cls(tensors, alpha / (math.sqrt(rank) if root else rank))

    def merged(self, name: str, weight: Any) -> Any:
        """Return a tensor of the base with the adapter's change to it, if there is one."""
        if name not in self._unused:
            return weight
        self._unused.discard(name)
        module = f"{_PREFIX}{name.removesuffix('.weight')}"
        down, up = (self._tensors.read(f"{module}.lora_{part}.weight") for part in "AB")
        if (up.shape[0], down.shape[1]) != weight.shape or up.shape[1] != down.shape[0]:
            raise InvalidInputError(
                f"the adapter's change of {name} has another shape than the base.", field=WEIGHTS
            )
        return weight + self._scale * (up @ down)

    def check_used(self) -> None:
        """Raise InvalidInputError if the adapter changes something that the base does not have."""
        if self._unused:
            raise InvalidInputError(
                f"the base has no {min(self._unused)}, which the adapter changes.", field=WEIGHTS
            )
