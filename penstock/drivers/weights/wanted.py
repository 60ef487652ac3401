"""Which artefacts an engine's config needs, and the same config with the folders where they lie on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.weights import is_digest
from penstock.drivers.base import Config, Json

FIELD = "weights"


@dataclass(frozen=True, slots=True)
class WantedWeights:
    """One artefact; ``folder`` is what the rest of the config calls it: where it lies on the control plane's host."""

    folder: str
    sha256: str
    size_bytes: int


def split(config: Config) -> tuple[Config, tuple[WantedWeights, ...]]:
    """Return a config without its field ``weights``, and what stood there; InvalidInputError if it is malformed."""
    given = config.get(FIELD)
    if given is None:
        return config, ()
    rows = cast("Sequence[Mapping[str, object]]", given) if isinstance(given, list | tuple) else None
    if rows is None or len(rows) > 1 + limits.ADAPTERS_PER_SERVICE_MAX:
        raise InvalidInputError("weights must be a list of artefacts", field=FIELD)
    found = tuple(_one(row) for row in rows)
    return {name: value for name, value in config.items() if name != FIELD}, found


def _one(row: object) -> WantedWeights:
    if isinstance(row, Mapping):
        fields = cast("Mapping[str, object]", row)
        folder, digest, size = fields.get("folder"), fields.get("sha256"), fields.get("size_bytes")
        if (
            isinstance(folder, str)
            and isinstance(digest, str)
            and isinstance(size, int)
            and is_digest(digest)
        ):
            return WantedWeights(folder, digest, size)
    raise InvalidInputError("an artefact has folder, sha256 and size_bytes", field=FIELD)


def as_json(wanted: Sequence[WantedWeights]) -> list[Json]:
    """Return the form that stands in a config."""
    return [{"folder": w.folder, "sha256": w.sha256, "size_bytes": w.size_bytes} for w in wanted]


def relocated(config: Config, places: Mapping[str, str]) -> Config:
    """Return ``config`` with each folder that is a key of ``places`` replaced, wherever it stands."""
    return {name: _relocated(value, places) for name, value in config.items()}


def _relocated(value: Json, places: Mapping[str, str]) -> Json:
    if isinstance(value, str):
        return places.get(value, value)
    if isinstance(value, Mapping):
        return {name: _relocated(one, places) for name, one in value.items()}
    if isinstance(value, Sequence):
        return [_relocated(one, places) for one in value]
    return value
