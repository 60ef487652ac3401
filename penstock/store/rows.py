"""Results as plain dictionaries, so that no database type travels upwards."""

from typing import Any

from sqlalchemy.engine import Result

Row = dict[str, Any]


def one(result: Result[*tuple[Any, ...]]) -> Row | None:
    """Return the only row, or None."""
    row = result.mappings().one_or_none()
    return None if row is None else {str(key): value for key, value in row.items()}


def every(result: Result[*tuple[Any, ...]]) -> list[Row]:
    """Return all rows."""
    keys = [str(key) for key in result.keys()]  # noqa: SIM118 - a result is no mapping; some names are a subclass
    return [dict(zip(keys, row, strict=True)) for row in result]
