"""An order form filled in on the command line: ``--set key=value``, typed by the offer's JSON Schema."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from penstock.cli.errors import USAGE, CliError

Document = dict[str, Any]
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_FILE_CHARACTERS_MAX = 1 << 20


def filled_in(form: Mapping[str, Any], settings: Sequence[str], document: str | None) -> Document:
    """Return the spec of an order: the JSON ``document`` (or @file, or - for stdin), then each ``key=value``.

    Raises CliError naming a field that the form does not have or a value that is not of its type.
    """
    spec = read_document(document, "--spec") if document is not None else {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise CliError(f"'{setting}' is not of the form key=value", USAGE)
        spec[name] = typed(form, name, text)
    return spec


def typed(form: Mapping[str, Any], name: str, text: str) -> Any:
    """Return ``text`` as the type that the form has for the field; CliError if it cannot be."""
    properties: Mapping[str, Any] = form["properties"]
    if name not in properties:
        known = ", ".join(properties) or "none"
        raise CliError(f"this offer has no field '{name}' to fill in; there are: {known}", USAGE)
    kinds = properties[name].get("type", "string")
    wanted = cast("list[str]", kinds) if isinstance(kinds, list) else [str(kinds)]
    if "null" in wanted and text.lower() in ("null", "none"):
        return None
    for kind in wanted:
        try:
            return _value(kind, text)
        except ValueError:
            continue  # not of this type: the next one may take it
    raise CliError(f"'{name}' takes {' or '.join(wanted)}, not '{text}'", USAGE)


def _value(kind: str, text: str) -> Any:
    """Return ``text`` as one JSON type; ValueError if it is not of that type."""
    if kind == "string":
        return text
    if kind == "integer":
        return int(text)
    if kind == "number":
        return float(text)
    if kind == "boolean":
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError("neither yes nor no")
    if kind in ("array", "object"):
        value = json.loads(text)
        if isinstance(value, list if kind == "array" else dict):
            return cast("Any", value)
    raise ValueError("not of this type")


def read_document(text: str, option: str) -> Document:
    """Return the JSON object in ``text``, in the file that ``@path`` names, or on standard input (``-``)."""
    if text == "-":
        text = sys.stdin.read(_FILE_CHARACTERS_MAX)
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise CliError(f"{option}: cannot read {text[1:]}: {error}", USAGE) from error
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CliError(f"{option} is not JSON: {error}", USAGE) from error
    if not isinstance(document, dict):
        raise CliError(f"{option} must be a JSON object, as in '{{\"count\": 2}}'", USAGE)
    return cast("Document", document)


def as_settings(spec: Mapping[str, Any]) -> str:
    """Return a spec as the ``--set`` options that fill it in, ready to paste into a shell."""
    words = [f"--set {name}={_text(value)}" for name, value in spec.items()]
    return " ".join(words)


def _text(value: Any) -> str:
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))
