"""Order forms made from an offer's JSON Schema, and what a person filled in turned back into values."""

import base64
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from penstock.base.errors import InvalidInputError
from penstock.base.units import MICROEUR_PER_EUR

CHOICES_MAX = 500
MONEY = "microeur"  # the unit of a field that people fill in in euro, under its name and EUR
EUR = ".eur"
AMOUNT_MAX = 1_000_000_000_000
UNITS: Sequence[tuple[str, int]] = (("minutes", 60), ("hours", 3_600), ("days", 86_400))


@dataclass(frozen=True, slots=True)
class Choice:
    """One value that may be chosen; ``value`` '' stands for none."""

    value: str
    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field as the page draws it; ``control`` is number, money, check, choose, pick, list, pairs, encoded or text.

    Fields of one ``group`` are folded away together; those of the group '' are always in sight. ``is_set`` tells
    whether the value is another than the form's default.
    """

    name: str
    title: str
    hint: str
    control: str
    value: str
    required: bool
    minimum: int | None
    maximum: int | None
    characters_max: int | None
    choices: tuple[Choice, ...]
    group: str
    is_set: bool


def fields_of(
    form: Mapping[str, Any], given: Mapping[str, Any], choices: Mapping[str, Sequence[str]]
) -> list[Field]:
    """Return the fields of a JSON Schema with ``given`` values, or its defaults, filled in.

    ``choices`` are the known values of text fields by name, such as the models of the factory.
    """
    required = set(form.get("required", ()))
    return [
        _field(name, schema, given, choices.get(name, ()), form["properties"], required=name in required)
        for name, schema in form["properties"].items()
    ]


def _field(
    name: str,
    schema: Mapping[str, Any],
    given: Mapping[str, Any],
    known: Sequence[str],
    fields: Collection[str],
    *,
    required: bool,
) -> Field:
    types = _types(schema)
    options = [str(option) for option in schema.get("enum", known) if option is not None][:CHOICES_MAX]
    control = _control(schema, types, options)
    value = given.get(name, schema.get("default"))
    shown = _shown(control, value)
    if control == "choose" and shown and shown not in options:
        options = [shown, *options]
    listed = [Choice(option, option) for option in options]
    if control == "pick":
        pass
    elif "null" in types:
        listed.insert(0, Choice("", "any"))
    elif not required and "default" not in schema:
        listed.insert(0, Choice("", "not chosen"))  # left out of the order, as an empty text is
    elif not shown and control == "choose" and len(listed) == 1:
        shown = listed[0].value
    return Field(
        name=f"{name}{EUR}" if control == "money" else name,
        title=str(schema.get("title", name)).replace("(micro-euro)", "(EUR)"),
        hint=_hint(schema, fields),
        control=control,
        value=shown,
        required=required and control != "check",
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        characters_max=schema.get("maxLength"),
        choices=tuple(listed) if control in ("choose", "pick") else (),
        group=str(schema.get("x-group", "")),
        is_set=name in given and given[name] != schema.get("default"),
    )


def _control(schema: Mapping[str, Any], types: Sequence[str], options: Sequence[str]) -> str:
    """Return how a field is filled in."""
    if schema.get("x-unit") == MONEY:
        return "money"
    if schema.get("contentEncoding") == "base64":
        return "encoded"
    for kind, control in (
        ("boolean", "check"),
        ("integer", "number"),
        ("number", "number"),
        ("object", "pairs"),
        ("array", "pick" if options else "list"),
    ):
        if kind in types:
            return control
    return "choose" if options else "text"


def _shown(control: str, value: Any) -> str:
    """Return a value as its control shows it; several are on lines of their own."""
    if value is None or value is False:
        return ""
    if value is True:
        return "on"
    if control == "money":
        return str(Decimal(value) / MICROEUR_PER_EUR)
    if control == "pairs":
        return "\n".join(f"{name}={text}" for name, text in value.items())
    if control in ("pick", "list"):
        return "\n".join(value)
    if control == "encoded":
        return base64.b64decode(value).decode(errors="replace")
    return str(value)


def folded(fields: Sequence[Field]) -> list[tuple[str, list[Field]]]:
    """Return fields by group in the order of the form, those of the group '' first."""
    groups = ["", *dict.fromkeys(field.group for field in fields if field.group)]
    return [(group, [field for field in fields if field.group == group]) for group in groups]


def _hint(schema: Mapping[str, Any], fields: Collection[str]) -> str:
    """Return the description for a page: without what is for the command line or about fields that are fixed."""
    text = str(schema.get("description", "")).split("; see `")[0].replace("null:", "empty:")
    text = text.split("; null:")[0]
    parts = text.split(", ")
    text = ", ".join(part for part in parts if all(word in fields for word in re.findall(r"'(\w+)'", part)))
    return text[:1].upper() + text[1:] + "." if text else ""


def _types(schema: Mapping[str, Any]) -> Sequence[str]:
    kind = schema.get("type", "string")
    return [kind] if isinstance(kind, str) else list(kind)


def values_of(form: Mapping[str, Any], filled: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what was filled in as the schema types it; empty fields are left out, so that defaults hold.

    InvalidInputError names a field that is no number where one is wanted. Ranges are the order's to judge.
    """
    found: dict[str, Any] = {}
    for name, schema in form["properties"].items():
        in_euro = filled.get(f"{name}{EUR}") if schema.get("x-unit") == MONEY else None
        if in_euro is not None:
            found[name] = _microeur(name, in_euro[-1].strip(), str(schema.get("title", name)))
            continue
        value = _value(name, schema, filled.get(name))
        if value is not _LEFT_OUT:
            found[name] = value
    return found


