"""Other people's keys lie sealed in the cache, and the rest of it as it came."""

import orjson
import pytest

from penstock.gateway.cached_secrets import opened, sealed


def document(**upstream: str) -> bytes:
    return orjson.dumps({"version": 1, "models": [{"upstreams": [{"id": "a", **upstream}, {"id": "b"}]}]})


def test_a_key_is_sealed_and_opened_again() -> None:
    raw = document(api_key="sk-secret")
    kept = sealed(raw, "token")
    assert b"sk-secret" not in kept
    assert orjson.loads(kept)["models"][0]["upstreams"][0]["api_key"].startswith("sealed:")
    assert orjson.loads(opened(kept, "token")) == orjson.loads(raw)
    assert sealed(raw, "token") != kept  # another nonce each time


def test_another_token_opens_nothing() -> None:
    with pytest.raises(ValueError, match="another token"):
        opened(sealed(document(api_key="sk-secret"), "token"), "other")


def test_a_document_without_keys_stays_byte_for_byte() -> None:
    raw = b'{ "version": 1, "models": [] }'
    assert sealed(raw, "token") is raw
    assert opened(raw, "token") is raw
