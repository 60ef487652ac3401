"""The text of a join token: taken apart as it was put together, and nothing else is one."""

import os

import pytest

from penstock.base.ids import new_id
from penstock.domain.join_token import mint, parse
from tests.fixtures.factory import START

CA = "0123456789abcdef" * 4
TOKEN = mint(new_id("join_token", START), CA, bytes)


def test_text_comes_back_as_it_went_in() -> None:
    assert TOKEN.text.startswith("pjt_")
    assert parse(f" {TOKEN.text}\n") == TOKEN
    assert len(TOKEN.secret_sha256) == 64


def test_two_tokens_differ_in_their_secret() -> None:
    first, second = (mint(TOKEN.token_id, CA, os.urandom) for _ in range(2))
    assert first.secret != second.secret
    assert first.secret_sha256 != second.secret_sha256


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pjt_",
        TOKEN.text[:-1],
        TOKEN.text + "0",
        TOKEN.text.upper(),
        TOKEN.text.replace("pjt_", "psk_"),
        TOKEN.text.replace(".", "-"),
        TOKEN.text.replace(CA, "g" * 64),
    ],
)
def test_what_is_no_token_is_none(text: str) -> None:
    assert parse(text) is None
