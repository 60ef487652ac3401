"""Addresses of servers elsewhere: which may be named, and which not."""

import ipaddress
from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.drivers.openai_compatible.config import PeerConfig, check_url

INSIDE = (ipaddress.ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com/v1", ()),
        ("https://8.8.8.8:8443/openai", ()),
        ("https://10.1.1.1/v1", INSIDE),
        ("http://10.1.1.1:8080", INSIDE),
        ("http://llama.internal:8080/v1", INSIDE),
    ],
)
def test_what_may_be_named(url: str, allowed: Any) -> None:
    assert check_url(url, allowed) == url


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://api.example.com/v1", ()),
        ("http://8.8.8.8/v1", INSIDE),
        ("https://10.1.1.1/v1", ()),
        ("https://127.0.0.1/v1", INSIDE),
        ("https://[::1]/v1", INSIDE),
        ("https://169.254.169.254/latest", ()),
        ("https://user:secret@example.com/v1", ()),
        ("https://example.com/v1?key=secret", ()),
        ("https://example.com/v1#x", ()),
        ("https://exa mple.com/", ()),
        ("https://example.com:99999/", ()),
        ("ftp://example.com/", ()),
        ("https:///v1", ()),
        ("https://" + "a" * 2_000 + ".com", ()),
    ],
)
def test_what_may_not(url: str, allowed: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_url(url, allowed, "spec.urls.0")
    assert caught.value.field == "spec.urls.0"
    assert "secret" not in caught.value.sentence or "as a secret" in caught.value.sentence


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": 3}, "url"),
        ({"served_model_name": ""}, "served_model_name"),
        ({"secret": 3}, "secret"),
        ({"slots": -1}, "slots"),
        ({"slots": True}, "slots"),
        ({"more": 1}, "more"),
    ],
)
def test_the_wrong_field_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        PeerConfig.parse({"url": "https://example.com/v1", "served_model_name": "m", **change})
    assert caught.value.field == field


def test_the_base_ends_with_the_version() -> None:
    assert PeerConfig("https://h", "m").base == "https://h/v1"
    assert PeerConfig("https://h/x/v1/", "m").base == "https://h/x/v1"
