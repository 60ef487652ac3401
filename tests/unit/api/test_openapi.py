"""The OpenAPI document says of every operation how a caller identifies, as the API in fact behaves."""

import json
from typing import Any, cast

import pytest

from penstock.api.openapi import OPEN, text


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(text()))


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, one) for path, methods in document["paths"].items() for method, one in methods.items()
    ]


def test_only_what_is_listed_as_open_needs_no_credential(document: dict[str, Any]) -> None:
    free = {(path, method) for path, method, one in operations(document) if one["security"] == []}
    assert {path for path, _ in free} <= set(OPEN)
    assert ("/v1/sessions", "post") in free
    assert all(method == "post" for path, method in free if path == "/v1/sessions")


def test_gateways_have_their_token_and_everybody_else_a_key(document: dict[str, Any]) -> None:
    for path, method, one in operations(document):
        named = {scheme for alternative in one["security"] for scheme in alternative}
        expected = {"gatewayToken"} if path.startswith("/internal/") else {"apiKey"}
        assert named in (set(), expected), f"{method} {path}"
    assert set(document["components"]["securitySchemes"]) == {"apiKey", "gatewayToken"}


def test_the_text_is_the_same_each_time_and_ends_with_a_newline() -> None:
    assert text() == text()
    assert text().endswith("}\n")


def test_no_two_operations_share_an_id(document: dict[str, Any]) -> None:
    ids = [one["operationId"] for _, _, one in operations(document)]
    assert len(ids) == len(set(ids))
