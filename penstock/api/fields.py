"""Kinds of values that several endpoints take: ids, names, texts. What cannot be stored is refused here."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, AwareDatetime, Strict, StringConstraints

from penstock.base import limits

INT64_MAX = (1 << 63) - 1
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
ID_PATTERN = r"^[a-z]{3}_[0-9a-hjkmnp-tv-z]{26}$"
# No control characters: PostgreSQL cannot store NUL, and a terminal should not be steered by a description.
TEXT_PATTERN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
EMAIL_PATTERN = r"^[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,189}$"


def _in_range(instant: datetime) -> datetime:
    if not 1970 < instant.year < 9999:
        raise ValueError("a year from 1971 to 9998")
    return instant.astimezone(UTC)


Name = Annotated[
    str, StringConstraints(min_length=1, max_length=limits.NAME_CHARACTERS_MAX, pattern=NAME_PATTERN)
]
Title = Annotated[
    str, StringConstraints(min_length=1, max_length=limits.NAME_CHARACTERS_MAX, pattern=TEXT_PATTERN)
]
Text = Annotated[str, StringConstraints(max_length=limits.TEXT_CHARACTERS_MAX, pattern=TEXT_PATTERN)]
Email = Annotated[str, StringConstraints(min_length=3, max_length=254, pattern=EMAIL_PATTERN)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=limits.PASSWORD_CHARACTERS_MAX)]
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]

# JSON has no instants: an ISO 8601 text with its offset, inside the years that the database can hold.
Instant = Annotated[AwareDatetime, Strict(strict=False), AfterValidator(_in_range)]

PathId = Annotated[str, Path(pattern=ID_PATTERN)]
IdFilter = Annotated[str | None, Query(pattern=ID_PATTERN, description="only of this id")]
NameFilter = Annotated[
    str | None, Query(max_length=254, pattern=TEXT_PATTERN, description="only of exactly this name")
]
