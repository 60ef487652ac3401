"""What no column and no JSON document of ours can hold is refused at the edge, by the name of its field.

PostgreSQL stores no NUL in a text and no half of a surrogate pair; amounts are 64-bit integers; JSON has no
NaN. Deep nesting is refused because everything that walks a document later does so by recursion.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, cast

from penstock.base import limits
from penstock.base.errors import InvalidInputError

INTEGER_MAX = (1 << 63) - 1


def check_storable(value: Any, path: str = "", depth: int = 0) -> None:
    """Raise InvalidInputError naming the first field under ``path`` whose value cannot be stored."""
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, int):
        if not -INTEGER_MAX - 1 <= value <= INTEGER_MAX:
            raise InvalidInputError(f"{path or 'body'}: the number does not fit 64 bits", field=path or None)
    elif isinstance(value, float):
        if not isfinite(value):
            raise InvalidInputError(f"{path or 'body'}: this is not a number", field=path or None)
    elif isinstance(value, Mapping | list | tuple):
        if depth >= limits.JSON_DEPTH_MAX:
            raise InvalidInputError(
                f"{path or 'body'}: nested deeper than {limits.JSON_DEPTH_MAX} levels", field=path or None
            )
        _check_parts(cast("Mapping[Any, Any] | Sequence[Any]", value), path, depth)


def _check_text(text: str, path: str) -> None:
    if "\x00" in text:
        raise InvalidInputError(
            f"{path or 'body'}: a text may not hold the character NUL", field=path or None
        )
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInputError(
            f"{path or 'body'}: a text may not hold half of a surrogate pair", field=path or None
        )


def _check_parts(value: Mapping[Any, Any] | Sequence[Any], path: str, depth: int) -> None:
    if isinstance(value, Mapping):
        for name in value:
            _check_text(str(name), path)
    parts = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, part in parts:
        # A NUL in a name was refused above; a long one would make the sentence long.
        check_storable(part, f"{path}.{str(name)[:64]}" if path else str(name)[:64], depth + 1)
