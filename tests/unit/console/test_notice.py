"""Sentences for the next page, and the addresses a log-in may lead to."""

import base64

import pytest
from starlette.requests import Request
from starlette.responses import Response

from penstock.base.errors import InvalidInputError
from penstock.console.names import checked_email, checked_name
from penstock.console.notice import COOKIE, leave_notice, take_notice
from penstock.console.paths import next_page
from penstock.console.price_book import microeur


def request(cookie: str = "") -> Request:
    headers = [(b"cookie", f"{COOKIE}={cookie}".encode())] if cookie else []
    return Request({"type": "http", "headers": headers})


def test_a_notice_travels_in_a_cookie_and_is_cut_to_size() -> None:
    response = Response()
    leave_notice(response, "ü" * 5_000)
    value = response.headers["set-cookie"].split("=", 1)[1].split(";")[0].strip('"')
    assert take_notice(request(value)) == "ü" * 500
    assert take_notice(request()) is None


@pytest.mark.parametrize("value", ["%%%", "AAA", base64.urlsafe_b64encode(b"\xff\xfe").decode()])
def test_a_cookie_that_is_not_ours_says_nothing(value: str) -> None:
    assert take_notice(request(value)) is None


@pytest.mark.parametrize("path", ["/", "/services/x?show=over", "/a%20b"])
def test_pages_of_the_console_are_gone_to(path: str) -> None:
    assert next_page(path) == path


@pytest.mark.parametrize("path", ["", "x", "//host", "/\\host", "https://host", "/login", "/a\r\nx", "/\tx"])
def test_other_places_are_not(path: str) -> None:
    assert next_page(path) == "/"


@pytest.mark.parametrize(
    ("text", "amount"), [("2.50", 2_500_000), ("2,5", 2_500_000), ("0", 0), ("0.000001", 1)]
)
def test_prices_are_typed_in_euro(text: str, amount: int) -> None:
    assert microeur(text) == amount


@pytest.mark.parametrize("text", ["", "x", "-1", "0.0000001", "NaN", "Infinity", "1e9"])
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        microeur(text)
    assert caught.value.field == "price"


def test_names_and_addresses_follow_the_rule_of_the_api() -> None:
    assert checked_name("a-1") == "a-1"
    assert checked_email("ada@example.org") == "ada@example.org"
    for name in ("", "A", "-a", "a-", "a b", "a" * 64, "\u0661"):
        with pytest.raises(InvalidInputError):
            checked_name(name)
    for email in ("", "ada", "a@", "@b", "a b@c", "a@b@c"):
        with pytest.raises(InvalidInputError):
            checked_email(email)
