"""Passwords: argon2id, checked for length, the same work for nobody."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher

from penstock.actions import password as passwords
from penstock.base.errors import InvalidInputError, UnavailableError


def test_the_right_password_and_no_other_matches() -> None:
    stored = passwords.hashed("correct horse battery")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.matches(stored, "correct horse battery")
    assert not passwords.matches(stored, "correct horse batterz")
    assert passwords.hashed("correct horse battery") != stored
    assert not passwords.is_outdated(stored)
    assert passwords.is_outdated(PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash("x"))


def test_nobodys_password_is_never_right_and_is_verified_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verified: list[str] = []
    real = PasswordHasher.verify

    def verify(self: PasswordHasher, stored: str, password: str) -> bool:
        verified.append(stored)
        return bool(real(self, stored, password))

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    assert not passwords.matches(None, "the password of nobody")
    (stored,) = verified
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_a_broken_hash_is_no_match() -> None:
    assert not passwords.matches("nonsense", "x")


@pytest.mark.parametrize(
    "password", ["short", "x" * 257, "ada@factory.test", "ADA@factory.test", "aaaaaaaaaaaaaaaa"]
)
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        passwords.check_strength(password, "ada@factory.test")
    assert caught.value.field == "password"


def test_a_burst_waits_and_then_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: passwords.hashed("some password"), range(8)))) == 8
    monkeypatch.setattr(passwords, "_WAIT_SECONDS", 0.01)
    held = [passwords._slots.acquire(blocking=False) for _ in range(passwords._AT_ONCE)]
    try:
        assert all(held)
        with pytest.raises(UnavailableError):
            passwords.hashed("some password")
    finally:
        for _ in held:
            passwords._slots.release()
