"""Second factors: the vectors of RFC 6238, one use per code, recovery codes however they are typed."""

import base64
import os

import pytest

from penstock.domain import totp

# RFC 6238, appendix B: SHA-1, the last six of its eight digits.
SECRET = base64.b32encode(b"12345678901234567890").decode()
VECTORS = {
    59: "287082",
    1111111109: "081804",
    1111111111: "050471",
    1234567890: "005924",
    2000000000: "279037",
}


@pytest.mark.parametrize(("seconds", "code"), VECTORS.items())
def test_the_vectors_of_the_rfc(seconds: int, code: str) -> None:
    assert totp.code_at(SECRET, seconds // 30) == code
    assert totp.accepted_step(SECRET, code, seconds, 0) == seconds // 30


def test_a_neighbouring_step_counts_and_one_further_does_not() -> None:
    now = 1_800_000_000
    step = now // 30
    for offset, accepted in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        code = totp.code_at(SECRET, step + offset)
        assert (totp.accepted_step(SECRET, code, now, 0) is not None) == accepted, offset


def test_no_step_counts_twice_nor_one_before_it() -> None:
    now = 1_800_000_000
    step = now // 30
    assert totp.accepted_step(SECRET, totp.code_at(SECRET, step), now, step) is None
    assert totp.accepted_step(SECRET, totp.code_at(SECRET, step - 1), now, step) is None
    assert totp.accepted_step(SECRET, totp.code_at(SECRET, step + 1), now, step) == step + 1


@pytest.mark.parametrize("text", ["", "12345", "1234567", "12345a", "١٢٣٤٥٦", "-12345"])
def test_what_is_no_code_is_refused(text: str) -> None:
    assert totp.accepted_step(SECRET, text, 59, 0) is None


def test_a_code_may_be_typed_in_groups() -> None:
    assert totp.accepted_step(SECRET, " 287 082 ", 59, 0) == 1


def test_secrets_and_recovery_codes_are_fresh_and_long_enough() -> None:
    assert len(base64.b32decode(totp.mint_secret(os.urandom))) == 20
    codes = totp.mint_recovery(os.urandom, 8)
    assert len(set(codes)) == 8
    assert all(len(code) == 11 and code[5] == "-" for code in codes)
    assert totp.recovery_digest(codes[0].upper().replace("-", " ")) == totp.recovery_digest(codes[0])


def test_a_secret_that_is_not_base32_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="base32"):
        totp.code_at("not base32!", 1)
