"""Records of a network's private zone: what a tenant may write there."""

import re
from enum import StrEnum

from penstock.base.errors import InvalidInputError
from penstock.domain.network import check_address, check_zone

ROOT = "@"  # the zone itself
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*\Z")
_TEXT = re.compile(r'[^"\\\x00-\x1f\x7f-\uffff]{1,255}\Z')
_NAME_CHARACTERS_MAX = 190


class RecordType(StrEnum):
    """What a record says."""

    A = "A"
    CNAME = "CNAME"
    TXT = "TXT"


def check_record(name: str, kind: str, value: str) -> tuple[str, str]:
    """Return name and value of a record as they are stored; InvalidInputError names the field."""
    low = name.lower()
    if low != ROOT and (len(low) > _NAME_CHARACTERS_MAX or _NAME.match(low) is None):
        raise InvalidInputError("a name is labels joined by dots, relative to the zone, or @", field="name")
    if kind == RecordType.A:
        return low, str(check_address(value, "value"))
    if kind == RecordType.CNAME:
        if low == ROOT:
            raise InvalidInputError("the zone itself cannot be another name for something", field="name")
        return low, check_zone(value, "value")
    if _TEXT.match(value) is None:
        raise InvalidInputError(
            "a text is up to 255 printable ASCII characters without quotes", field="value"
        )
    return low, value
