"""The text of API keys."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.api_key import digest, mint, prefix_of


@given(st.binary(min_size=32, max_size=32))
def test_a_minted_key_is_found_by_its_prefix_and_compared_by_its_digest(bits: bytes) -> None:
    key = mint(lambda n: bits[:n])
    assert prefix_of(key.text) == key.prefix
    assert key.sha256 == digest(key.text) == hashlib.sha256(key.text.encode()).hexdigest()
    assert len(key.text) == 4 + 10 + 1 + 40
    assert key.text not in repr((key.prefix, key.sha256))


def test_all_random_bits_of_the_secret_are_in_the_text() -> None:
    texts = set()
    for bit in range(25 * 8):
        secret = (1 << bit).to_bytes(25, "big")
        texts.add(mint(lambda n, secret=secret: secret if n == 25 else bytes(n)).text)
    assert len(texts) == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "psk_",
        "psk_abc_def",
        "sk_" + "a" * 10 + "_" + "a" * 40,
        "psk_" + "a" * 10 + "_" + "a" * 40 + "\n",
        "psk_" + "A" * 10 + "_" + "a" * 40,
        "psk_" + "a" * 10 + "_" + "a" * 41,
        "psk_" + "a" * 9 + "\x00_" + "a" * 40,
        "psk_" + "é" * 10 + "_" + "a" * 40,
    ],
)
def test_what_cannot_be_a_key_never_reaches_the_database(text: str) -> None:
    assert prefix_of(text) is None
