"""Reads a trace: CSV with a header that must be the expected one, plain or gzip, row by row with its line number."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from penstock.base.errors import InvalidInputError


def read_table(path: Path, columns: tuple[str, ...], field: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (``FILE, line N``, row); InvalidInputError if the columns are others or the file is no text."""
    if path.suffix == ".gz":
        with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
            yield from _rows(file, path, columns, field)
    else:
        with path.open(newline="", encoding="utf-8") as file:
            yield from _rows(file, path, columns, field)


def _rows(
    file: Iterator[str], path: Path, columns: tuple[str, ...], field: str
) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != columns:
            raise InvalidInputError(f"{path}, line 1: the columns are {','.join(columns)}", field=field)
        for row in rows:
            if None in row or None in row.values():
                raise InvalidInputError(
                    f"{path}, line {rows.line_num}: a row has {len(columns)} values", field=field
                )
            yield f"{path}, line {rows.line_num}", row
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError, csv.Error) as error:
        raise InvalidInputError(f"{path} is no table: {error}", field=field) from error
