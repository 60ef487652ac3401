"""Taking a JSON object apart, field by field, so that every refusal names the field: for ``wire.py``."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from penstock.base.errors import InvalidInputError

COUNT_MAX = 1 << 20
NUMBER_MAX = (1 << 63) - 1  # what the database's bigint holds


class Fields:
    """One JSON object at ``where`` (a dotted path, '' for the body). Each read raises InvalidInputError."""

    def __init__(self, body: object, where: str) -> None:
        self._where = where
        if not isinstance(body, Mapping):
            raise InvalidInputError("this must be a JSON object", field=where or "body")
        self._body = cast("Mapping[str, Any]", body)
        self._read: set[str] = set()

    def place(self, name: str) -> str:
        """Return the dotted path of a field."""
        return f"{self._where}.{name}" if self._where else name

    def refuse_others(self) -> None:
        """Refuse fields that nobody asked for: a misspelt one must not be ignored."""
        others = sorted(str(name) for name in self._body if name not in self._read)
        if others:
            raise InvalidInputError("there is no such field", field=self.place(others[0]) or "body")

    def text(self, name: str, characters_max: int, *, empty: bool = False) -> str:
        """Return a text of 1 (``empty``: 0) to ``characters_max`` characters without NUL."""
        return self._as_text(self._need(name), self.place(name), characters_max, empty=empty)

    def optional_text(self, name: str, characters_max: int) -> str | None:
        """Return a text, or None if it is absent or null."""
        value = self._get(name)
        return None if value is None else self._as_text(value, self.place(name), characters_max, empty=True)

    def count(self, name: str, maximum: int = NUMBER_MAX) -> int:
        """Return a whole number from 0 to ``maximum``."""
        return self._as_count(self._need(name), self.place(name), maximum)

    def optional_count(self, name: str, maximum: int = NUMBER_MAX) -> int | None:
        """Return a whole number, or None if it is absent or null."""
        value = self._get(name)
        return None if value is None else self._as_count(value, self.place(name), maximum)

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self._need(name)
        if not isinstance(value, bool):
            raise InvalidInputError("this must be true or false", field=self.place(name))
        return value

    def choice(self, name: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Return one of ``allowed``."""
        value = self._get(name) if default is not None else self._need(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or value not in allowed:
            raise InvalidInputError(f"this must be one of {', '.join(allowed)}", field=self.place(name))
        return value

    def texts(self, name: str, items_max: int, characters_max: int) -> list[str]:
        """Return a list of texts, empty if absent."""
        rows = self._list(name, items_max)
        return [
            self._as_text(row, self.place(f"{name}.{number}"), characters_max, empty=False)
            for number, row in enumerate(rows)
        ]

    def objects(self, name: str, items_max: int | None) -> list["Fields"]:
        """Return a list of objects to be taken apart, empty if absent."""
        return [
            Fields(row, self.place(f"{name}.{number}"))
            for number, row in enumerate(self._list(name, items_max))
        ]

    def plain_objects(self, name: str, items_max: int) -> list[Mapping[str, Any]]:
        """Return a list of small objects of plain values, empty if absent."""
        found: list[Mapping[str, Any]] = []
        for number, row in enumerate(self._list(name, items_max)):
            place = self.place(f"{name}.{number}")
            if not isinstance(row, Mapping):
                raise InvalidInputError("this must be a JSON object", field=place)
            _refuse_deep(cast("Mapping[str, Any]", row), place, levels=3)
            found.append(cast("Mapping[str, Any]", row))
        return found

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object as it is."""
        value = self._need(name)
        if not isinstance(value, Mapping):
            raise InvalidInputError("this must be a JSON object", field=self.place(name))
        return dict(cast("Mapping[str, Any]", value))

    def optional_document(self, name: str, bytes_max: int) -> dict[str, Any] | None:
        """Return a small object of plain values, None if it is absent or null."""
        value = self._get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise InvalidInputError("this must be a JSON object", field=self.place(name))
        found = cast("Mapping[str, Any]", value)
        _refuse_deep(found, self.place(name), levels=3)
        if len(orjson.dumps(found)) > bytes_max:
            raise InvalidInputError(f"this has {bytes_max} bytes at most", field=self.place(name))
        return dict(found)

    def counts(self, name: str, items_max: int) -> dict[str, int]:
        """Return an object of whole numbers, empty if absent."""
        value = self._get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping) or len(cast("Mapping[str, Any]", value)) > items_max:
            raise InvalidInputError(
                f"this must be an object of at most {items_max} numbers", field=self.place(name)
            )
        found = cast("Mapping[str, Any]", value)
        return {
            key: self._as_count(one, self.place(f"{name}.{key}"), NUMBER_MAX) for key, one in found.items()
        }

    def _get(self, name: str) -> Any:
        self._read.add(name)
        return self._body.get(name)

    def _need(self, name: str) -> Any:
        value = self._get(name)
        if value is None:
            raise InvalidInputError("this field is required", field=self.place(name))
        return value

    def _list(self, name: str, items_max: int | None) -> list[Any]:
        value = self._get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise InvalidInputError("this must be a list", field=self.place(name))
        rows = cast("list[Any]", value)
        if items_max is not None and len(rows) > items_max:
            raise InvalidInputError(f"at most {items_max} here", field=self.place(name))
        return rows

    @staticmethod
    def _as_text(value: object, place: str, characters_max: int, *, empty: bool) -> str:
        if not isinstance(value, str) or not _storable(value):
            raise InvalidInputError("this must be a text", field=place)
        if len(value) > characters_max or (not value and not empty):
            least = 0 if empty else 1
            raise InvalidInputError(f"this has {least} to {characters_max} characters", field=place)
        return value

    @staticmethod
    def _as_count(value: object, place: str, maximum: int) -> int:
        # In Python True is an int; in JSON it is not a number.
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
            raise InvalidInputError(f"this must be a whole number from 0 to {maximum}", field=place)
        return value


def fitting(text: str, characters_max: int) -> str:
    """Return ``text`` in a form that ``Fields.text`` accepts."""
    if not _storable(text):
        text = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    return text[:characters_max]


def _storable(text: str) -> bool:
    """Tell whether PostgreSQL can hold the text: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _refuse_deep(value: object, place: str, levels: int) -> None:
    """Refuse what is nested deeper than ``levels`` or holds what a database document cannot."""
    if isinstance(value, Mapping | list):
        if levels == 0:
            raise InvalidInputError("this is nested too deeply", field=place)
        inner = (
            cast("Mapping[str, Any]", value).items()
            if isinstance(value, Mapping)
            else enumerate(cast("list[Any]", value))
        )
        for key, one in inner:
            if not _storable(str(key)):
                raise InvalidInputError("a name here holds a character that cannot be stored", field=place)
            _refuse_deep(one, f"{place}.{key}", levels - 1)
    elif isinstance(value, str) and not _storable(value):
        raise InvalidInputError("this must be a text", field=place)
