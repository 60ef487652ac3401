"""Reads CSV tables, plain or gzipped, whose errors name the file, the line and the column."""

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from penstock.base import limits
from penstock.base.errors import InvalidInputError, TooLargeError

Row = dict[str, str]


def read_table(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of the table at ``path``; InvalidInputError or TooLargeError for what it is not."""
    lines = csv.reader(io.StringIO(_text(path)), strict=True)
    try:
        header = next(lines, None)
        if not header:
            raise InvalidInputError(f"{path}: the file is empty; its first line names the columns")
        _check_header(path, header, required, optional)
        for cells in lines:
            if lines.line_num > limits.TWIN_LINES_MAX:
                raise TooLargeError(f"{path}: more than {limits.TWIN_LINES_MAX:,} lines; split the trace")
            if not cells:
                continue  # a blank line, as editors leave at the end
            if len(cells) != len(header):
                raise InvalidInputError(
                    f"{path}, line {lines.line_num}: {len(cells)} values for {len(header)} columns"
                )
            yield lines.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InvalidInputError(f"{path}, line {lines.line_num}: not CSV: {error}") from error


def _text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(limits.TWIN_FILE_BYTES_MAX + 1)
        if len(content) > limits.TWIN_FILE_BYTES_MAX:
            raise TooLargeError(f"{path}: more than {limits.TWIN_FILE_BYTES_MAX:,} bytes; split the trace")
        return content.decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError) as error:
        raise InvalidInputError(f"{path}: not a gzip file: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: not UTF-8 text (byte {error.start})") from error


def _check_header(path: Path, header: list[str], required: Sequence[str], optional: Sequence[str]) -> None:
    known = [*required, *optional]
    unknown = [name for name in header if name not in known]
    missing = [name for name in required if name not in header]
    twice = [name for name in known if header.count(name) > 1]
    for names, what in ((unknown, "unknown"), (missing, "missing"), (twice, "repeated")):
        if names:
            raise InvalidInputError(
                f"{path}, line 1: {what} column{'s' if len(names) > 1 else ''} {', '.join(names)}; needed are "
                f"{', '.join(required)}" + (f", allowed {', '.join(optional)}" if optional else "")
            )


def whole_number(path: Path, line: int, row: Row, column: str, least: int, most: int) -> int:
    """Return the whole number in ``column``; InvalidInputError with its line unless it is ``least`` to ``most``."""
    text = row[column].strip()
    try:
        value = int(text)
    except ValueError:
        raise InvalidInputError(
            f"{path}, line {line}: {column} is '{text[:40]}', not a whole number"
        ) from None
    if not least <= value <= most:
        raise InvalidInputError(f"{path}, line {line}: {column} is {value}; it must be {least} to {most:,}")
    return value
