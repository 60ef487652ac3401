"""Tables on a terminal or in a pipe. Imported at first use only, because Rich takes a while to load."""

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.cli.output import Column, Kind, at, written

_PIPE_COLUMNS = 10_000  # no cutting off where a program reads
_ACRONYMS = frozenset(
    {"ACL", "CPU", "DHCP", "EUR", "ID", "MAC", "MTU", "NUMA", "PCI", "SSH", "URL", "UUID", "VCPUS", "VNI"}
)
_NUMBERS = frozenset({Kind.BYTES, Kind.MICROEUR, Kind.MICROSECONDS, Kind.COUNT})


def show_table(
    items: Sequence[Mapping[str, Any]], columns: Sequence[Column], stream: TextIO, *, utc: bool = False
) -> None:
    """Write ``items`` as a table, one row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.kind in _NUMBERS else "left",
            no_wrap=column.path == "id" or column.kind in _NUMBERS,
            overflow="fold",
        )
    for item in items:
        table.add_row(*(Text(written(at(item, c.path), c.kind, utc=utc)) for c in columns))
    _print(table, stream)


def show_fields(
    document: Mapping[str, Any], columns: Sequence[Column], stream: TextIO, *, utc: bool = False
) -> None:
    """Write one object, a line for each field."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for column in columns:
        table.add_row(
            Text(_as_field(column.title)), Text(written(at(document, column.path), column.kind, utc=utc))
        )
    _print(table, stream)


def _as_field(title: str) -> str:
    """Return the title of a column as the name of a field: ``CHUNK CHARACTERS`` as ``Chunk characters``."""
    if not title.isupper():
        return title
    words = [word if word in _ACRONYMS else word.lower().replace("gib", "GiB") for word in title.split()]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def _print(table: Table, stream: TextIO) -> None:
    if stream.isatty():
        Console(file=stream, highlight=False).print(table)
        return
    console = Console(file=stream, width=_PIPE_COLUMNS, highlight=False)
    # Rich fills rows to the width of the widest cell; a program wants no trailing blanks.
    with console.capture() as captured:
        console.print(table)
    stream.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())
