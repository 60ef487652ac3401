"""The text of an API key: ``psk_<10 characters>_<40 characters>``.

The first part finds the row, the whole is compared by SHA-256. A fast hash is right here: the secret has
200 random bits, so there is nothing to guess; passwords, which people choose, go through argon2 instead.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

_PATTERN = re.compile(r"psk_([0-9a-z]{10})_[0-9a-z]{40}\Z")


@dataclass(frozen=True, slots=True)
class KeyText:
    """A fresh key: ``text`` is shown once, ``prefix`` and ``sha256`` (hex) are stored."""

    text: str
    prefix: str
    sha256: str


def mint(entropy: Callable[[int], bytes]) -> KeyText:
    """Make a key from 7 + 25 random bytes of ``entropy``."""
    prefix = base64.b32encode(entropy(7)).decode().lower()[:10]
    secret = base64.b32encode(entropy(25)).decode().lower()
    text = f"psk_{prefix}_{secret}"
    return KeyText(text, prefix, digest(text))


def digest(text: str) -> str:
    """Return the SHA-256 of a key's text as lower-case hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def prefix_of(text: str) -> str | None:
    """Return the part that finds the row, or None if ``text`` cannot be a key."""
    match = _PATTERN.match(text)
    return match.group(1) if match else None
