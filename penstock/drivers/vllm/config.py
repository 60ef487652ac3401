"""What a replica on vLLM needs to know, checked field by field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from penstock.base.errors import InvalidInputError
from penstock.drivers.base import Config, Json

NAME_CHARACTERS_MAX = 128
DEVICES_MAX = 16
DEVICE_NUMBER_MAX = 1_023
CONTEXT_TOKENS_MAX = 1 << 24
ADAPTERS_MAX = 32
_FIELDS = frozenset(
    {"model_dir", "served_model_name", "devices", "device_class", "context_tokens", "fp8_cache", "adapters"}
)


def _bad(field: str, sentence: str) -> InvalidInputError:
    return InvalidInputError(sentence, field=field)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter: the model name it answers to, and its folder."""

    name: str
    folder: str


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """``devices`` are positions on the node; ``context_tokens`` 0 means the model's own length."""

    model_dir: str
    served_model_name: str
    devices: tuple[int, ...]
    device_class: str = "default"
    context_tokens: int = 0
    fp8_cache: bool = False
    adapters: tuple[Adapter, ...] = ()

    @classmethod
    def parse(cls, config: Config) -> "ReplicaConfig":
        """Return the checked form of ``config``; raises InvalidInputError naming the field; reads no disk."""
        unknown = sorted(set(config) - _FIELDS)
        if unknown:
            raise _bad(unknown[0], f"Unknown field {unknown[0]!r}.")
        fp8 = config.get("fp8_cache", False)
        if not isinstance(fp8, bool):
            raise _bad("fp8_cache", "fp8_cache must be true or false.")
        return cls(
            _folder(config.get("model_dir"), "model_dir"),
            _name(config.get("served_model_name"), "served_model_name"),
            _devices(config.get("devices")),
            _name(config.get("device_class", "default"), "device_class"),
            _whole(config.get("context_tokens", 0), "context_tokens", 0, CONTEXT_TOKENS_MAX),
            fp8,
            _adapters(config.get("adapters", [])),
        )

    def as_json(self) -> Config:
        """Return the fields for the state file."""
        return {
            "model_dir": self.model_dir,
            "served_model_name": self.served_model_name,
            "devices": list(self.devices),
            "device_class": self.device_class,
            "context_tokens": self.context_tokens,
            "fp8_cache": self.fp8_cache,
            "adapters": [{"name": one.name, "folder": one.folder} for one in self.adapters],
        }


def _folder(value: Json, field: str) -> str:
    if not isinstance(value, str) or "\0" in value or not Path(value).is_absolute():
        raise _bad(field, f"{field} must be an absolute path.")
    return value


def _name(value: Json, field: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARACTERS_MAX or not value.isprintable():
        raise _bad(field, f"{field} must be 1 to {NAME_CHARACTERS_MAX} printable characters.")
    return value


def _whole(value: Json, field: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _bad(field, f"{field} must be a whole number from {low} to {high}.")
    return value


def _devices(value: Json) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not 1 <= len(value) <= DEVICES_MAX:
        raise _bad(
            "devices", f"devices must be a list of 1 to {DEVICES_MAX} positions of devices of the node."
        )
    found = tuple(_whole(one, "devices", 0, DEVICE_NUMBER_MAX) for one in value)
    if len(set(found)) != len(found):
        raise _bad("devices", "devices names a device twice.")
    return found


def _adapters(value: Json) -> tuple[Adapter, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > ADAPTERS_MAX:
        raise _bad("adapters", f"adapters must be a list of at most {ADAPTERS_MAX} adapters.")
    found: list[Adapter] = []
    for one in value:
        if not isinstance(one, Mapping) or set(one) != {"name", "folder"}:
            raise _bad("adapters", "each adapter must have a name and a folder, and nothing else.")
        fields = cast("Mapping[str, Json]", one)
        found.append(Adapter(_name(fields["name"], "adapters"), _folder(fields["folder"], "adapters")))
    if len({one.name for one in found}) != len(found):
        raise _bad("adapters", "two adapters have the same name.")
    return tuple(found)
