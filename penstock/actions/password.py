"""Passwords: argon2id, bounded in time and memory, and the same work whether or not the name exists."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from penstock.base import limits
from penstock.base.errors import InvalidInputError, UnavailableError

# Parameters: OWASP Password Storage Cheat Sheet, first choice for argon2id (19 MiB, 2 passes, 1 lane).
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_AT_ONCE = 4  # 4 x 19 MiB: a burst of log-ins must not take the process's memory
_WAIT_SECONDS = 5.0
_slots = threading.BoundedSemaphore(_AT_ONCE)


def check_strength(password: str, name: str, field: str = "password") -> None:
    """Raise InvalidInputError unless ``password`` may be used; length is what counts (NIST SP 800-63B)."""
    if not limits.PASSWORD_CHARACTERS_MIN <= len(password) <= limits.PASSWORD_CHARACTERS_MAX:
        raise InvalidInputError(
            f"a password has {limits.PASSWORD_CHARACTERS_MIN} to {limits.PASSWORD_CHARACTERS_MAX} characters",
            field=field,
        )
    if password.casefold() == name.casefold() or len(set(password)) < 4:
        raise InvalidInputError("this password is too easy to guess; choose another", field=field)


def hashed(password: str) -> str:
    """Return the argon2id hash of ``password`` with its parameters and a fresh salt."""
    with _slot():
        return _HASHER.hash(password)


def matches(stored: str | None, password: str) -> bool:
    """Tell whether ``password`` is the one hashed in ``stored``; None costs the same and is never right."""
    with _slot():
        try:
            right = _HASHER.verify(stored or _nobodys_hash(), password)
        except (VerificationError, InvalidHashError):
            return False
    return right and stored is not None


def is_outdated(stored: str) -> bool:
    """Tell whether ``stored`` was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(stored)


@cache
def _nobodys_hash() -> str:
    return _HASHER.hash("the password of nobody")


@contextmanager
def _slot() -> Generator[None]:
    if not _slots.acquire(timeout=_WAIT_SECONDS):
        raise UnavailableError("too many people log in right now; try again shortly")
    try:
        yield
    finally:
        _slots.release()
