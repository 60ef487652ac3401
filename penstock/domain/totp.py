"""Second factors: time-based one-time passwords (RFC 6238: SHA-1, 6 digits, 30 s) and recovery codes.

The clock of a telephone may be a step off, so the neighbouring steps count too; each step counts once, so a
code that was seen over a shoulder does not open a second session.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP

STEP_SECONDS = 30
DIGITS = 6
NEIGHBOURS = 1
SECRET_BYTES = 20


def mint_secret(entropy: Callable[[int], bytes]) -> str:
    """Return a new secret of 160 bits in base32, as authenticators take it."""
    return base64.b32encode(entropy(SECRET_BYTES)).decode()


def code_at(secret: str, step: int) -> str:
    """Return the code of one step (seconds since the epoch / 30); ValueError if ``secret`` is not base32."""
    try:
        key = base64.b32decode(secret)
    except binascii.Error as error:
        raise ValueError("a secret is base32") from error
    return HOTP(key, DIGITS, SHA1(), enforce_key_length=False).generate(step).decode()  # noqa: S303 - RFC 6238's default, the one every authenticator speaks


def accepted_step(secret: str, code: str, epoch_seconds: int, last_step: int) -> int | None:
    """Return the step that ``code`` is of, None if it is wrong or its step was used (``last_step``) before."""
    given = code.replace(" ", "")
    if len(given) != DIGITS or not given.isascii() or not given.isdigit():
        return None
    now = epoch_seconds // STEP_SECONDS
    for step in range(max(last_step + 1, now - NEIGHBOURS), now + NEIGHBOURS + 1):
        if hmac.compare_digest(code_at(secret, step), given):
            return step
    return None


def mint_recovery(entropy: Callable[[int], bytes], count: int) -> list[str]:
    """Return ``count`` one-time codes of 50 bits, in two groups of five for reading."""
    made: list[str] = []
    for _ in range(count):
        text = base64.b32encode(entropy(7)).decode().lower()[:10]
        made.append(f"{text[:5]}-{text[5:]}")
    return made


def recovery_digest(code: str) -> str:
    """Return the SHA-256 of a recovery code, however it was typed; 50 random bits need no slow hash."""
    plain = "".join(character for character in code.lower() if character.isalnum())
    return hashlib.sha256(plain.encode()).hexdigest()
