"""How answers are shown: a table for people, the API's own document as JSON or YAML for programs."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO, cast

from penstock.base.units import US_PER_SECOND, format_bytes, format_duration, format_price

PLACES_SHOWN_MAX = 8


class Format(StrEnum):
    """What ``--output`` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class Kind(StrEnum):
    """How the value of a column is written for people."""

    TEXT = "text"
    TIME = "time"  # ISO 8601, shown in the local zone
    BYTES = "bytes"
    MICROEUR = "microeur"
    MICROSECONDS = "microseconds"
    COUNT = "count"
    FLAG = "flag"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, the dotted path of its value, and how to write it."""

    title: str
    path: str
    kind: Kind = Kind.TEXT


def show_document(document: Any, output: Format, stream: TextIO) -> None:
    """Write the API's document as JSON or YAML."""
    if output is Format.YAML:
        import yaml  # noqa: PLC0415 - slow to load and rarely asked for

        yaml.safe_dump(document, stream, sort_keys=False, allow_unicode=True)
    else:
        json.dump(document, stream, indent=2, ensure_ascii=False)
        stream.write("\n")


def at(document: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, None where there is none."""
    value: Any = document
    for part in path.split("."):
        value = cast("Mapping[str, Any]", value).get(part) if isinstance(value, Mapping) else None
    return value


def written(value: Any, kind: Kind, *, utc: bool = False) -> str:
    """Return a value as a person reads it, ``-`` for nothing."""
    if value is None or value in ("", {}):
        return "-"
    if isinstance(value, bool):
        kind = Kind.FLAG
    writers: dict[Kind, Callable[[Any], str]] = {
        Kind.TIME: lambda v: local_time(str(v), utc=utc),
        Kind.BYTES: lambda v: format_bytes(int(v)),
        Kind.MICROEUR: lambda v: format_price(int(v)),
        Kind.MICROSECONDS: lambda v: format_duration(int(v) / US_PER_SECOND),
        Kind.COUNT: lambda v: f"{int(v):,}",
        Kind.FLAG: lambda v: "yes" if v else "no",
        Kind.LIST: lambda v: ", ".join(str(part) for part in v) or "-",
    }
    writer = writers.get(kind)
    return writer(value) if writer else str(value)


def local_time(text: str, *, utc: bool = False) -> str:
    """Return an ISO 8601 instant in the local zone (or UTC), to the second, with the zone's name."""
    instant = datetime.fromisoformat(text)
    shown = instant.astimezone(UTC) if utc else instant.astimezone()
    return shown.strftime("%Y-%m-%d %H:%M:%S %Z")


def first_few(parts: Iterable[str], separator: str = ", ", shown_max: int = PLACES_SHOWN_MAX) -> str:
    """Return the first ``shown_max`` different parts in one line, and how many more there are."""
    different = list(dict.fromkeys(parts))
    more = len(different) - shown_max
    return separator.join(different[:shown_max]) + (f"{separator}and {more} more" if more > 0 else "")
