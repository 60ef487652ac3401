"""Results as plain dictionaries, so that no database type travels upwards."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy.engine import Result

from penstock.base.limits import ROWS_PER_STATEMENT_MAX

Row = dict[str, Any]
T = TypeVar("T")


def one(result: Result[*tuple[Any, ...]]) -> Row | None:
    """Return the only row, or None."""
    row = result.mappings().one_or_none()
    return None if row is None else {str(key): value for key, value in row.items()}


def every(result: Result[*tuple[Any, ...]]) -> list[Row]:
    """Return all rows."""
    keys = [str(key) for key in result.keys()]  # noqa: SIM118 - a result is no mapping; some names are a subclass
    return [dict(zip(keys, row, strict=True)) for row in result]


def batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Return ``rows`` in parts of at most ROWS_PER_STATEMENT_MAX, so that no statement outlasts its timeout."""
    for start in range(0, len(rows), ROWS_PER_STATEMENT_MAX):
        yield rows[start : start + ROWS_PER_STATEMENT_MAX]
