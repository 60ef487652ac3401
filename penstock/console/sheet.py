"""A page that is one form: what it is for, its fields with what is wrong beside them, one button, and the way back.

A noun says its fields as ``Box``es; the page, the marking of what was refused and the values that were filled in are here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from penstock.base import limits
from penstock.base.errors import (
    ConflictError,
    InvalidInputError,
    PenstockError,
    QuotaExceededError,
    StaleGenerationError,
    TooLargeError,
    UnavailableError,
)
from penstock.console.edge import Visit
from penstock.store.rows import Row

# What a form is shown again for; whatever else an action refuses becomes a page of its own.
REFUSED = (
    ConflictError,
    InvalidInputError,
    QuotaExceededError,
    StaleGenerationError,
    TooLargeError,
    UnavailableError,
)
NAME_HINT = "Small letters, digits and dashes."
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Box:
    """One field; ``control`` is text, number, area, code, choose, pick (several), check or hidden.

    ``name`` is the API's name of the field, so that what an action refuses is shown beside it. ``value`` is what stands
    there at first; of a pick: words apart by spaces. What was filled into a ``secret`` one is never shown again.
    """

    name: str
    title: str = ""
    control: str = "text"
    hint: str = ""
    value: object = ""
    options: Sequence[tuple[str, str]] = ()
    required: bool = True
    characters_max: int = limits.TEXT_CHARACTERS_MAX
    minimum: int | None = None
    maximum: int | None = None
    rows: int = 3
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """The page: ``back`` are the pages it hangs below, outermost first; ``notes`` what there is to know before.

    ``ask``: a second button, which sends the field ``ask`` along and changes nothing.
    """

    title: str
    lead: str
    action: str
    button: str
    back: Sequence[tuple[str, str]]
    boxes: Sequence[Box]
    notes: Sequence[str] = ()
    ask: str = ""


def name_box(value: str = "") -> Box:
    """Return the field of a new thing's name."""
    return Box("name", "Name", hint=NAME_HINT, value=value, characters_max=limits.NAME_CHARACTERS_MAX)


def project_box(projects: Iterable[Row]) -> Box:
    """Return the field that chooses one of ``projects``."""
    return Box("project_id", "Project", "choose", options=named(projects))


def named(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Return ids with names, for a list to choose from."""
    return [(row["id"], row["name"]) for row in rows]


def fill(visit: Visit, sheet: Sheet, error: PenstockError | None = None) -> Response:
    """Return the page; after a refusal with what was filled in, and what was wrong beside its field."""
    wrong = next((box.name for box in sheet.boxes if _is_of(error, box)), None)
    return visit.page(
        "sheet.html",
        error.status if error else 200,
        sheet=sheet,
        error=error,
        wrong=wrong,
        values={box.name: _value(visit.form, box) for box in sheet.boxes},
    )


def _is_of(error: PenstockError | None, box: Box) -> bool:
    if error is None or error.field is None or box.control == "hidden":
        return False
    field = error.field.removeprefix("spec.")  # what an order calls the fields of what is ordered
    return field == box.name or field.startswith(f"{box.name}.")


def _value(form: Mapping[str, Sequence[str]], box: Box) -> Any:
    if box.control == "pick":
        return form.get(box.name, []) if form else str(box.value).split()
    if not form or box.secret:
        return box.value
    return (form.get(box.name) or [""])[0]


def text_of(visit: Visit, name: str, most: int = limits.TEXT_CHARACTERS_MAX) -> str:
    """Return a text of the form; InvalidInputError if it is too long or steers a terminal."""
    text = visit.field(name)
    if len(text) > most:
        raise InvalidInputError(f"at most {most:,} characters", field=name)
    if _CONTROL.search(text):
        raise InvalidInputError("control characters are not taken", field=name)
    return text


def chosen(visit: Visit, name: str, most: int) -> list[str]:
    """Return what was picked; InvalidInputError for more than ``most``."""
    found = list(dict.fromkeys(one.strip() for one in visit.form.get(name, ()) if one.strip()))
    if len(found) > most:
        raise InvalidInputError(f"choose at most {most}", field=name)
    return found


def one_of(visit: Visit, name: str, allowed: Iterable[str]) -> str:
    """Return a choice; InvalidInputError for any but ``allowed``."""
    words = list(allowed)
    if visit.field(name) not in words:
        raise InvalidInputError(f"choose one of {', '.join(words)}", field=name)
    return visit.field(name)


def number_of(visit: Visit, name: str, low: int, high: int) -> int:
    """Return a whole number from ``low`` to ``high``; InvalidInputError for anything else."""
    return number_in(visit.field(name), name, low, high)


def number_in(text: str, field: str, low: int, high: int) -> int:
    """Return a text as a whole number from ``low`` to ``high``; InvalidInputError names the field."""
    number = int(text) if re.fullmatch("[0-9]{1,12}", text) else low - 1
    if not low <= number <= high:
        raise InvalidInputError(f"a whole number from {low:,} to {high:,} is needed", field=field)
    return number
