"""What a replica on CTranslate2 needs to know."""

from dataclasses import dataclass
from pathlib import Path

from penstock.base.errors import InvalidInputError
from penstock.drivers.base import Config
from penstock.drivers.ctranslate2.checkpoint import is_reference, resolve_model

DEVICES = ("auto", "cpu", "cuda")
THREADS_MAX = 256
NAME_CHARACTERS_MAX = 128
_FIELDS = {"model_dir", "served_model_name", "threads", "device"}


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """What a replica needs: a model, the name it answers to, processor threads, a device.

    ``model_dir`` is a folder of the node, or ``package:NAME`` for a model that ships with Penstock.
    """

    model_dir: str
    served_model_name: str
    threads: int = 1
    device: str = "auto"

    @classmethod
    def parse(cls, config: Config) -> "ReplicaConfig":
        """Return the checked form of ``config``; raises InvalidInputError naming the field; reads no disk."""
        unknown = sorted(set(config) - _FIELDS)
        if unknown:
            raise InvalidInputError(f"Unknown field {unknown[0]!r}.", field=unknown[0])
        folder, name = config.get("model_dir"), config.get("served_model_name")
        if not isinstance(folder, str) or not is_reference(folder):
            raise InvalidInputError(
                "model_dir must be an absolute path, or package: and the name of a model that ships with Penstock.",
                field="model_dir",
            )
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
            sentence = f"served_model_name must be 1 to {NAME_CHARACTERS_MAX} printable characters."
            raise InvalidInputError(sentence, field="served_model_name")
        threads = config.get("threads", 1)
        if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= THREADS_MAX:
            raise InvalidInputError(
                f"threads must be a whole number from 1 to {THREADS_MAX}.", field="threads"
            )
        device = config.get("device", "auto")
        if not isinstance(device, str) or device not in DEVICES:
            raise InvalidInputError(f"device must be one of {', '.join(DEVICES)}.", field="device")
        return cls(folder, name, threads, device)

    @property
    def folder(self) -> Path:
        """Return where the model is on this machine."""
        return resolve_model(self.model_dir)

    def as_json(self) -> Config:
        """Return the fields for the state file."""
        return {
            "model_dir": self.model_dir,
            "served_model_name": self.served_model_name,
            "threads": self.threads,
            "device": self.device,
        }
