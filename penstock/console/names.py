"""What people may call things: the rule of the API, said before an action is asked."""

import re

from penstock.base import limits
from penstock.base.errors import InvalidInputError

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,189}")


def checked_name(name: str, field: str = "name") -> str:
    """Return a name that may be given; InvalidInputError on any other."""
    if len(name) > limits.NAME_CHARACTERS_MAX or not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"a name has up to {limits.NAME_CHARACTERS_MAX} small letters, digits and dashes inside",
            field=field,
        )
    return name


def checked_email(email: str, field: str = "email") -> str:
    """Return an e-mail address; InvalidInputError if it cannot be one."""
    if not _EMAIL.fullmatch(email):
        raise InvalidInputError("give an e-mail address such as ada@example.org", field=field)
    return email