_LEFT_OUT = object()


def _value(name: str, schema: Mapping[str, Any], texts: Sequence[str] | None) -> Any:
    """Return what one field says, ``_LEFT_OUT`` if nothing."""
    types = _types(schema)
    text = texts[-1].strip() if texts else ""
    if "boolean" in types:
        return text == "on" if text == "on" or "default" in schema else _LEFT_OUT
    if "array" in types:
        return [word for one in texts or () for word in re.split(r"[,\s]+", one) if word] or _LEFT_OUT
    if text == "":
        return None if "null" in types and texts is not None else _LEFT_OUT
    if "integer" in types:
        return _whole(name, text, str(schema.get("title", name)))
    if "object" in types:
        return pairs_of(f"spec.{name}", text, str(schema.get("title", name)))
    if schema.get("contentEncoding") == "base64":
        return base64.b64encode(text.encode()).decode()
    return text


def _microeur(name: str, text: str, title: str) -> int | None:
    """Return an amount that was given in euro; None for an empty field."""
    if not text:
        return None
    title = title.removesuffix(" (micro-euro)")
    try:
        amount = Decimal(text.replace(",", ".")) * MICROEUR_PER_EUR
        fits = amount == amount.to_integral_value() and 0 <= amount <= AMOUNT_MAX
    except InvalidOperation:
        fits, amount = False, Decimal(0)
    if not fits:
        raise InvalidInputError(f"{title}: give an amount in euro, such as 2.50", field=f"spec.{name}")
    return int(amount)


def pairs_of(field: str, text: str, title: str) -> dict[str, str]:
    """Return names and values that were given one name=value a line; InvalidInputError names the field."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if line.strip() and not (key.strip() and equals):
            raise InvalidInputError(f"{title}: give one name=value a line", field=field)
        if line.strip():
            found[key.strip()] = value.strip()
    return found


def reader(values: Mapping[str, Sequence[str]], **defaults: str) -> Callable[[str], str]:
    """Return what gives the text of a field as it was filled in, its default else, '' without one."""

    def text(name: str) -> str:
        return values[name][-1].strip() if values.get(name) else defaults.get(name, "")

    return text


def instant_of(text: str, field: str, title: str) -> datetime | None:
    """Return the moment of a field for day and time, which is UTC; None if it is empty. InvalidInputError names it."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(
            f"{title}: give a day and a time such as 2027-01-31T14:20 (UTC)", field=field
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def seconds_of(number: str, unit: str, field: str, title: str) -> int | None:
    """Return a length of time that was given as a number and one of ``UNITS``; None if it is empty."""
    if not number:
        return None
    factor = dict(UNITS).get(unit)
    if factor is None or not re.fullmatch(r"[0-9]{1,6}", number):
        raise InvalidInputError(f"{title}: give a whole number of minutes, hours or days", field=field)
    return int(number) * factor


def _whole(name: str, text: str, title: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidInputError(f"{title}: give a whole number", field=f"spec.{name}") from None
