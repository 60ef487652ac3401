"""Node and request lists: the CSV files of the openb traces, plain or gzipped, checked line by line."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penstock.base.errors import InvalidInputError
from penstock.base.limits import TRACE_BYTES_MAX, TRACE_LINES_MAX
from penstock.scheduler.arrays import I64
from penstock.scheduler.packing.residual import NodeKind, Request, Residuals
from penstock.scheduler.packing.shape import ANY_MODEL, WHOLE_MILLI, Shapes, shapes_of

_NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
_POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
_POD_EXTRAS = ("qos", "pod_phase", "creation_time", "deletion_time", "scheduled_time")
_MODELS_MAX = 60
_DEVICES_PER_NODE_MAX = 64
_AMOUNT_MAX = 1 << 40


@dataclass(frozen=True, slots=True)
class Fleet:
    """The nodes of a file, and the names of the device models that they number."""

    nodes: list[NodeKind]
    models: tuple[str, ...]

    @property
    def capacity_milli(self) -> int:
        """Return the thousandths of devices in the fleet."""
        return sum(node.devices for node in self.nodes) * WHOLE_MILLI


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests of a file: the distinct shapes, and for each line which one it is."""

    shapes: Shapes
    rows: I64


def _lines(
    path: Path, columns: tuple[str, ...], extras: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, fields); raises InvalidInputError for what is not such a file."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = zlib.decompressobj(wbits=31).decompress(raw, TRACE_BYTES_MAX + 1)
        except (zlib.error, gzip.BadGzipFile) as error:
            raise InvalidInputError(
                f"{path}: broken gzip ({error}); give the file as it was published"
            ) from error
    if len(raw) > TRACE_BYTES_MAX:
        raise InvalidInputError(f"{path}: larger than {TRACE_BYTES_MAX} bytes; split the study")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: not UTF-8 text; give a CSV file, plain or gzipped") from error
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        head: list[str] = next(reader, list[str]())
        _check_head(path, head, columns, extras)
        for line in reader:
            if not line:
                continue
            if reader.line_num > TRACE_LINES_MAX:
                raise InvalidInputError(f"{path}: more than {TRACE_LINES_MAX} lines; split the study")
            if len(line) != len(head):
                raise InvalidInputError(
                    f"{path} line {reader.line_num}: {len(line)} fields, the head has {len(head)}; mend the line"
                )
            yield reader.line_num, dict(zip(head, line, strict=True))
    except csv.Error as error:
        raise InvalidInputError(f"{path} line {reader.line_num}: {error}; mend the line") from error


def _check_head(path: Path, head: list[str], columns: tuple[str, ...], extras: tuple[str, ...]) -> None:
    unknown = [name for name in head if name not in columns and name not in extras]
    missing = [name for name in columns if name not in head]
    if unknown or missing or len(set(head)) != len(head):
        raise InvalidInputError(
            f"{path} line 1: unknown columns: {', '.join(map(repr, unknown)) or 'none'}; missing: "
            f"{', '.join(missing) or 'none'}; the columns are {', '.join(columns)}, each once"
            + (f", and may be {', '.join(extras)}" if extras else "")
        )


def _amount(path: Path, line: int, fields: dict[str, str], column: str, most: int = _AMOUNT_MAX) -> int:
    text = fields[column].strip()
    if not (text.isascii() and text.isdigit()) or int(text[:20]) > most:
        raise InvalidInputError(
            f"{path} line {line}: {column} is {text[:40]!r}; it must be a whole number from 0 to {most}"
        )
    return int(text)


def read_nodes(path: Path) -> Fleet:
    """Return the nodes in ``path``; raises InvalidInputError with the line that is wrong."""
    kinds: list[tuple[int, int, int, str]] = []
    seen: set[str] = set()
    for line, fields in _lines(path, _NODE_COLUMNS, ()):
        devices = _amount(path, line, fields, "gpu", _DEVICES_PER_NODE_MAX)
        model = fields["model"].strip()
        if bool(devices) != bool(model):
            raise InvalidInputError(
                f"{path} line {line}: {devices} devices of model {model!r}; give both, or 0 and no model"
            )
        if fields["sn"] in seen:
            raise InvalidInputError(
                f"{path} line {line}: node {fields['sn']!r} is there twice; name nodes once"
            )
        seen.add(fields["sn"])
        cpu, memory = _amount(path, line, fields, "cpu_milli"), _amount(path, line, fields, "memory_mib")
        kinds.append((cpu, memory, devices, model))
    models = tuple(sorted({model for *_, model in kinds if model}))
    if not models:
        raise InvalidInputError(f"{path}: no node has a device; there is nothing to allocate")
    if len(models) > _MODELS_MAX:
        raise InvalidInputError(
            f"{path}: {len(models)} device models; at most {_MODELS_MAX} can be told apart"
        )
    number = {model: position for position, model in enumerate(models)} | {"": -1}
    nodes = [NodeKind(cpu, memory, devices, number[model]) for cpu, memory, devices, model in kinds]
    return Fleet(nodes, models)


def read_pods(path: Path, fleet: Fleet) -> Workload:
    """Return the requests in ``path``.

    Raises InvalidInputError with the line that is wrong, or that asks for what no node of ``fleet`` ever had.
    """
    empty = Residuals(list(dict.fromkeys(fleet.nodes)))
    possible: set[Request] = set()
    rows: list[Request] = []
    for line, fields in _lines(path, _POD_COLUMNS, _POD_EXTRAS):
        request = _request(path, line, fields, fleet)
        if request not in possible:
            if not any(empty.fits(node, request) for node in range(len(empty))):
                raise InvalidInputError(
                    f"{path} line {line}: no node could ever hold {fields['name']!r} "
                    f"({request.cpu_milli} milli CPU, {request.memory_mib} MiB, {request.devices} x "
                    f"{request.device_milli} milli GPU of {fields['gpu_spec'] or 'any model'}); take it out"
                )
            possible.add(request)
        rows.append(request)
    if not any(request.devices for request in rows):
        raise InvalidInputError(
            f"{path}: no request asks for a device; arrivals cannot be counted in devices"
        )
    return Workload(*shapes_of(np.array(rows, dtype=np.int64).T))


def _request(path: Path, line: int, fields: dict[str, str], fleet: Fleet) -> Request:
    devices = _amount(path, line, fields, "num_gpu", _DEVICES_PER_NODE_MAX)
    milli = _amount(path, line, fields, "gpu_milli", WHOLE_MILLI) if fields["gpu_milli"].strip() else 0
    if (devices == 0 and milli) or (devices and not milli) or (devices > 1 and milli != WHOLE_MILLI):
        raise InvalidInputError(
            f"{path} line {line}: {devices} devices of {milli} milli; none takes 0, one 1 to 1000, several 1000 each"
        )
    wanted = {name.strip() for name in fields["gpu_spec"].split("|") if name.strip()}
    known = sum(1 << number for number, model in enumerate(fleet.models) if model in wanted)
    return Request(
        _amount(path, line, fields, "cpu_milli"),
        _amount(path, line, fields, "memory_mib"),
        devices,
        milli,
        known if wanted else ANY_MODEL,
    )
