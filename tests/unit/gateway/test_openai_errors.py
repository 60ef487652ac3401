"""Errors have OpenAI's shape, say what to do, and cannot smuggle headers."""

import json

import pytest

from penstock.gateway import openai_errors as errors
from penstock.gateway.openai_errors import ApiError

ALL = [
    errors.bad_request("x", param="n"),
    errors.malformed(),
    errors.head_too_large(),
    errors.body_too_large(10),
    errors.too_slow(),
    errors.too_many_pipelined(),
    errors.internal(),
    errors.no_route('/a"\r\nb'),
    errors.wrong_method("POST"),
    errors.missing_key(),
    errors.invalid_key(),
    errors.missing_scope(),
    errors.model_not_found("m\r\n" * 500),
    errors.rate_limited("x", kind="tokens", retry_after_seconds=3, headers=b"a: b\r\n"),
    errors.over_token_limit("x"),
    errors.insufficient_quota("x"),
    errors.unavailable("c", "x"),
    errors.engine_failed("c", "x"),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.code)
def test_every_error_has_the_shape(error: ApiError) -> None:
    body = json.loads(error.body())
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"] == error.message == str(error)
    assert 400 <= error.status < 600
    assert len(error.message) < 500
    assert error.headers == b"" or error.headers.endswith(b"\r\n")
    assert error.headers.count(b"\r\n") == error.headers.count(b": ")
    assert error.event() == b"data: " + error.body() + b"\n\n"


def test_what_may_work_later_says_when() -> None:
    for error in ALL:
        if error.status in (429, 503):
            assert b"retry-after: " in error.headers or b"x-should-retry: false" in error.headers
