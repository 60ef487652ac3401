"""Weights in the safetensors format, read tensor by tensor without loading a file as a whole.

The format (https://huggingface.co/docs/safetensors#format) is the length of a header in eight bytes, a JSON header of
names, types, shapes and offsets, and the data. Every offset is checked against the file before it is used.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

from penstock.base.errors import InvalidInputError

INDEX = "model.safetensors.index.json"
HEADER_BYTES_MAX = 64 << 20
_TYPES: Mapping[str, tuple[str, int]] = {
    "F64": ("<f8", 8),
    "F32": ("<f4", 4),
    "F16": ("<f2", 2),
    "BF16": ("<u2", 2),  # the upper half of a 32-bit float
}


@dataclass(frozen=True, slots=True)
class _Place:
    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int


class Tensors:
    """The tensors of a checkpoint by name, over all files of it."""

    def __init__(self, places: Mapping[str, _Place]) -> None:
        self._places = places

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; InvalidInputError if there is none of that name."""
        return self._place(name).shape

    def read(self, name: str) -> Any:
        """Return a tensor as a NumPy array of 32-bit floats; InvalidInputError if there is none of that name."""
        numpy: Any = importlib.import_module("numpy")
        place = self._place(name)
        kind, _ = _TYPES[place.dtype]
        found = numpy.memmap(place.file, dtype=kind, mode="r", offset=place.begin, shape=(prod(place.shape),))
        if place.dtype == "BF16":
            found = (found.astype("<u4") << 16).view("<f4")
        return numpy.array(found, dtype="float32").reshape(place.shape)

    def _place(self, name: str) -> _Place:
        place = self._places.get(name)
        if place is None:
            raise InvalidInputError(f"the weights have no tensor {name}.", field="model.safetensors")
        return place


def open_tensors(folder: Path, alone: str = "model.safetensors") -> Tensors:
    """Return the tensors of a folder: of the file ``alone``, or of the files that its index names.

    Raises InvalidInputError naming the file that is missing or damaged.
    """
    names = [alone] if (folder / alone).is_file() else _indexed(folder)
    places: dict[str, _Place] = {}
    for name in names:
        places |= _places(folder / name)
    return Tensors(places)


def _indexed(folder: Path) -> list[str]:
    try:
        index = cast("Mapping[str, Any]", json.loads((folder / INDEX).read_text("utf-8")))
        names = sorted({str(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InvalidInputError(
            f"there are no weights in {folder}: neither model.safetensors nor a readable {INDEX}.",
            field="model.safetensors",
        ) from error
    for name in names:
        if "/" in name or not (folder / name).is_file():
            raise InvalidInputError(f"{name} is missing in {folder}.", field=name)
    return names


def _places(file: Path) -> dict[str, _Place]:
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = _header(stream.read(min(length, HEADER_BYTES_MAX)), length)
        return {
            name: _place(file, about, 8 + length, size)
            for name, about in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"{file.name} is damaged: {error}.", field=file.name) from error


def _header(data: bytes, length: int) -> Mapping[str, Any]:
    if len(data) < length:
        raise ValueError("its header is longer than it can be")
    return cast("Mapping[str, Any]", json.loads(data))


def _place(file: Path, about: Mapping[str, Any], base: int, size: int) -> _Place:
    dtype, shape = str(about["dtype"]), tuple(int(one) for one in about["shape"])
    begin, end = (int(one) for one in about["data_offsets"])
    if dtype not in _TYPES:
        raise ValueError(f"tensors of type {dtype} are not converted")
    if (
        min((0, *shape)) < 0
        or begin < 0
        or end - begin != prod(shape) * _TYPES[dtype][1]
        or base + end > size
    ):
        raise ValueError("a tensor lies beyond its end")
    return _Place(file, dtype, shape, base + begin)
