"""Snapshots are taken whole or not at all, and the cache is whole and private."""

import stat
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.limits import Limits
from penstock.gateway.snapshot import SnapshotError, load_cache, parse_snapshot, parse_upstream, save_cache
from tests.support.gateway_peers import key_entry, model_entry


def document(**changes: Any) -> dict[str, Any]:
    return {
        "version": 3,
        "keys": [key_entry("sk-a", expires_at_us=5, requests_per_minute=7)],
        "tenants": [{"id": "ten_a", "tokens_left": 9}, {"id": "ten_b", "tokens_left": None}],
        "models": [model_entry("http://127.0.0.1:80")],
        **changes,
    }


def test_a_whole_document_is_understood_and_unknown_fields_are_left_alone() -> None:
    snapshot = parse_snapshot(document(more={"of": "later"}))
    assert snapshot.version == 3
    (key,) = snapshot.keys
    assert (key.id, key.scopes, key.expires_at_us, key.limits.requests_per_minute) == (
        "key_sk-a",
        {"llm"},
        5,
        7,
    )
    assert key.limits.tokens_per_minute is None
    assert snapshot.limits == {("tenant", "ten_a"): Limits(tokens_left=9)}
    (upstream,) = snapshot.models[0].upstreams
    assert (upstream.id, upstream.port, upstream.prefix, upstream.cancel) == ("alc_a", 80, "/v1", True)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"version": None}, "version"),
        ({"version": "3"}, "version"),
        ({"keys": None}, "keys must be a list"),
        ({"tenants": [{"id": "t", "weight": 0}]}, r"tenants\[0\].weight must be from 1 to 1000"),
        ({"tenants": [{"id": "t", "weight": 1_001}]}, r"tenants\[0\].weight must be from 1 to 1000"),
        ({"tenants": [{"id": "t", "weight": 1.5}]}, r"tenants\[0\].weight must be a whole number"),
        ({"keys": [7]}, r"keys\[0\]"),
        ({"keys": [key_entry("a"), key_entry("b", sha256="zz")]}, r"keys\[1\].sha256"),
        ({"keys": [key_entry("a", sha256="ab")]}, "64 digits"),
        ({"keys": [key_entry("a", tenant="")]}, "tenant"),
        ({"keys": [key_entry("a", scopes="llm")]}, "scopes"),
        ({"keys": [key_entry("a", scopes=[1])]}, "scopes"),
        ({"keys": [key_entry("a", requests_per_minute=True)]}, "requests_per_minute"),
        ({"tenants": [{"id": "t", "tokens_left": 1.5}]}, "tokens_left"),
        ({"keys": [key_entry("a", tokens_per_day=-1)]}, "must not be negative"),
        ({"projects": [{"id": "p"}]}, r"projects\[0\].tenant"),
        ({"models": [model_entry("http://x", prompt_microeur_per_million=-1)]}, "must not be negative"),
        ({"models": [model_entry("http://x", slo_ttft_ms=5, slo_percent=101)]}, "slo_percent"),
        ({"models": [model_entry("ftp://x")]}, "url"),
        *(
            (
                {
                    "models": [
                        model_entry("http://x", upstreams=[{"id": "a", "url": url, "server_name": name}])
                    ]
                },
                place,
            )
            for url, name, place in (
                ("https://x", "", "server_name"),
                ("https://x", "a b", "server_name"),
                ("https://x", 7, "server_name"),
                ("https://x", "x" * 64, "server_name"),
                ("http://x", "a.b", "of an https URL"),
            )
        ),
        ({"models": [model_entry("http://x:99999")]}, "url"),
        ({"models": [model_entry("http://x/\r\nevil: 1")]}, "url"),
        ({"models": [model_entry("http://x", name=None)]}, "name"),
        ({"models": [model_entry("http://x", upstreams=None)]}, "upstreams"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(SnapshotError, match=place):
        parse_snapshot(document(**changes))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x) | st.dictionaries(st.sampled_from(["version", "keys", "models", "tenants", "id"]), x)
        ),
    )
)
def test_any_document_is_taken_or_refused(value: Any) -> None:
    try:
        parse_snapshot(value)
    except SnapshotError as error:
        assert str(error)  # noqa: PT017 - it may also be taken


@pytest.mark.parametrize(
    ("url", "port", "tls", "prefix"),
    [
        ("http://h", 80, False, "/v1"),
        ("https://h/", 443, True, "/v1"),
        ("http://h:8000/v1", 8000, False, "/v1"),
        ("http://h:8000/api/v1/", 8000, False, "/api/v1"),
        ("http://h/api", 80, False, "/api/v1"),
    ],
)
def test_addresses_of_engines(url: str, port: int, *, tls: bool, prefix: str) -> None:
    entry = parse_upstream({"id": "a", "url": url, "api_key": "secret"}, "u")
    assert (entry.port, entry.tls, entry.prefix, entry.authorization) == (port, tls, prefix, "Bearer secret")


def test_an_engines_key_cannot_smuggle_headers() -> None:
    with pytest.raises(SnapshotError, match="api_key"):
        parse_upstream({"id": "a", "url": "http://h", "api_key": "x\r\ny: z"}, "u")


def test_the_cache_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    assert load_cache(path) is None
    save_cache(path, orjson.dumps(document()))
    save_cache(path, orjson.dumps(document(version=4)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load_cache(path)
    assert loaded is not None
    assert loaded.version == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot.json"]
    path.write_text("{half")
    with pytest.raises(SnapshotError, match="not JSON"):
        load_cache(path)


def test_an_engine_behind_a_relay_has_the_name_it_is_asked_for_by() -> None:
    name = "alc-1.agt-1.agents.penstock.internal"
    entry = parse_upstream({"id": "a", "url": "https://10.0.0.17:7073", "server_name": name}, "u")
    assert (entry.host, entry.port, entry.tls, entry.server_name) == ("10.0.0.17", 7073, True, name)
    assert parse_upstream({"id": "a", "url": "https://x"}, "u").server_name is None
