"""What cannot be stored is refused by the name of its field, wherever it stands in a request."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.api.storable import check_storable
from penstock.base import limits
from penstock.base.errors import InvalidInputError


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"name": "a\x00b"}, "name"),
        ({"spec": {"tags": ["fine", "\x00"]}}, "spec.tags.1"),
        ({"spec": {"\x00": 1}}, "spec"),
        ({"name": "\ud800"}, "name"),
        ({"limit": 1 << 63}, "limit"),
        ({"limit": -(1 << 63) - 1}, "limit"),
        ({"spec": {"price": float("nan")}}, "spec.price"),
        ({"spec": {"price": float("inf")}}, "spec.price"),
        ({"\x00": 1}, None),
    ],
)
def test_the_field_is_named(value: Any, field: str | None) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_storable(value)
    assert caught.value.field == field
    assert "\x00" not in caught.value.sentence


@pytest.mark.parametrize(
    "value",
    [{"a": "käse \U0001f9c0"}, {"a": (1 << 63) - 1}, {"a": -(1 << 63)}, {"a": [None, True, 1.5]}, "", []],
)
def test_what_can_be_stored_passes(value: Any) -> None:
    check_storable(value)


def test_depth_has_a_limit() -> None:
    check_storable(nested(limits.JSON_DEPTH_MAX))
    with pytest.raises(InvalidInputError, match="nested deeper"):
        check_storable(nested(limits.JSON_DEPTH_MAX + 1))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"offer": "gpu\\u0000", "project": "x"}', "offer"),
        (b'{"offer": "gpu", "project": "x", "spec": {"count": 99999999999999999999}}', "spec.count"),
        (b'{"offer": "gpu", "project": "x", "spec": {"device_class": "\\ud800"}}', "spec.device_class"),
        (b'{"offer": "gpu", "project": "x", "spec": {"count": NaN}}', "spec.count"),
        (b'{"offer": "gpu", "project": "x", "spec": ' + b'{"a":' * 40 + b"1" + b"}" * 41, None),
        (b"[" * 200_000, None),
        (b"\xff\xfe", None),
        (b'{"offer": ' + b"9" * 5_000 + b"}", None),
        (b"", None),
        (b"[]", None),
        (b"null", None),
    ],
)
def test_a_hostile_body_is_refused_with_422(tenant: TestClient, body: bytes, field: str | None) -> None:
    answer = tenant.post("/v1/services", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["code"] == "invalid_input"
    if field is not None:
        assert error["field"] == field
    assert tenant.get("/v1/services").json()["items"] == []


def test_nul_in_a_path_or_a_query_is_refused_by_name(tenant: TestClient) -> None:
    by_path = tenant.get("/v1/services/svc_%00")
    assert (by_path.status_code, by_path.json()["error"]["field"]) == (422, "service_id")
    by_query = tenant.get("/v1/services?name=%00")
    assert (by_query.status_code, by_query.json()["error"]["field"]) == (422, "name")
    by_state = tenant.get("/v1/services?project=ab%00")
    assert (by_state.status_code, by_state.json()["error"]["field"]) == (422, "project")
