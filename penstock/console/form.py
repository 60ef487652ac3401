"""Order forms made from an offer's JSON Schema, and what a person filled in turned back into values."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.base.errors import InvalidInputError

CHOICES_MAX = 500


@dataclass(frozen=True, slots=True)
class Choice:
    """One value that may be chosen; ``value`` '' stands for none."""

    value: str
    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field as the page draws it; ``control`` is number, check, choose or text."""

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
    control = "text"
    if "boolean" in types:
        control = "check"
    elif "integer" in types or "number" in types:
        control = "number"
    elif options:
        control = "choose"
    value = given.get(name, schema.get("default"))
    shown = "" if value is None or value is False else "on" if value is True else str(value)
    if control == "choose" and shown and shown not in options:
        options = [shown, *options]
    listed = [Choice(option, option) for option in options]
    if "null" in types:
        listed.insert(0, Choice("", "any"))
    elif not shown and control == "choose" and len(listed) == 1:
        shown = listed[0].value
    return Field(
        name=name,
        title=str(schema.get("title", name)),
        hint=_hint(schema, fields),
        control=control,
        value=shown,
        required=required and control != "check",
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        characters_max=schema.get("maxLength"),
        choices=tuple(listed) if control == "choose" else (),
    )


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
        types = _types(schema)
        texts = filled.get(name)
        text = texts[-1].strip() if texts else ""
        if "boolean" in types:
            found[name] = text == "on"
        elif text == "":
            if "null" in types and texts is not None:
                found[name] = None
        elif "integer" in types:
            found[name] = _whole(name, text, str(schema.get("title", name)))
        else:
            found[name] = text
    return found


def _whole(name: str, text: str, title: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidInputError(f"{title}: give a whole number", field=f"spec.{name}") from None
